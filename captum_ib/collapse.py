"""When a bottleneck's map says nothing: it kept (almost) no information, or (almost) all of it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

__all__ = [
    "EVERYTHING",
    "FLOOR_BITS",
    "NOTHING",
    "Collapse",
    "CollapsedMapWarning",
    "collapses_of",
    "is_collapsed",
    "warn_if_collapsed",
]

FLOOR_BITS = 1.0
"""A position with less than one bit can't tell two states of the picture apart."""
NOTHING = 0.005
"""The strongest position keeps less than this share of the information it could pass. At a common
damping ratio λ the share is about λ²/5 (a normalised activation starts at 5 nats per element, where
λ = 0.993), so this is λ < 0.16 everywhere. Measured on 64 scenes: docs/figures.md."""
EVERYTHING = 0.9
"""More than this share of the information that the start of the fit passes is still there."""

Kind = Literal["nothing", "everything"]


class CollapsedMapWarning(UserWarning):
    """A bottleneck kept nothing or everything, so its map shows no selection."""


@dataclass(frozen=True)
class Collapse:
    """Why a map says nothing.

    Attributes:
        kind: what the fit kept: ``"nothing"`` or ``"everything"``.
        bits: sum of the map.
        peak: its largest value, in bits.
    """

    kind: Kind
    bits: float
    peak: float

    @property
    def mend(self) -> str:
        """What to try next."""
        if self.kind == "everything":
            return "raise beta by factors of ten, or take more steps (n_steps)"
        return (
            'take an earlier layer ("auto" takes the depth that did best), or lower beta by '
            "factors of ten"
        )

    def __str__(self) -> str:
        """What happened, in a few words."""
        if self.kind == "everything":
            return f"kept everything: {self.bits:.3g} bits, nearly all that the layer holds"
        return f"kept nothing: {self.peak:.2g} bits at most in one place"


def collapses_of(attribution: Tensor, trace: Any = None) -> list[Collapse | None]:
    """Whether the maps of a call collapsed, and how.

    Without a trace only the map can be asked: it collapsed when no position reaches
    :data:`FLOOR_BITS`. In wide layers a bottleneck that lets nothing through still leaves some bits
    in every position, so the trace makes the answer sure: the share of the start's information
    that is left, at the strongest position (:data:`NOTHING`) and in all (:data:`EVERYTHING`).

    Args:
        attribution: ``(N, 1, h, w)`` or ``(N, T)``, in bits, summed over channels.
        trace: what ``attribute(return_trace=True)`` returned beside it, or ``None``.

    Returns:
        One entry per sample; ``None`` where the map selects.

    Raises:
        TypeError: the attribution is no tensor.
        ValueError: it holds negative values, NaN or inf, or is empty, so it is not in bits; the
            trace is of other samples, or of a single step.

    >>> [found and found.kind for found in collapses_of(torch.tensor([[0.1, 0.2], [0.0, 9.0]]))]
    ['nothing', None]
    """
    bits = _checked(attribution)
    totals, peaks = bits.sum(dim=1), bits.amax(dim=1)
    kept = _kept(trace, len(bits))
    found: list[Collapse | None] = []
    for row, (total, peak) in enumerate(zip(totals.tolist(), peaks.tolist(), strict=True)):
        kind = _kind(total, peak, peak * bits.shape[1] / total if total else 0.0, kept[row])
        found.append(None if kind is None else Collapse(kind, total, peak))
    return found


def is_collapsed(attribution: Tensor, trace: Any = None) -> Tensor:
    """Which samples' maps kept nothing or everything, ``(N,)`` bool; see :func:`collapses_of`.

    >>> is_collapsed(torch.tensor([[0.1, 0.2], [0.0, 9.0]])).tolist()
    [True, False]
    """
    return torch.tensor([found is not None for found in collapses_of(attribution, trace)])


def warn_if_collapsed(attribution: Tensor, trace: Any = None, *, name: str = "the method") -> bool:
    """One warning for all samples of a call whose maps collapsed; whether there was one.

    Args:
        attribution, trace: see :func:`collapses_of`.
        name: of the method, for the message.
    """
    found = collapses_of(attribution, trace)
    for kind in ("nothing", "everything"):
        rows = [row for row, one in enumerate(found) if one is not None and one.kind == kind]
        if rows:
            _warn(name, [one for one in found if one is not None and one.kind == kind], rows, found)
    return any(found)


def _warn(
    name: str, some: Sequence[Collapse], rows: Sequence[int], found: Sequence[Collapse | None]
) -> None:
    where = "" if len(found) == 1 else f" for {len(rows)} of {len(found)} samples ({_few(rows)})"
    warnings.warn(
        f"{name} {some[0]}{where}, so the map shows no selection; {some[0].mend}",
        CollapsedMapWarning,
        stacklevel=3,
    )


def _few(rows: Sequence[int]) -> str:
    return ", ".join(map(str, rows[:5])) + (", …" if len(rows) > 5 else "")


def _kind(total: float, peak: float, contrast: float, kept: float | None) -> Kind | None:
    """The rule, for one sample; ``contrast`` is the peak over the mean, ``kept`` a share."""
    if kept is not None and kept > EVERYTHING:
        return "everything"
    if peak < FLOOR_BITS or (kept is not None and kept * contrast < NOTHING):
        return "nothing"
    return None


def _kept(trace: Any, n: int) -> list[float | None]:
    """The share of the start's information that the end of the fit has, per sample."""
    if trace is None:
        return [None] * n
    first, last = trace.compression[0], trace.compression[-1]
    if len(trace.compression) < 2 or len(first) != n:
        raise ValueError(
            f"a trace of at least two steps and of {n} samples is needed, given one of "
            f"{len(trace.compression)} steps and {len(first)} samples"
        )
    # β = 0 has no compression to compare: whatever is left is everything.
    return torch.where(first > 0, last / first.clamp_min(1e-30), torch.ones_like(last)).tolist()


def _checked(attribution: Tensor) -> Tensor:
    if not isinstance(attribution, Tensor):
        raise TypeError(f"attribution must be a tensor, given {type(attribution).__name__}")
    if attribution.ndim < 2 or attribution.numel() == 0:
        raise ValueError(
            "attribution must have shape (N, 1, h, w) or (N, T), one row per sample, given "
            f"{tuple(attribution.shape)}"
        )
    bits = attribution.detach().double().cpu().flatten(1)
    if not bool(torch.isfinite(bits).all()) or bool((bits < 0).any()):
        raise ValueError("attribution is not in bits: it holds negative values, NaN or inf")
    return bits
