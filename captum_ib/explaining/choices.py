"""What can be chosen for a run, and the checks of it: methods, settings, device, dtype."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from captum_ib import methods
from captum_ib.loading.load import LoadedModel
from captum_ib.models.layers import CHOICES
from captum_ib.presets import preset_of, recommended_method

_KINDS = {
    ("classifier", False): "a classifier",
    ("classifier", True): "a classifier of texts",
    ("dual", False): "an image-text model",
    ("dual", True): "a sentence encoder",
    ("generator", False): "a model that answers",
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Choice:
    """A method and how it is run.

    Attributes:
        row: the method.
        layers: names of layers, none for the method's default, or ``"auto"`` or ``"paper"``.
        settings: keywords of its ``attribute``.
        free: whether β is the preset's recommended one, which may be changed for a map that
            collapses; what a person or a paper said is kept.
    """

    row: methods.MethodSpec
    layers: str | tuple[str, ...]
    settings: Mapping[str, Any]
    free: bool = False


def choose(
    loaded: LoadedModel,
    names: Sequence[str] = (),
    *,
    preset: str = "recommended",
    layers: Sequence[str] = (),
    given: Mapping[str, Any] | None = None,
) -> list[Choice]:
    """The methods with their layers and settings: what is given, else what the preset says.

    Args:
        loaded: the model.
        names: of methods; none for the one that is recommended for this kind of model.
        preset: ``"recommended"`` or ``"paper"``, see :mod:`captum_ib.presets`.
        layers: names of layers, or one of the words ``"auto"`` and ``"paper"``; none for the
            preset's. Methods that explain the input take none where others do.
        given: ``beta``, ``steps``, ``samples``, ``seed``; ``None`` stands for the default.

    Raises:
        ValueError: an unknown method or preset, a method that does not explain this kind of model,
            a setting or layers that no chosen method has.
    """
    rows = [methods.get(name) for name in dict.fromkeys(names)]
    rows = rows or [methods.get(recommended_method(loaded.kind, loaded.model))]
    check_methods(rows, loaded)
    settings = methods.settings_for(rows, given or {})
    word = layers[0] if len(layers) == 1 and layers[0] in CHOICES else None
    some = [row for row in rows if row.layers != "none"]
    if layers and word is None and not some:
        raise ValueError(
            f"{', '.join(row.name for row in rows)} explains the input and takes no layer"
        )
    choices: list[Choice] = []
    for row in rows:
        own = preset_of(row.name, preset, loaded.model)
        named = word or tuple(layers) or own.layers
        place = named if row in some else ()
        said = (given or {}).get("beta") is not None or preset != "recommended"
        free = "beta" in row.options and not said and not layers
        choices.append(Choice(row, place, {**own.settings, **settings[row.name]}, free))
    return choices


def check_methods(rows: Sequence[methods.MethodSpec], loaded: LoadedModel) -> None:
    """Refuse methods that don't explain this kind of model.

    Raises:
        ValueError: one does not; the message lists those that do.
    """
    for row in rows:
        if not row.explains(loaded.kind, texts=loaded.texts):
            others = methods.for_kind(loaded.kind, texts=loaded.texts)
            fitting = ", ".join(other.name for other in others)
            what = _KINDS[loaded.kind, loaded.texts]
            raise ValueError(f"{row.name} can't explain {what} ({loaded.name}); use: {fitting}")


def device_of(name: str) -> torch.device:
    """A device by its name, once a tensor was put there.

    Raises:
        ValueError: no such device, or none that works.
    """
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise ValueError(f"device {name!r} can't be used: {str(error).splitlines()[0]}") from error
    return device


def dtype_of(name: str) -> torch.dtype:
    """A floating-point type by its name.

    Raises:
        ValueError: not one of :data:`DTYPES`.

    >>> dtype_of("bfloat16")
    torch.bfloat16
    """
    if name not in DTYPES:
        raise ValueError(f"dtype {name!r} is not one of {', '.join(DTYPES)}")
    return DTYPES[name]
