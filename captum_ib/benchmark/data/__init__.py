"""Samples of a run, read one by one: nothing but paths and offsets is held in memory."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from captum_ib.benchmark.data.samples import Dataset, Sample, UnreadableSampleError

if TYPE_CHECKING:
    from captum_ib.benchmark.config import DataConfig
    from captum_ib.loading.load import LoadedModel

__all__ = ["Dataset", "Sample", "UnreadableSampleError", "open_data"]


def open_data(config: DataConfig, loaded: LoadedModel) -> Dataset:
    """The samples that a run names, for the model it names.

    Two options of all kinds but scenes: ``shuffle``, the seed of the order (default 0, so that the
    first samples are a fair draw; of a table ``None``: as they are), and ``max_pixels``: larger
    images are refused.

    Args:
        config: kind, path and options.
        loaded: the model; it says whether samples need a class or a caption, and what its classes
            are called.

    Returns:
        A data set whose samples are read when asked for.

    Raises:
        FileNotFoundError: there is nothing at the path.
        ValueError: the data as a whole can't be used: no samples, a missing column, an id that is
            there twice, classes that the model does not know. What is wrong with a single sample
            shows when it is read.

    >>> from captum_ib import load
    >>> from captum_ib.benchmark import DataConfig
    >>> scenes = open_data(DataConfig("scenes"), load("clip-scenes"))
    >>> scenes.id(0), scenes.read(0).words
    ('scene-1000003-0', (...))
    """
    home = import_module(f"captum_ib.benchmark.data.{config.kind}")
    return home.open_dataset(config, loaded)
