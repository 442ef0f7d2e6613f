"""What each torch function says of its operands' and its results' axes.

By the functions' names, which ``torch.*``, ``torch.nn.functional`` and tensor methods share.
"""

# Modes are left by a switch of torch's that has no public name.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from captum_ib.axis import Axes, Axis
from captum_ib.hooks.regroup import GROUP, OTHER, C, D, H, N, P, W

if TYPE_CHECKING:
    from captum_ib.hooks.axes import AxisTracker, Operation, Order

Rule = Callable[["AxisTracker", "Operation"], None]

CHANNELS_SECOND: dict[int, Axes] = {
    2: (None, C),
    3: (N, C, P),
    4: (N, C, H, W),
    5: (N, C, D, H, W),
}


def agreed(axes: Iterable[Axis | None]) -> Axis | None:
    """What several operands know of an axis that they share; ``None`` where they disagree.

    A known order goes before one that could not be followed, a grid before positions of any kind
    (learned positions are looked up like words).
    """
    said = set(axes) - {None}
    vague = {axis for axis in said if axis in (OTHER, GROUP) or (axis and axis.parts)}
    known = said - vague or said
    if any(axis is not None and axis.grid for axis in known):
        known -= {P}
    return known.pop() if len(known) == 1 else OTHER if known else None


def aligned(one: Tensor, result: Tensor) -> Order:
    """Per axis of a result the operand's axis that is broadcast to it; none where sizes differ."""
    shift = result.ndim - one.ndim
    return tuple(
        place - shift if place >= shift and one.shape[place - shift] == size else None
        for place, size in enumerate(result.shape)
    )


def unknown(tracker: AxisTracker, op: Operation) -> None:
    """A function that is not known may have put the positions in any order."""
    places = any(tracker.has_places(one) for one in op.given)
    for result in op.outputs:
        if places and result.ndim > 1:
            tracker.show(result, (OTHER,) * result.ndim)
        else:
            tracker.forget(result)


def first(tracker: AxisTracker, op: Operation) -> None:
    """A function of every element of its first operand, or one that keeps its axes."""
    (source, *_), result = op.given, op.outputs[0]
    if source.shape != result.shape:
        return unknown(tracker, op)
    order = tuple(range(source.ndim))
    return tracker.show(result, tracker.of(source), (source, order))


def together(tracker: AxisTracker, op: Operation) -> None:
    """A function of elements of several operands: what one knows of an axis holds for all."""
    result = op.outputs[0]
    orders = [(one, aligned(one, result)) for one in op.given if one.ndim <= result.ndim]
    known = [[None if i is None else tracker.of(one)[i] for i in order] for one, order in orders]
    axes = tuple(agreed(said) for said in zip(*known, strict=True))
    tracker.show(result, axes, *orders)
    for one, order in orders:
        back: list[Axis | None] = [None] * one.ndim
        for place, origin in enumerate(order):
            if origin is not None and result.shape[place] > 1:
                back[origin] = axes[place]
        tracker.demand(one, tuple(back))


def _second(dims: int | None) -> Rule:
    def rule(tracker: AxisTracker, op: Operation) -> None:
        """Channels on axis 1, then positions: convolutions and normalisations over channels."""
        source, result = op.kwargs.get("input", op.given[0]), op.outputs[0]
        if source.ndim not in CHANNELS_SECOND or dims not in (None, source.ndim):
            return unknown(tracker, op)
        if tracker.of(source)[1] in (OTHER, GROUP):
            tracker.show(source, (tracker.of(source)[0], C, *tracker.of(source)[2:]))
        tracker.demand(source, CHANNELS_SECOND[source.ndim])
        known = tracker.of(source)
        mixed = C if known[1] == C else OTHER
        same = source.shape[2:] == result.shape[2:]
        kept = known[2:] if same else tuple(map(_coarser, known[2:]))
        alike = source.shape == result.shape
        order = (0, None, *range(2, source.ndim)) if same else (0, *[None] * (source.ndim - 1))
        if alike and known[1] == C:
            order = tuple(range(source.ndim))
        return tracker.show(result, (known[0], mixed, *kept), (source, order))

    return rule


def _pooled(tracker: AxisTracker, op: Operation) -> None:
    """Pooling and interpolation over the last axes, whatever they hold."""
    source, result = op.kwargs.get("input", op.given[0]), op.outputs[0]
    if source.ndim != result.ndim:
        return unknown(tracker, op)
    sizes = zip(tracker.of(source), source.shape, result.shape, strict=True)
    return tracker.show(result, tuple(a if m == n else _coarser(a) for a, m, n in sizes))


