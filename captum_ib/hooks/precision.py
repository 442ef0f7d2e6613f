"""How far two passes of one model may differ: by the precision that products are made in."""

from __future__ import annotations

from collections.abc import Iterable

import torch

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 2e-2}
"""Largest difference between a replayed and a plain pass, relative to the largest output: other
batch sizes take other kernels, a wrong replay is off by far more."""

TF32 = 1e-2
"""The same for float32 whose products are made in TF32, with ten bits of mantissa."""


def tolerance(dtypes: Iterable[torch.dtype], device: str) -> float:
    """The tolerance of the least precise of what a pass computes in.

    Args:
        dtypes: of the output and of the activations: a model may turn a bfloat16 output into
            float32 at last.
        device: type of the device, ``"cpu"`` or ``"cuda"``: its ``torch.autocast`` and TF32 count.

    >>> tolerance([torch.float32], "cpu"), tolerance([torch.float32, torch.bfloat16], "cpu")
    (0.001, 0.05)
    """
    found = [TOLERANCE.get(dtype, TOLERANCE[torch.float32]) for dtype in dtypes]
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        found.append(TOLERANCE.get(dtype, TOLERANCE[torch.float32]))
    if device == "cuda" and _tf32():
        found.append(TF32)
    return max(found)


def _tf32() -> bool:
    """Whether float32 matrix products may be made in TF32 or less."""
    matmul = torch.backends.cuda.matmul
    # Where torch has it, it follows the older settings, too; these can't be read beside it.
    precision = getattr(matmul, "fp32_precision", None)
    if precision is not None:
        return precision not in ("none", "ieee")
    return bool(matmul.allow_tf32) or torch.get_float32_matmul_precision() != "highest"
