"""What distinguishes the bottleneck methods: β, how λ is shared, what is compressed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from captum_ib.bottleneck import MIN_STD
from captum_ib.layout import TokenLayout


@dataclass(frozen=True)
class BottleneckSettings:
    """Settings of the bottlenecks of one fit.

    Attributes:
        beta: weight of the compression term; one per layer with ``compression="layerwise"``.
        channel: ``"elementwise"`` (one λ per element), ``"uniform"`` (one per position) or
            ``"auto"``: elementwise on grids, uniform on sequences.
        damping: ``"shared"`` by all layers or ``"individual"``.
        compression: ``"upper_bound"``: information at the first bottleneck (CoIBA eq. 8);
            ``"layerwise"``: mean over the layers (CoIBA eq. 4).
        smoothing: σ of the Gaussian over positions, in grid cells; ``None``: none; ``"auto"``: 1
            on convolutional feature maps.
        mask_inactive: leave dead neurons out of the information; ``"auto"``: on convolutional
            feature maps.
        min_std: lower bound of σ.
    """

    beta: float | Sequence[float]
    channel: str = "elementwise"
    damping: str = "shared"
    compression: str = "upper_bound"
    smoothing: float | str | None = None
    mask_inactive: bool | str = False
    min_std: float = MIN_STD

    def __post_init__(self) -> None:
        choices = {
            "channel": ("elementwise", "uniform", "auto"),
            "damping": ("shared", "individual"),
            "compression": ("upper_bound", "layerwise"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} must be one of {', '.join(allowed)}, given {getattr(self, name)!r}"
                )
        for beta in self.betas(1):
            if not 0 <= beta < float("inf"):
                raise ValueError(f"beta must be finite and not negative, given {beta}")
        if not self.min_std > 0:
            raise ValueError(f"min_std must be positive, given {self.min_std}")
        if isinstance(self.smoothing, str) and self.smoothing != "auto":
            raise ValueError(
                f'smoothing must be a number, None or "auto", given {self.smoothing!r}'
            )
        if isinstance(self.smoothing, (int, float)) and not self.smoothing > 0:
            raise ValueError(f"smoothing must be positive or None, given {self.smoothing}")
        if self.mask_inactive not in (True, False, "auto"):
            raise ValueError(
                f'mask_inactive must be True, False or "auto", given {self.mask_inactive!r}'
            )

    def resolved(self, layout: TokenLayout) -> BottleneckSettings:
        """With what ``"auto"`` means for a layer."""
        convolutional = layout.kind == "nchw"
        smoothing, mask = self.smoothing, self.mask_inactive
        channel = "elementwise" if layout.spatial else "uniform"
        return replace(
            self,
            smoothing=(1.0 if convolutional else None) if smoothing == "auto" else smoothing,
            mask_inactive=convolutional if mask == "auto" else mask,
            channel=channel if self.channel == "auto" else self.channel,
        )

    def betas(self, n_layers: int) -> list[float]:
        """β per layer."""
        if isinstance(self.beta, (int, float)):
            return [float(self.beta)] * n_layers
        return [float(value) for value in self.beta]