def _coarser(axis: Axis | None) -> Axis | None:
    """An axis in another resolution."""
    return axis if axis is None or axis in (D, H, W, P) else OTHER


def _shuffled(tracker: AxisTracker, op: Operation) -> None:
    """Pixels to channels, or back: rows and columns in another resolution, channels again."""
    known = tracker.of(op.given[0])
    tracker.show(op.outputs[0], tuple(a if a == C else _coarser(a) for a in known))


def last(tracker: AxisTracker, op: Operation) -> None:
    """Channels on the last axis, unless it is known to hold something else."""
    source, result = op.kwargs.get("input", op.given[0]), op.outputs[0]
    if source.ndim < 2:
        return None
    known = tracker.of(source)
    if known[-1] in (None, OTHER, GROUP) and C not in known[:-1]:
        tracker.demand(source, (*[None] * (source.ndim - 1), C))
    own = known[-1]
    channels = C not in known[:-1] and (own in (None, C, OTHER, GROUP) or own.role == "joined")
    order = (*range(source.ndim - 1), None)
    return tracker.show(result, (*known[:-1], C if channels else OTHER), (source, order))


def _normalized(tracker: AxisTracker, op: Operation) -> None:
    """A normalisation over the last axes; over one, it holds channels."""
    source = op.kwargs.get("input", op.given[0])
    over = op.argument(1, "normalized_shape")
    if len(over) == 1 and C not in tracker.of(source)[:-1]:
        tracker.demand(source, (*[None] * (source.ndim - 1), C))
    order = tuple(range(source.ndim))
    tracker.show(op.outputs[0], tracker.of(source), (source, order))


def _embedded(tracker: AxisTracker, op: Operation) -> None:
    if op.outputs[0].ndim == 3:
        tracker.show(op.outputs[0], (N, P, C))


def _multiplied(tracker: AxisTracker, op: Operation) -> None:
    """A matrix product has the rows of one and the columns of the other."""
    a, b = op.given[:2]
    result = op.outputs[0]
    if min(a.ndim, b.ndim) < 2:
        return unknown(tracker, op)
    if b.ndim == 2 and isinstance(b, torch.nn.Parameter):
        return last(tracker, op)
    if b.ndim == 2 < a.ndim:
        axes = (*tracker.of(a)[:-1], tracker.of(b)[-1] or OTHER)
        return tracker.show(result, axes, (a, (*range(a.ndim - 1), None)))
    return tracker.show(result, _product(tracker, a, b, b, result), *_rows_of(a, result))


def _multiplied_and_added(tracker: AxisTracker, op: Operation) -> None:
    """``addmm(bias, a, b)``: a linear map, written by hand."""
    if len(op.given) < 3:
        return unknown(tracker, op)
    return _multiplied(tracker, op._replace(given=op.given[1:], kwargs={}))


def _product(tracker: AxisTracker, rows: Tensor, b: Tensor, columns: Tensor, out: Tensor) -> Axes:
    leading = out.ndim - 2
    known = [tracker.of(one)[: one.ndim - 2] for one in (rows, b) if one.ndim == out.ndim]
    before = tuple(agreed(said) for said in zip(*known, strict=True)) or (None,) * leading
    return (*before, tracker.of(rows)[-2], tracker.of(columns)[-1])


def _rows_of(one: Tensor, result: Tensor) -> list[tuple[Tensor, Order]]:
    return [(one, (*range(one.ndim - 1), None))] if one.ndim == result.ndim else []


def _attended(tracker: AxisTracker, op: Operation) -> None:
    """Attention has the positions of the queries and the channels of the values."""
    query, key, value = op.given[:3]
    result = op.outputs[0]
    tracker.show(result, _product(tracker, query, key, value, result), *_rows_of(query, result))


def _einsum(tracker: AxisTracker, op: Operation) -> None:
    """Every letter is one axis."""
    equation = str(op.args[0]).replace(" ", "")
    if "." in equation or "->" not in equation:
        return unknown(tracker, op)
    terms, out = equation.split("->")
    said: dict[str, list[Axis | None]] = {}
    for letters, one in zip(terms.split(","), op.given, strict=True):
        for letter, axis in zip(letters, tracker.of(one), strict=True):
            said.setdefault(letter, []).append(axis)
    return tracker.show(op.outputs[0], tuple(agreed(said[letter]) for letter in out))


