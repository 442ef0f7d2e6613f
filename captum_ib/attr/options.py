"""Types of the keyword arguments that the bottleneck methods share, for type checkers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypedDict

from typing_extensions import Unpack

from captum_ib.attr.base import Auto
from captum_ib.checks import BatchSize
from captum_ib.forward import Objective
from captum_ib.layout import TokenLayout

__all__ = [
    "CAM2IBOptions",
    "CoIBAOptions",
    "CoM2IBOptions",
    "IBAOptions",
    "M2IBOptions",
    "NIBOptions",
    "PerTower",
    "Unpack",
]

PerTower = float | tuple[float, float]


class _FitOptions(TypedDict, total=False):
    n_steps: int
    n_samples: int
    antithetic: bool
    lr: float
    min_std: float
    internal_batch_size: BatchSize
    reduce: Literal["sum", "none"]
    seed: int | None
    replay: bool
    show_progress: bool


class IBAOptions(_FitOptions, total=False):
    """Keywords of ``IBA.attribute`` that don't change what it returns."""

    beta: float
    channel: Literal["elementwise", "uniform"]
    smoothing: float | Auto | None
    mask_inactive: bool | Auto
    objective: Objective
    layout: TokenLayout | None


class CoIBAOptions(_FitOptions, total=False):
    """Keywords of ``CoIBA.attribute`` that don't change what it returns."""

    beta: float | Sequence[float]
    compression: Literal["upper_bound", "layerwise"]
    damping: Literal["shared", "individual"]
    channel: Literal["uniform", "elementwise"]
    smoothing: float | Auto | None
    mask_inactive: bool | Auto
    objective: Objective
    layout: TokenLayout | Sequence[TokenLayout] | None


class M2IBOptions(_FitOptions, total=False):
    """Keywords of ``M2IB.attribute`` that don't change what it returns."""

    beta: PerTower
    prior: Literal["standard", "estimated"]
    variance: PerTower
    layout: Sequence[TokenLayout | None] | None


class CoM2IBOptions(M2IBOptions, total=False):
    """Keywords of ``CoM2IB.attribute`` that don't change what it returns."""

    channel: str | tuple[str, str]
    guidance: PerTower
    temperature: PerTower


class CAM2IBOptions(M2IBOptions, total=False):
    """Keywords of ``CAM2IB.attribute`` that don't change what it returns."""

    gamma: PerTower
    variant: Literal["tuned", "paper"]
    cross_attention: bool
    temperature: PerTower
    target_strength: PerTower
    guidance: PerTower
    attention_lr: PerTower
    residual: bool | tuple[bool, bool]
    queries: Literal["early", "layer"]
    keys: Literal["contributions", "tokens"]


class NIBOptions(TypedDict, total=False):
    """Keywords of ``NIB.attribute`` that don't change what it returns."""

    power: float
    layout: TokenLayout | None
    reduce: Literal["sum", "none"]
    replay: bool
    show_progress: bool
