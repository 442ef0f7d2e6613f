"""What can be chosen for a run, and the checks of it: methods, device, dtype."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from captum_ib import methods
from captum_ib.loading.load import LoadedModel

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
DEFAULT_METHOD = {"dual": "m2ib", "classifier": "coiba"}
"""Per kind of model, the method that is taken when none is named."""


def check_methods(rows: Sequence[methods.MethodSpec], loaded: LoadedModel) -> None:
    """Refuse methods that don't explain this kind of model.

    Raises:
        ValueError: one does not; the message lists those that do.
    """
    for row in rows:
        if loaded.kind not in row.takes:
            fitting = ", ".join(other.name for other in methods.for_kind(loaded.kind))
            what = "an image-text model" if loaded.kind == "dual" else "a classifier"
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
