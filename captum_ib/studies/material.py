"""What a study is given: a model, samples as it takes them, and a seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from captum_ib.benchmark.catalogue import METRICS
from captum_ib.benchmark.columns import Case
from captum_ib.benchmark.config import DataConfig, MethodConfig, MetricConfig
from captum_ib.benchmark.data import open_data
from captum_ib.benchmark.explainers import Maps, make_explainer
from captum_ib.benchmark.reader import Reader
from captum_ib.benchmark.subjects import Subjects, join
from captum_ib.explaining.choices import device_of, dtype_of
from captum_ib.loading.load import LoadedModel, load
from captum_ib.models.dual_encoder import DualEncoder


@dataclass(frozen=True)
class Material:
    """A model and samples.

    Attributes:
        loaded: the model as it was loaded: its labels, tokenizer, preprocessing.
        model: the same as it is explained: a classifier, or a ``DualEncoder``.
        batches: the samples, at most ``batch_size`` of one shape at once.
        seed: of all noise.
        reader: what made the samples; knows captions and blanks.
        tell: called with a line of progress.
        data: where the samples are from.
    """

    loaded: LoadedModel
    model: nn.Module
    batches: tuple[Subjects, ...]
    seed: int
    reader: Reader
    tell: Callable[[str], object]
    data: DataConfig

    def __len__(self) -> int:
        return sum(len(batch) for batch in self.batches)

    def explain(self, method: str, **settings: Any) -> list[Maps]:
        """Maps of a method, one entry per batch.

        Args:
            method: its name in the table of methods, or ``"random"``.
            settings: keywords of its constructor and of ``attribute``.

        Raises:
            ValueError: the method is not for this model; a setting it does not have.
        """
        line = MethodConfig(method=method, label=method, settings=settings)
        explainer = make_explainer(line, self.model)
        return [explainer(batch, self.seed) for batch in self.batches]

    def score(self, maps: Sequence[Maps], metric: str, **settings: Any) -> np.ndarray:
        """A metric's score of every sample, ``(N,)``; NaN where it has none.

        Args:
            maps: as :meth:`explain` gives them.
            metric: its name in the benchmark, such as ``"insdel"``.
            settings: of the metric.

        Raises:
            ValueError: no such metric, or one that explains other pictures again.
        """
        config = MetricConfig(metric=metric, label=metric, settings=settings)
        column = METRICS[metric].cls(config, self.reader)
        rows: list[dict[str, Any]] = [{} for _ in range(len(self))]
        start = 0
        for batch, of_batch in zip(self.batches, maps, strict=True):
            part = rows[start : start + len(batch)]
            column.fill(Case(batch, of_batch, _never), part)
            start += len(batch)
        found = (row[f"metric:{metric}"] for row in rows)
        return np.array([np.nan if value is None else value for value in found])


def _never(subjects: Subjects, model: nn.Module) -> Maps:
    raise ValueError("a study judges the maps it has: this metric explains other pictures again")


def gather(
    model: str,
    data: DataConfig,
    *,
    samples: int,
    batch_size: int = 8,
    seed: int = 0,
    device: str = "cpu",
    dtype: str = "float32",
    tell: Callable[[str], object] = lambda line: None,
) -> Material:
    """Load a model and read the first samples of the data.

    Raises:
        ValueError, OSError: the model or the data can't be used; a sample can't be read.
    """
    place, kind = device_of(device), dtype_of(dtype)
    loaded = load(model)
    explained: nn.Module = loaded.model.to(device=place, dtype=kind).eval()
    if loaded.kind == "dual":
        explained = DualEncoder.from_model(loaded.model)
    reader, dataset = Reader(loaded, explained, place, kind), open_data(data, loaded)
    # Captions are padded to full eights of tokens, so that a pair's shape is its own.
    shapes: dict[tuple[int, ...], list[Subjects]] = {}
    for index in range(min(samples, len(dataset))):
        subject, _ = reader(index, dataset.read(index))
        shapes.setdefault(tuple(subject.question.shape[1:]), []).append(subject)
    batches = tuple(
        join(group[start : start + batch_size])
        for group in shapes.values()
        for start in range(0, len(group), batch_size)
    )
    return Material(loaded, explained, batches, seed, reader, tell, data)
