"""What the attention methods share: maps with gradients, the rows that are read, maps per token."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

from captum_ib.axis import Axis
from captum_ib.baselines._recorder import AttentionLayer, AttentionRecorder, Transform
from captum_ib.baselines._samples import as_map
from captum_ib.baselines._windows import Windows, follow_windows, refined, windows_of
from captum_ib.checks import require_finite
from captum_ib.forward import Call, TowerCall, layout_of
from captum_ib.hooks import AxisTracker, borrowed, roots
from captum_ib.layout import TokenLayout

Readout = int | Tensor | None


@dataclass(frozen=True)
class AttentionMaps:
    """Attention of one call, with the gradients of the explained output.

    Attributes:
        call: the inputs, and what is explained.
        probabilities: per layer ``(N, heads, T, T)``, float32, detached; of attention in windows
            ``(N · windows, heads, T, T)``, T the tokens of a window.
        gradients: of the output with respect to them; the same shapes.
        layers: what the recorder saw of each layer, also of those before :attr:`start`.
        positions: where the tokens lie, as far as the operations of the pass show.
        mixed: per layer the gradient with respect to the joined heads ahead of their projection,
            ``(N, T, heads · d)``; empty unless asked for.
        start: index of the first of the layers among the model's attentions.
        windowed: whether attention is within windows, or the stages' resolutions differ.
    """

    call: Call
    probabilities: list[Tensor]
    gradients: list[Tensor]
    layers: list[AttentionLayer]
    positions: Axis | None = None
    mixed: list[Tensor] = field(default_factory=list[Tensor])
    start: int = 0
    windowed: bool = False

    @cached_property
    def windows(self) -> list[Windows]:
        """Of each layer, where attention is :attr:`windowed`; costs one more pass.

        Raises:
            ValueError: they can't be told.
        """
        return windows_of(self.call, self.layers)[self.start :]

    def through(self, rows: Tensor, matrices: list[Tensor]) -> Tensor:
        """``rows · (I + M_L) · … · (I + M_1)``, rows ``(N, R, T)`` of the last layer's tokens.

        Args:
            rows: weights of tokens.
            matrices: one per layer, shaped as :attr:`probabilities` without their heads.
        """
        if self.windowed:
            return follow_windows(rows, matrices, self.windows)
        for matrix in reversed(matrices):
            rows = rows + rows @ matrix
        return rows

    def between_all(self, matrix: Tensor) -> Tensor:
        """A matrix of the last layer, without heads, between all its tokens: ``(N, T, T)``."""
        if not self.windowed:
            return matrix
        own = self.windows[-1]
        eye = torch.eye(own.size, device=matrix.device, dtype=matrix.dtype)
        return own.follow(eye.expand(self.call.n, -1, -1), matrix)

    def at_first(self, values: Tensor) -> Tensor:
        """Values of the last layer's tokens ``(…, T)`` at the first layer's."""
        if not self.windowed:
            return values
        for later, earlier in zip(self.windows[:0:-1], self.windows[-2::-1], strict=True):
            values = refined(values, later.grid, earlier.grid, share=False)
        return values

    def readout(self, readout: Readout) -> Tensor:
        """Weights ``(N, T)`` of the tokens that the output is read from.

        ``None``: the tokens that the output depends on behind the last attention, in equal parts:
        the class token, the end token, or all patches of a model with mean pooling. Their rows of
        the last map have a gradient, all other rows have exactly none.

        Raises:
            TypeError: neither an int nor a tensor of ints.
            ValueError: an index that is out of range, or no row with a gradient.
        """
        last = self.gradients[-1]
        used = (last != 0).any(dim=-1).any(dim=1).float()
        if self.windowed:
            used = self.windows[-1].join(used.unflatten(0, (self.call.n, -1)))
        n, tokens = used.shape
        if readout is None:
            if not bool((used.sum(dim=1) > 0).all()):
                raise ValueError(
                    "the output of at least one sample has no gradient at the last attention map, "
                    "so the tokens it is read from are unknown; pass readout= (0: the class token)"
                )
            return used / used.sum(dim=1, keepdim=True)
        index = torch.as_tensor(readout, device=last.device)
        if index.is_floating_point() or index.dtype == torch.bool:
            raise TypeError(f"readout must be an int or a tensor of ints, given {readout!r}")
        index = index.expand(n) if index.ndim == 0 else index
        if index.shape != (n,) or bool(((index < -tokens) | (index >= tokens)).any()):
            raise ValueError(
                f"readout must be the index of one of {tokens} tokens, or {n} of them, given "
                f"{readout!r}"
            )
        return nn.functional.one_hot(index % tokens, tokens).to(last.dtype)

    def layout(self, given: TokenLayout | None) -> TokenLayout:
        """Where the tokens lie: as given, as the pass shows, or as the model states."""
        if self.windowed and given is None:
            first = self.windows[0]
            return TokenLayout("tokens", 0, first.grid, fold=first.fold)
        return token_layout(self.call, self.probabilities[0].shape[-1], given, self.positions)

    def map(self, values: Tensor, given: TokenLayout | None) -> Tensor:
        """Token values ``(N, T)`` → ``(N, 1, h, w)`` without prefix tokens, or ``(N, T)`` with
        padding 0."""
        return token_map(self.call, values, self.layout(given))


def token_layout(
    call: Call, tokens: int, given: TokenLayout | None = None, positions: Axis | None = None
) -> TokenLayout:
    """Where the tokens of a call's model lie: as given, as a pass shows, or as the model states."""
    shaped = torch.empty(call.n, tokens, 1, device="meta")
    axes = (Axis("samples"), positions, Axis("channels"))
    return layout_of(call, nn.Identity(), shaped, "attention", given, axes)