def _reduced(tracker: AxisTracker, op: Operation) -> None:
    dims = op.argument(1, "dim", op.kwargs.get("axis"))
    if isinstance(dims, Tensor):
        return together(tracker, op)
    source = op.given[0]
    if dims is None or isinstance(dims, (float, bool)):
        return None
    gone = {dim % source.ndim for dim in ([dims] if isinstance(dims, int) else dims)}
    axes = tracker.of(source)
    for result in op.outputs:
        if result.ndim == source.ndim:
            kept = [None if i in gone else axis for i, axis in enumerate(axes)]
        else:
            kept = [axis for i, axis in enumerate(axes) if i not in gone]
        tracker.show(result, tuple(kept))
    return None


def _moved(tracker: AxisTracker, op: Operation) -> None:
    """A permutation of axes in any form: torch is asked where each one goes."""
    source = op.given[0]
    with torch._C.DisableTorchFunction():
        marks = torch.empty_strided([1] * source.ndim, tuple(range(source.ndim)), device="meta")
        function: Any = getattr(marks, op.name)
        turned: Any = function(*op.args[1:], **op.kwargs) if callable(function) else function
        order = turned.stride()
    permuted(tracker, source, op.outputs[0], order)


def permuted(tracker: AxisTracker, source: Tensor, result: Tensor, order: Sequence[int]) -> None:
    """``result`` has the axes of ``source`` in this order."""
    known = tracker.of(source)
    tracker.show(result, tuple(known[place] for place in order), (source, tuple(order)))


def _rules(names: str, rule: Rule) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


RULES: dict[str, Rule] = {
    **_rules("conv1d conv_transpose1d", _second(3)),
    **_rules("conv2d conv_transpose2d", _second(4)),
    **_rules("conv3d conv_transpose3d", _second(5)),
    **_rules("batch_norm instance_norm group_norm local_response_norm", _second(None)),
    **_rules(
        "max_pool1d max_pool2d avg_pool1d avg_pool2d adaptive_avg_pool1d adaptive_avg_pool2d "
        "adaptive_max_pool1d adaptive_max_pool2d max_pool1d_with_indices max_pool2d_with_indices "
        "adaptive_max_pool2d_with_indices max_pool3d avg_pool3d adaptive_avg_pool3d "
        "adaptive_max_pool3d max_pool3d_with_indices adaptive_max_pool3d_with_indices "
        "boolean_dispatch fn lp_pool1d lp_pool2d interpolate "
        "upsample",
        _pooled,
    ),
    **_rules("pixel_shuffle pixel_unshuffle", _shuffled),
    **_rules("linear multi_head_attention_forward lstm gru rnn_tanh rnn_relu", last),
    **_rules("layer_norm rms_norm", _normalized),
    **_rules("embedding", _embedded),
    **_rules("matmul mm bmm __matmul__", _multiplied),
    **_rules("addmm", _multiplied_and_added),
    **_rules("scaled_dot_product_attention", _attended),
    **_rules("einsum", _einsum),
    **_rules("mean sum amax amin max min prod std var logsumexp", _reduced),
    **_rules("permute transpose swapaxes swapdims movedim moveaxis t T mT H mH adjoint", _moved),
    **_rules(
        "relu relu_ relu6 gelu silu silu_ mish sigmoid sigmoid_ tanh tanh_ softplus elu elu_ selu "
        "celu hardswish hardsigmoid hardtanh hardtanh_ leaky_relu leaky_relu_ prelu softsign "
        "logsigmoid threshold dropout dropout_ dropout1d dropout2d dropout3d alpha_dropout "
        "feature_alpha_dropout feature_dropout clone contiguous detach detach_ requires_grad_ to "
        "float half bfloat16 double type type_as cpu cuda data rsqrt sqrt exp log log1p expm1 neg "
        "abs square erf sin cos round floor ceil sign reciprocal nan_to_num normalize softmax "
        "log_softmax softmin positive fake_quantize_per_tensor_affine "
        "_transformer_encoder_layer_fwd zeros_like ones_like empty_like rand_like randn_like "
        "full_like __neg__",
        first,
    ),
    **_rules(
        "add add_ sub sub_ mul mul_ multiply div div_ true_divide rsub pow pow_ clamp clamp_ "
        "clamp_min clamp_max clip minimum maximum lerp addcmul addcdiv where masked_fill "
        "masked_fill_ eq ne lt le gt ge logical_and logical_or "
        + " ".join(
            f"__{sign}{name}__"
            for name in "add sub mul truediv pow div and or".split()
            for sign in ("", "r", "i")
        ),
        together,
    ),
}
