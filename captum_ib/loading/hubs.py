"""What all loading has in common: disk first, one line of why not, nothing pickled, one shape."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Protocol, TypeVar

from PIL import Image
from safetensors import SafetensorError
from torch import Tensor, nn

from captum_ib.forward.output import states_multi_label
from captum_ib.loading.files import one_line
from captum_ib.loading.loaded import (
    LoadedModel,
    Modality,
    ModelUnavailableError,
    no_pictures,
    triple,
)

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


class Words(Protocol):
    """A tokenizer as :class:`captum_ib.loading.loaded.LoadedModel` speaks of it."""

    @property
    def special_tokens(self) -> frozenset[str]:
        """Words that stand for no text."""
        ...

    def __call__(self, texts: list[str], /) -> tuple[Tensor, Tensor | None]:
        """``input_ids`` and the mask."""
        ...

    def tokens(self, ids: Tensor, /) -> list[str]:
        """One row of ids as words."""
        ...


def wrapped(
    name: str,
    model: nn.Module,
    preprocess: Callable[[Image.Image], Tensor],
    image_size: tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
    *,
    labels: Sequence[str] | None = None,
    words: Words | None = None,
    left_out: tuple[str, ...] = (),
) -> LoadedModel:
    """A loaded model, after seeing that its preprocessing gives one shape for every picture.

    Args:
        name, model, preprocess, image_size, mean, std, labels, left_out: its attributes.
        words: the tokenizer of a dual encoder; ``None``: a classifier.

    Raises:
        ValueError: it does not, or not an image of three channels; a bad normalisation.
    """
    mean, std = triple(mean, "mean"), triple(std, "std")
    tall, wide = (tuple(preprocess(Image.new("RGB", size)).shape) for size in SIZES)
    if not tall == wide == (3, *image_size):
        raise ValueError(
            f"{name}: preprocessing gives images of shapes {tall} and {wide}, but they must "
            f"all be {(3, *image_size)}; set one size in preprocessor_config.json"
        )
    return LoadedModel(
        name=name,
        model=model.eval(),
        kind="classifier" if words is None else "dual",
        preprocess=preprocess,
        image_size=image_size,
        mean=mean,
        std=std,
        labels=None if labels is None else list(labels),
        tokenizer=words,
        tokens=None if words is None else words.tokens,
        special_tokens=frozenset() if words is None else words.special_tokens,
        modalities=("image",) if words is None else ("image", "text"),
        multi_label=states_multi_label(model),
        left_out=left_out,
    )


def of_texts(
    name: str,
    model: nn.Module,
    kind: Literal["classifier", "dual"],
    words: Words,
    *,
    labels: Sequence[str] | None = None,
    left_out: tuple[str, ...] = (),
    hear: Callable[[Any], Tensor] | None = None,
) -> LoadedModel:
    """A loaded model without pictures: of one text a classifier, of two a dual encoder.

    With ``hear``, the first of the two is a sound.
    """
    first: Modality = "text" if hear is None else "audio"
    return LoadedModel(
        name=name,
        model=model.eval(),
        kind=kind,
        preprocess=no_pictures,
        image_size=(0, 0),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        labels=None if labels is None else list(labels),
        tokenizer=words,
        tokens=words.tokens,
        special_tokens=words.special_tokens,
        modalities=("text",) if kind == "classifier" else (first, "text"),
        hear=hear,
        multi_label=states_multi_label(model),
        left_out=left_out,
    )


def as_shown(words: Sequence[str]) -> list[str]:
    """Words of a vocabulary without the marks of their boundaries."""
    return [word.replace("</w>", "").strip("Ġ▁") or word for word in words]


def pickled(name: str) -> str:
    """What to say about weights that would have to be unpickled."""
    return (
        f"{name} has pickled weights only, and unpickling can execute code; pass allow_pickle=True "
        "(--allow-pickle) if you trust the source"
    )


def unavailable(name: str, error: BaseException) -> ModelUnavailableError:
    """The error for a hub model that could not be fetched, with the hub's own reason."""
    return ModelUnavailableError(f"{name} could not be fetched from the hub: {one_line(error)}")


@contextmanager
def building(name: str) -> Iterator[None]:
    """Errors of a library that fetches a model and loads its weights, as ours.

    Raises:
        ModelUnavailableError: it can't be fetched.
        ValueError: the weights do not fit; timm and open_clip load strictly, or raise.
    """
    try:
        yield
    except OSError as error:
        raise unavailable(name, error) from error
    except (RuntimeError, SafetensorError) as error:
        message = f"{name}: the weights do not fit the model: {one_line(error)}"
        raise ValueError(message) from error