def token_map(call: Call, values: Tensor, layout: TokenLayout) -> Tensor:
    """Token values ``(N, T)`` → ``(N, 1, h, w)`` without prefix tokens, or ``(N, T)`` with
    padding 0."""
    if layout.kind == "sequence":
        values = as_map(call, values)
    return layout.attribution(values.unsqueeze(-1))


def attention_maps(
    call: Call,
    *,
    start_layer: int = 0,
    any_output: bool = False,
    transform: Transform | None = None,
    repeats: int = 1,
    mixed: bool = False,
    windows: bool = False,
) -> AttentionMaps:
    """Run the model once and return its attention maps from ``start_layer`` on, with gradients.

    Args:
        call: the inputs, and what to explain.
        start_layer: the first map; negative counts from the end.
        any_output: without a target, follow all outputs (Σ output²): enough to see which tokens
            are read.
        transform: see :class:`~captum_ib.baselines._recorder.AttentionRecorder`.
        repeats: rows per sample, draw by draw.
        mixed: whether to take the gradients of the joined heads too.
        windows: whether maps of windows, and of several resolutions, will do.

    Raises:
        ValueError: no attention maps, maps of windows, or a ``start_layer`` that does not exist.
    """
    with borrowed(roots(call.forward_func, call.run)):
        recorder = AttentionRecorder(transform, call.n * repeats)
        tracker = AxisTracker()
        with tracker, recorder:  # in this order: attention is tracked as the recorder computes it
            output = call.run(repeats)
        windowed = _windowed(recorder.layers, call.n * repeats)
        if windowed and not windows:
            raise _no_maps_of_all(recorder.layers, call.n * repeats)
        start = layer_start(start_layer, len(recorder.layers))
        layers = recorder.layers[start:]
        if any_output and call.target is None and not isinstance(call, TowerCall):
            followed = output.float().square().sum()
        else:
            followed = call.score(output).sum()
        require_finite(output, "the output of forward_func")
        graph = [layer.probabilities for layer in layers]
        heads = [_mixed(layer) for layer in layers] if mixed else []
        gradients = torch.autograd.grad(
            followed, [*graph, *heads], allow_unused=True, materialize_grads=True
        )
    gradients, joined = gradients[: len(layers)], gradients[len(layers) :]
    maps = [value.detach().float() for value in graph]
    places = positions_of(tracker, graph)
    for number, value in enumerate(maps):
        require_finite(value, f"attention map {number}")
    slopes = [gradient.float() for gradient in gradients]
    behind = [layer.joined(g, "heads") for layer, g in zip(layers, joined, strict=False)]
    return AttentionMaps(
        call, maps, slopes, recorder.layers, places, behind, start=start, windowed=windowed
    )


