"""Where the positions of an activation lie: tokens ↔ grid, class tokens, channels first or last."""

# torch does not type unflatten.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from captum_ib.axis import LAYOUTS, PLACES, SAMPLES, Axes, advice, shown
from captum_ib.evidence import declared_prefixes, grid_of_patches

KINDS = ("tokens", "sequence", "nchw", "nhwc", "ncdhw", "ndhwc", "ncl", "flat")


@dataclass(frozen=True)
class TokenLayout:
    """The axes of one layer's activation.

    Attributes:
        kind: ``"tokens"`` ``(N, prefix + h·w + suffix, C)``; ``"sequence"``
            ``(N, prefix + T + suffix, C)`` without a grid; ``"nchw"``, ``"nhwc"`` feature maps;
            ``"ncdhw"``, ``"ndhwc"`` those of volumes and videos; ``"ncl"`` ``(N, C, T)``;
            ``"flat"`` ``(N, C)``.
        prefix: leading tokens that are no patches (class, register, distillation tokens).
        grid: rows and columns of the patches, of a video (frames, rows, columns), of a volume
            (depth, rows, columns); required for ``"tokens"``.
        suffix: tokens behind them (a question behind an image, an appended class token).
        fold: the grid's rows hold so many stretches of one time axis below each other, each
            (frequency, time), as CLAP folds a spectrogram into a square; the map is unfolded to
            (time, frequency).

    >>> layout = TokenLayout("tokens", prefix=1, grid=(2, 3))
    >>> import torch
    >>> layout.attribution(torch.ones(4, 7, 5)).shape
    torch.Size([4, 1, 2, 3])
    """

    kind: str
    prefix: int = 0
    grid: tuple[int, int] | tuple[int, int, int] | None = None
    suffix: int = 0
    fold: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown layout {self.kind!r}, expected one of {', '.join(KINDS)}")
        if self.kind == "tokens" and self.grid is None:
            raise ValueError("layout 'tokens' needs grid=(rows, columns)")
        if self.grid is not None and len(self.grid) not in (2, 3):
            raise ValueError(
                f"grid must be (rows, columns) or (frames, rows, columns), given {self.grid}"
            )
        if self.prefix < 0 or (self.prefix and self.kind not in ("tokens", "sequence")):
            raise ValueError(f"layout {self.kind!r} can't have {self.prefix} prefix tokens")
        if self.suffix < 0 or (self.suffix and self.kind not in ("tokens", "sequence")):
            raise ValueError(f"layout {self.kind!r} can't have {self.suffix} suffix tokens")
        if self.fold is not None and not (self.spatial and self.fold > 0):
            raise ValueError(f"layout {self.kind!r} can't hold {self.fold} stretches of time")

    @property
    def ndim(self) -> int:
        """Axes of an activation with this layout."""
        return {"flat": 2, "nchw": 4, "nhwc": 4, "ncdhw": 5, "ndhwc": 5}.get(self.kind, 3)

    @property
    def channel_axis(self) -> int:
        """The axis that holds the channels."""
        return 1 if self.kind in ("nchw", "ncdhw", "ncl", "flat") else self.ndim - 1

    @property
    def spatial(self) -> bool:
        """Whether the positions form a grid of rows and columns."""
        return self.kind in ("tokens", "nchw", "nhwc") and not self.volume

    @property
    def volume(self) -> bool:
        """Whether they form one of depth (or time), rows and columns."""
        return self.kind in ("ncdhw", "ndhwc") or (self.grid is not None and len(self.grid) == 3)

    def check(self, activation: Tensor, layer: str) -> None:
        """Check that an activation has this layout.

        Raises:
            ValueError: when it has not.
        """
        shape = tuple(activation.shape)
        if activation.ndim != self.ndim:
            mend = "pass another layout" if len(shape) < 6 else advice(activation, ())
            raise ValueError(
                f"layout {self.kind!r} has {self.ndim} axes, the activation of layer {layer} has "
                f"shape {shape}; {mend}"
            )
        if self.kind == "tokens":
            expected = self.prefix + math.prod(self.grid or ()) + self.suffix
            if shape[1] != expected:
                raise ValueError(
                    f"the activation of layer {layer} has {shape[1]} tokens; the layout has "
                    f"{self.prefix} prefix tokens, a grid of {self.grid} and {self.suffix} tokens "
                    "behind it"
                )
        if self.fold is not None and self.grid_of(activation)[0] % self.fold:
            raise ValueError(
                f"the grid {self.grid_of(activation)} of layer {layer} does not hold {self.fold} "
                "stretches of time"
            )

    def check_against(self, axes: Axes, layer: str) -> None:
        """Check that a given layout agrees with what the operations of a pass show.

        Raises:
            ValueError: channels that lie on another axis, positions of another grid, or tokens in
                another order than row by row.
        """
        if len(axes) != self.ndim:
            return
        places = [place for place, axis in enumerate(axes) if axis and axis.role == "channels"]
        inner = axes[self.channel_axis]
        other = inner is not None and inner.role in PLACES
        if (places and self.channel_axis not in places) or other:
            raise ValueError(
                f"{self} has the channels of layer {layer} on axis {self.channel_axis}, but the "
                f"operations around it show {shown(axes)}; pass "
                f"{TokenLayout.of_axes(axes) or 'a layout that agrees, or none'}"
            )
        tokens = axes[1]
        if self.kind != "tokens" or tokens is None:
            return
        given = (self.grid, self.prefix, self.suffix)
        if tokens.grid is not None and given != (tokens.grid, tokens.prefix, tokens.suffix):
            raise ValueError(
                f"{self} disagrees with what the operations around layer {layer} show: "
                f"{TokenLayout.of_axes(axes) or shown(axes)}"
            )
        if tokens.parts and all(part is not None for part, _ in tokens.parts):
            raise ValueError(
                f"{self} has the tokens of layer {layer} row by row, but the operations around it "
                f"show another order ({shown(axes)}); explain another layer, or pass "
                "TokenLayout('sequence') and arrange the map by the model's own order"
            )

    def grid_of(self, activation: Tensor) -> tuple[int, int]:
        """Rows and columns of an activation's grid.

        Raises:
            ValueError: it has none, or that of a volume.
        """
        sides = self.sides(activation)
        if sides is None or len(sides) != 2:
            raise ValueError(f"layout {self.kind!r} has no grid of rows and columns")
        return sides[0], sides[1]

    def sides(self, activation: Tensor) -> tuple[int, ...] | None:
        """Sides of an activation's grid, two or of a volume three; ``None``: it has no grid."""
        if self.kind == "tokens":
            return self.grid
        if self.ndim < 4:
            return None
        start = 2 if self.channel_axis == 1 else 1
        return tuple(map(int, activation.shape[start : start + self.ndim - 2]))

    def tokens(self, activation: Tensor) -> Tensor:
        """Any layout → ``(N, positions, C)``, positions row by row after the prefix."""
        if self.kind == "flat":
            return activation.unsqueeze(1)
        moved = activation.movedim(self.channel_axis, -1)
        return moved.flatten(1, -2) if moved.ndim > 3 else moved

    def arrange(self, tokens: Tensor, grid: tuple[int, ...] | None = None) -> Tensor:
        """``(N, positions, C)`` → the axes of this layout; the inverse of :meth:`tokens`."""
        if self.kind == "flat":
            return tokens.squeeze(1)
        if self.ndim > 3:
            if grid is None:
                raise ValueError(f"arranging tokens as {self.kind!r} needs their grid")
            tokens = tokens.unflatten(1, grid)
        return tokens.movedim(-1, self.channel_axis)

    def attribution(self, values: Tensor) -> Tensor:
        """Layer-shaped values → what ``attribute`` returns: the sum over channels, by position.

        Grid ``(N, 1, h, w)`` without prefix and suffix tokens (a folded one: time, frequency),
        volume ``(N, 1, d, h, w)``, sequence ``(N, T)``, flat ``(N, C)``.
        """
        if self.kind == "flat":
            return values
        positions: Tensor = values.sum(dim=self.channel_axis)
        if self.kind == "tokens" and self.grid is not None:
            patches = positions[:, self.prefix : self.prefix + math.prod(self.grid)]
            positions = patches.unflatten(1, self.grid)
        if self.kind == "sequence":
            positions = positions[:, self.prefix : positions.shape[1] - self.suffix]
        if self.fold is not None:
            stretches: Tensor = positions.unflatten(1, (self.fold, -1))
            positions = stretches.transpose(2, 3).flatten(1, 2)
        return positions.unsqueeze(1) if self.spatial or self.volume else positions

    def uniform_shape(self, activation: Tensor) -> tuple[int, ...]:
        """Shape of a damping ratio that is the same for all channels."""
        shape = list(activation.shape)
        if self.kind != "flat":
            shape[self.channel_axis] = 1
        return tuple(shape)

    @staticmethod
    def infer(
        model: nn.Module | None,
        layer: nn.Module,
        activation: Tensor,
        inputs: tuple[Tensor, ...],
        name: str = "",
        axes: Axes = (),
    ) -> TokenLayout:
        """Find the layout of ``layer``'s activation.

        What the operations of a pass say of its axes goes first. Where they say that tokens hold
        channels last, but not where these lie, the model's own statements count: patch size and
        number of prefix tokens.

        Args:
            model: the whole model, where known: its patch size and prefix tokens.
            layer: the layer that the activation belongs to.
            activation: ``(N, …)``.
            inputs: what the model was called with; the image's size gives the grid.
            name: the layer's name, for the message.
            axes: what its axes hold, as far as a pass with
                :class:`~captum_ib.hooks.AxisTracker` shows.

        Raises:
            ValueError: when it can't tell, with what to pass as ``layout=``.
        """
        found = TokenLayout.of_axes(axes) or _declared(model, activation, inputs, axes)
        if found is None:
            known = shown(axes) or "nothing"
            raise ValueError(
                f"can't tell the layout of layer {name or type(layer).__name__}: its activation "
                f"has shape {tuple(activation.shape)}, and the operations around it show of its "
                f"axes: {known}; {advice(activation, axes)}"
            )
        found.check(activation, name)
        return found

    @staticmethod
    def of_axes(axes: Axes) -> TokenLayout | None:
        """The layout that the axes of an activation show, where they show one.

        >>> from captum_ib.axis import Axis
        >>> N, C, P = Axis("samples"), Axis("channels"), Axis("positions", (2, 3), prefix=1)
        >>> TokenLayout.of_axes((N, P, C))
        TokenLayout(kind='tokens', prefix=1, grid=(2, 3), suffix=0, fold=None)
        """
        roles: tuple[str | None, ...] = tuple(axis.role if axis else None for axis in axes)
        if not roles or roles[0] not in SAMPLES:
            return None
        if roles[1:] in LAYOUTS and not any(axis and axis.grid for axis in axes):
            return TokenLayout(LAYOUTS[roles[1:]])
        if roles[1:] != ("positions", "channels"):
            return None
        tokens = axes[1]
        if tokens is None or tokens.grid is None:
            return TokenLayout("sequence")
        grid = cast("tuple[int, int] | tuple[int, int, int]", tokens.grid)
        return TokenLayout("tokens", tokens.prefix, grid, tokens.suffix)


def _declared(
    model: nn.Module | None, activation: Tensor, inputs: tuple[Tensor, ...], axes: Axes
) -> TokenLayout | None:
    """By what the model says of its patches; only for tokens whose channels are last."""
    if activation.ndim == 2:
        return TokenLayout("flat")
    roles = [axis.role if axis else None for axis in axes] or [None, None, "channels"]
    if activation.ndim != 3 or roles[1:] != [None, "channels"] or roles[0] not in SAMPLES:
        return None
    image = next((value for value in inputs if value.ndim == 4), None)
    if image is None:
        return TokenLayout("sequence")
    return _token_grid(model, int(activation.shape[1]), (int(image.shape[2]), int(image.shape[3])))


def _token_grid(model: nn.Module | None, tokens: int, image: tuple[int, int]) -> TokenLayout | None:
    if model is None:
        return None
    for prefix in dict.fromkeys([*declared_prefixes(model), 0]):
        grid = grid_of_patches(model, tokens - prefix, image)
        if grid is not None:
            return TokenLayout("tokens", prefix, grid)
    return None
