"""The towers of :mod:`captum_ib.models.imagebind`: image, text, audio, depth, thermal, motion."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from captum_ib.layout import TokenLayout
from captum_ib.models.clip import up_to_end
from captum_ib.models.tower import Tower, named_blocks

NAMES = {
    "image": "vision",
    "text": "text",
    "audio": "audio",
    "depth": "depth",
    "thermal": "thermal",
    "imu": "imu",
}
"""The towers' names, and ImageBind's own."""


class ImageBindTower(Tower):
    """One modality of an ImageBind.

    Inputs are ``(N, 3, H, W)`` for images, ids ``(N, T)`` for texts, ``(N, 1, mel bins, time)`` for
    audio (whose maps are time × mel bins), ``(N, 1, H, W)`` for depth (disparity) and thermal, and
    ``(N, channels, time)`` for the motion sensor.

    Args:
        model: an :class:`~captum_ib.models.imagebind.ImageBind`.
        name: of the tower.
    """

    def __init__(self, model: Any, name: str) -> None:
        self.modality = NAMES[name]
        blocks = named_blocks(model, f"modality_trunks.{self.modality}.blocks")
        super().__init__(name, model, blocks=blocks)

    def pooled(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """See :meth:`Tower.pooled`."""
        return self.module.encode(self.modality, inputs)  # type: ignore[operator]

    def tokens(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """See :meth:`Tower.tokens`."""
        return self.module.tokens(self.modality, inputs)  # type: ignore[operator]

    def token_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor | None:
        """See :meth:`Tower.token_mask`; of a text the tokens up to the end token."""
        return up_to_end(inputs, None) if self.modality == "text" else None

    def layout(
        self, layer: nn.Module, activation: Tensor, inputs: tuple[Tensor, ...], name: str
    ) -> TokenLayout:
        """See :meth:`Tower.layout`: the class token, then patches row by row or stretches."""
        trunk = getattr(self.module.config, self.modality)
        if self.modality == "text":
            return TokenLayout("sequence")
        if self.modality == "imu":
            return TokenLayout("sequence", prefix=1)
        # Mel bins are rows: one stretch of time, turned to (time, frequency) as CLAP's maps are.
        fold = 1 if self.modality == "audio" else None
        return TokenLayout("tokens", 1, trunk.grid, fold=fold)


def imagebind_towers(model: Any) -> list[Tower]:
    """The six towers of an ImageBind, image and text first."""
    return [ImageBindTower(model, name) for name in NAMES]
