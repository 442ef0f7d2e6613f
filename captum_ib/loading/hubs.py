"""What loading from hubs has in common: disk first, one line of why not, nothing pickled."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable
from typing import TypeVar

from PIL import Image

from captum_ib.loading.files import one_line
from captum_ib.loading.loaded import LoadedModel, ModelUnavailableError

T = TypeVar("T")
SIZES = ((47, 61), (61, 47))
"""Sizes of pictures to try preprocessing with."""


def from_disk_or_hub(name: str, read: Callable[[bool], T]) -> T:
    """``read(True)``, which must stay on disk; if that finds nothing, ``read(False)``.

    The hub's own client asks an unreachable hub again and again for 20 seconds and more, and logs
    each time; so a single request finds out first whether there is a hub to ask.

    Raises:
        ModelUnavailableError: not on disk, and not to be had from the hub.
    """
    from huggingface_hub import constants

    try:
        return read(True)
    except OSError:
        if constants.HF_HUB_OFFLINE:
            raise ModelUnavailableError(
                f"{name} is not on disk, and HF_HUB_OFFLINE forbids to fetch it"
            ) from None
    try:
        urllib.request.urlopen(constants.ENDPOINT, timeout=10).close()
    except urllib.error.HTTPError:
        pass  # the hub answers, if only to complain
    except OSError as error:
        raise ModelUnavailableError(
            f"{name} is not on disk, and {constants.ENDPOINT} can't be reached "
            f"({one_line(error)}): download the model where there is a network, or name a folder"
        ) from error
    try:
        return read(False)
    except OSError as error:
        raise unavailable(name, error) from error


def safetensors_file(
    repository: str, file: str, name: str, revision: str | None = None
) -> str | None:
    """Where a file of a hub repository lies on disk; fetched if need be.

    Args:
        repository: its id, maybe with ``@revision``.
        file: name in the repository.
        name: what errors call the model.
        revision: branch, tag or commit, before the one in ``repository``.

    Returns:
        The path; ``None`` when the repository has no such file.

    Raises:
        ModelUnavailableError: not on disk, and the hub can't be reached.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import EntryNotFoundError, LocalEntryNotFoundError

    repository, _, tagged = repository.partition("@")

    def fetch(local_only: bool) -> str | None:
        try:
            return hf_hub_download(
                repository, file, revision=revision or tagged or None, local_files_only=local_only
            )
        except LocalEntryNotFoundError:
            raise
        except EntryNotFoundError:
            return None

    return from_disk_or_hub(name, fetch)


def checked(loaded: LoadedModel) -> LoadedModel:
    """``loaded``, after seeing that its preprocessing gives the same shape for every picture.

    Raises:
        ValueError: it does not, or not an image of three channels.
    """
    tall, wide = (tuple(loaded.preprocess(Image.new("RGB", size)).shape) for size in SIZES)
    if not tall == wide == (3, *loaded.image_size):
        raise ValueError(
            f"{loaded.name}: preprocessing gives images of shapes {tall} and {wide}, but they must "
            f"all be {(3, *loaded.image_size)}; set one size in preprocessor_config.json"
        )
    return loaded


def pickled(name: str) -> str:
    """What to say about weights that would have to be unpickled."""
    return (
        f"{name} has pickled weights only, and unpickling can execute code; pass allow_pickle=True "
        "(--allow-pickle) if you trust the source"
    )


def unavailable(name: str, error: BaseException) -> ModelUnavailableError:
    """The error for a hub model that could not be fetched, with the hub's own reason."""
    return ModelUnavailableError(f"{name} could not be fetched from the hub: {one_line(error)}")