def _mixed(layer: AttentionLayer) -> Tensor:
    layer.joined(layer.mixed, "heads")  # says so when the pass did not show them
    return torch.as_tensor(layer.mixed)


def positions_of(tracker: AxisTracker, maps: list[Tensor]) -> Axis | None:
    """What the maps' rows are: the positions of the queries."""
    rows = {tracker.settled((None, tracker.of(one)[-2]))[1] for one in maps}
    known = {axis for axis in rows if axis is not None and axis.role == "positions"}
    return known.pop() if len(known) == 1 else next(iter(rows)) if len(rows) == 1 else None


def require_maps(layers: list[AttentionLayer], n: int, start_layer: int) -> list[AttentionLayer]:
    """The layers from ``start_layer`` on, of maps between all tokens.

    Raises:
        ValueError: none, maps of windows, or a ``start_layer`` that does not exist.
    """
    if _windowed(layers, n):
        raise _no_maps_of_all(layers, n)
    return layers[layer_start(start_layer, len(layers)) :]


def _windowed(layers: list[AttentionLayer], n: int) -> bool:
    """Whether some map is not one of all tokens of a sample.

    Raises:
        ValueError: there is no map at all.
    """
    if not layers:
        raise ValueError(
            "the forward pass gave no attention maps: the model has no self-attention over its "
            "tokens, or hides it in a kernel (flash attention, a compiled or scripted module); "
            'load it with attn_implementation="sdpa" or "eager", or choose a method that needs '
            "no attention, such as RISE or LayerGradCAM"
        )
    shapes = [tuple(layer.probabilities.shape) for layer in layers]
    return any(shape[0] != n for shape in shapes) or len({shape[-1] for shape in shapes}) > 1


def _no_maps_of_all(layers: list[AttentionLayer], n: int) -> ValueError:
    shapes = sorted({tuple(layer.probabilities.shape) for layer in layers})
    return ValueError(
        f"the attention maps have shapes {shapes} for {n} samples: attention in windows or over "
        "several resolutions gives no maps between all tokens; choose GenericAttention or "
        "BeyondIntuition, which follow windows, or a method that needs no attention, such as RISE "
        "or LayerGradCAM"
    )


def layer_start(start_layer: int, depth: int) -> int:
    """``start_layer`` as an index from the front.

    Raises:
        TypeError: no int.
        ValueError: no such layer.
    """
    if isinstance(start_layer, bool) or not isinstance(start_layer, int):
        raise TypeError(f"start_layer must be an int, given {type(start_layer).__name__}")
    if not -depth <= start_layer < depth:
        raise ValueError(f"start_layer {start_layer} is not one of the {depth} attention layers")
    return start_layer % depth


def follow(row: Tensor, maps: list[Tensor]) -> Tensor:
    """``row · M_L · … · M_1`` for row weights ``(N, T)`` and maps ``(N, T, T)`` from first to last.

    The product's rows that are not read need not be computed.
    """
    for matrix in reversed(maps):
        row = torch.einsum("ni,nij->nj", row, matrix)
    return row


def follow_residual(row: Tensor, maps: list[Tensor]) -> Tensor:
    """``row · (I + M_L) · … · (I + M_1)``."""
    for matrix in reversed(maps):
        row = row + torch.einsum("ni,nij->nj", row, matrix)
    return row
