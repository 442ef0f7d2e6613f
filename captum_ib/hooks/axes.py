"""Which axis of an activation is what: followed through the operations of one forward pass.

A convolution says where its channels, rows and columns are, a linear map that the last axis holds
channels, an embedding that the second one holds positions. From there axes are followed through
transpositions, reshapes, slices, concatenations and sums, so that nothing is decided by which
sizes happen to agree. What no operation says stays unknown.
"""

# What torch's operations are given is untyped; the rules below belong to the tracker.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false, reportPrivateUsage=false

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from captum_ib.layout import Axes, Axis

N, C, H, W, P = (Axis(role) for role in ("samples", "channels", "rows", "columns", "positions"))
CHANNELS_SECOND: dict[int, Axes] = {2: (N, C), 3: (N, C, P), 4: (N, C, H, W)}

# By the names of torch's functions, which torch.*, torch.nn.functional and tensor methods share.
SECOND = frozenset(
    "conv1d conv2d conv_transpose1d conv_transpose2d batch_norm instance_norm group_norm "
    "max_pool1d max_pool2d avg_pool1d avg_pool2d adaptive_avg_pool1d adaptive_avg_pool2d "
    "adaptive_max_pool1d adaptive_max_pool2d max_pool2d_with_indices max_pool1d_with_indices "
    "adaptive_max_pool2d_with_indices boolean_dispatch lp_pool2d interpolate pixel_shuffle "
    "pixel_unshuffle dropout2d feature_dropout".split()
)
LAST = frozenset(
    "linear layer_norm rms_norm multi_head_attention_forward bilinear "
    "_transformer_encoder_layer_fwd".split()
)
ALIKE = frozenset(
    "relu relu_ relu6 gelu silu mish sigmoid sigmoid_ tanh tanh_ softplus elu selu celu hardswish "
    "hardsigmoid hardtanh leaky_relu prelu threshold dropout alpha_dropout feature_alpha_dropout "
    "clone contiguous detach requires_grad_ to float half bfloat16 double type type_as cpu cuda "
    "add add_ sub sub_ mul mul_ div div_ rsub pow sqrt rsqrt exp log neg abs square clamp clamp_ "
    "clamp_min clamp_max clip minimum maximum lerp addcmul where masked_fill masked_fill_ "
    "nan_to_num roll flip pad silu_ gelu_ dropout_ normalize softmax log_softmax stochastic_depth "
    "fake_quantize_per_tensor_affine scaled_dot_product_attention "
    "local_response_norm".split()
)
OPERATORS = {f"__{sign}{name}__" for name in ("add", "sub", "mul", "truediv", "pow")
             for sign in ("", "r", "i")} | {"__neg__"}  # fmt: skip
REDUCING = frozenset("mean sum amax amin max min prod std var norm logsumexp".split())


class AxisTracker(TorchFunctionMode):
    """Follows axes through the torch functions that are called while it is open.

    Attributes:
        seen: position axes that were met, by their size.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[int, set[Axis]] = {}
        self._axes: Any = WeakTensorKeyDictionary()
        self._source: Any = WeakTensorKeyDictionary()

    def of(self, tensor: Tensor) -> Axes:
        """What is known of a tensor's axes."""
        found = self._axes.get(tensor)
        unknown: Axes = (None,) * tensor.ndim
        return found if found is not None and len(found) == tensor.ndim else unknown

    def positions(self, size: int) -> Axis | None:
        """The position axis of that size that was met in the pass, where there is one kind."""
        found = self.seen.get(size, set())
        return next(iter(found)) if len(found) == 1 else None

    def completed(self, axes: Axes, tensor: Tensor) -> Axes:
        """The axes with positions that are unknown taken from those of that size in the pass.

        Only for tokens whose channels are known to be last: attention mixes positions in ways that
        can't be followed, but gives them back in their order.
        """
        if len(axes) != 3 or axes[1] is not None or axes[2] != C:
            return axes
        return (axes[0], self.positions(int(tensor.shape[1])), axes[2])

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call the function, and conclude from it."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        # An argument in a form not thought of: nothing is concluded from this call.
        with suppress(IndexError, TypeError, ValueError, RuntimeError, KeyError):
            self._conclude(name, args, kwargs, result)
        return result

    def _conclude(
        self, name: str, args: Sequence[Any], kwargs: dict[str, Any], result: Any
    ) -> None:
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        if not outputs or not given:
            return
        if name in SECOND:
            self._demand(given[0], CHANNELS_SECOND.get(given[0].ndim))
            self._channels_second(given[0], outputs[0])
        elif name in LAST:
            self._demand(given[0], (*[None] * (given[0].ndim - 1), C))
            kept = self.of(given[0])[:-1]
            self._set(outputs[0], (*kept, C) if given[0].ndim > 2 else (N, C))
        elif name == "embedding" and outputs[0].ndim == 3:
            self._set(outputs[0], (N, P, C))
        elif name in ALIKE or name in OPERATORS:
            self._set(outputs[0], self._broadcast(given, outputs[0]))
            if len(given) == 1 or name in ("prelu", "scaled_dot_product_attention"):
                self._follow(given[0], outputs[0], tuple(range(given[0].ndim)))
        elif name in REARRANGING:
            REARRANGING[name](self, given, args, kwargs, outputs)
        elif name in REDUCING:
            self._reduced(given[0], args, kwargs, outputs[0])

    def _set(self, tensor: Tensor, axes: Axes) -> None:
        if len(axes) != tensor.ndim or not any(axes):
            return
        sizes = zip(axes, tensor.shape, strict=True)
        kept = tuple(axis if axis and axis.fits(size) else None for axis, size in sizes)
        self._axes[tensor] = kept
        for axis, size in zip(kept, tensor.shape, strict=True):
            if axis is not None and axis.role == "positions":
                self.seen.setdefault(size, set()).add(axis)

    def _follow(self, source: Tensor, result: Tensor, order: tuple[int, ...]) -> None:
        """``result``'s axes are ``source``'s in another order: what is found of it holds there."""
        if result.ndim == source.ndim and result is not source:
            self._source[result] = (weakref.ref(source), order)

    def _demand(self, tensor: Tensor, axes: Axes | None) -> None:
        """An operation that takes its input in this form says what the input's axes are."""
        while axes is not None and len(axes) == tensor.ndim:
            known = self.of(tensor)
            if all(known):
                return
            self._set(tensor, tuple(a or b for a, b in zip(known, axes, strict=True)))
            source, order = self._source.get(tensor, (None, ()))
            before = source() if source is not None else None
            if before is None:
                return
            back: list[Axis | None] = [None] * len(order)
            for place, origin in enumerate(order):
                back[origin] = axes[place]
            tensor, axes = before, tuple(back)

    def _channels_second(self, given: Tensor, result: Tensor) -> None:
        """A convolution or pooling of a known kind of tensor keeps what its axes are."""
        known = self.of(given)
        own = CHANNELS_SECOND.get(result.ndim)
        if own is None:
            return
        if result.ndim == given.ndim and all(known) and known[1] == C:
            same = given.shape[2:] == result.shape[2:]
            pairs = zip(known, own, strict=True)
            own = known if same else tuple(b if a and a.grid else a for a, b in pairs)
        self._set(result, own)

    def _broadcast(self, given: Sequence[Tensor], result: Tensor) -> Axes:
        """Per axis what the operands know of it; unknown where they disagree."""
        axes: list[Axis | None] = []
        for place in range(1, result.ndim + 1):
            known = {
                self.of(one)[-place]
                for one in given
                if one.ndim >= place and one.shape[-place] == result.shape[-place]
            } - {None}
            axes.append(known.pop() if len(known) == 1 else None)
        return tuple(reversed(axes))

    def _reduced(
        self, given: Tensor, args: Sequence[Any], kwargs: dict[str, Any], result: Tensor
    ) -> None:
        dims = kwargs.get("dim", kwargs.get("axis", args[1] if len(args) > 1 else None))
        if dims is None or isinstance(dims, (float, Tensor)):
            return
        gone = {dim % given.ndim for dim in ([dims] if isinstance(dims, int) else dims)}
        axes = self.of(given)
        if result.ndim == given.ndim:
            self._set(result, tuple(None if i in gone else axis for i, axis in enumerate(axes)))
        elif result.ndim == given.ndim - len(gone):
            self._set(result, tuple(axis for i, axis in enumerate(axes) if i not in gone))

    def permuted(self, given: Sequence[Tensor], order: Sequence[int], result: Tensor) -> None:
        """``result`` has the axes of ``given[0]`` in this order."""
        places = tuple(int(place) % given[0].ndim for place in order)
        known = self.of(given[0])
        self._set(result, tuple(known[place] for place in places))
        self._follow(given[0], result, places)


Rearrange = Callable[
    [AxisTracker, Sequence[Tensor], Sequence[Any], dict[str, Any], Sequence[Tensor]], None
]


def _permute(tracker: AxisTracker, given: Any, args: Any, kwargs: Any, outputs: Any) -> None:
    dims = kwargs.get("dims", args[1] if len(args) == 2 else args[1:])
    tracker.permuted(given, [dims] if isinstance(dims, int) else dims, outputs[0])


def _transpose(tracker: AxisTracker, given: Any, args: Any, kwargs: Any, outputs: Any) -> None:
    one, other = (*args[1:], *kwargs.values())[:2]
    order = list(range(given[0].ndim))
    order[one], order[other] = order[other], order[one]
    tracker.permuted(given, order, outputs[0])


def _movedim(tracker: AxisTracker, given: Any, args: Any, kwargs: Any, outputs: Any) -> None:
    # torch says where each axis goes: ask it with the axes' numbers as strides.
    marks = torch.empty([1] * given[0].ndim, device="meta").as_strided(
        [1] * given[0].ndim, range(given[0].ndim)
    )
    with torch._C.DisableTorchFunction():
        order = torch.movedim(marks, *args[1:], **kwargs).stride()
    tracker.permuted(given, order, outputs[0])


def _reshape(tracker: AxisTracker, given: Any, args: Any, kwargs: Any, outputs: Any) -> None:
    for result in outputs:
        tracker._set(result, regrouped(tracker.of(given[0]), given[0].shape, result.shape))


def regrouped(axes: Axes, old: Sequence[int], new: Sequence[int]) -> Axes:
    """What the axes of a reshaped tensor hold: stretches of the old ones, joined or parted.

    >>> regrouped((N, C, H, W), (2, 5, 3, 4), (2, 5, 12))[2].grid
    (3, 4)
    >>> regrouped((N, Axis("positions", (3, 4)), C), (2, 12, 5), (2, 3, 4, 5))[1:3] == (H, W)
    True
    """
    found: list[Axis | None] = []
    i = j = 0
    while i < len(old) and j < len(new):
        start_i, start_j, a, b = i, j, old[i], new[j]
        while a != b:
            if a < b:
                i += 1
                a *= old[i]
            else:
                j += 1
                b *= new[j]
        i, j = i + 1, j + 1
        found += _stretch(axes[start_i:i], old[start_i:i], new[start_j:j])
    rest = [None] * (len(new) - len(found))  # axes of size 1 at the end
    return (*found, *rest)


def _stretch(axes: Axes, old: Sequence[int], new: Sequence[int]) -> list[Axis | None]:
    """One stretch of axes in the place of another of as many elements."""
    if len(old) == len(new) == 1:
        return [axes[0]]
    (known, *more) = axes
    if axes == (H, W) and len(new) == 1:
        return [Axis("positions", (int(old[0]), int(old[1])))]
    if not more and known is not None:
        if known.grid == tuple(new) and not known.prefix + known.suffix:
            return [H, W]
        if known in (H, W):  # cut into blocks: the outer part is coarser rows or columns
            return [known, *[None] * (len(new) - 1)]
    if len(new) == 1 and axes[-1] == C and set(axes) <= {C, None}:
        return [C]  # the channels of the cells of a block, one behind the other
    return [None] * len(new)


def _cat(tracker: AxisTracker, given: Any, args: Any, kwargs: Any, outputs: Any) -> None:
    dim = kwargs.get("dim", kwargs.get("axis", args[1] if len(args) > 1 else 0))
    dim = dim % outputs[0].ndim
    axes = list(tracker._broadcast(given, outputs[0]))
    along = [tracker.of(one)[dim] for one in given]
    grids = [place for place, axis in enumerate(along) if axis is not None and axis.grid]
    if len(grids) == 1 and len(given) > 1:
        axis = along[grids[0]]
        before = sum(one.shape[dim] for one in given[: grids[0]])
        behind = sum(one.shape[dim] for one in given[grids[0] + 1 :])
        axes[dim] = axis._replace(prefix=axis.prefix + before, suffix=axis.suffix + behind)
    elif not grids and len({axis for axis in along if axis}) == 1:
        axes[dim] = next(axis for axis in along if axis)
    else:
        axes[dim] = None
    for place in range(len(axes)):
        if place != dim:
            known = {tracker.of(one)[place] for one in given} - {None}
            axes[place] = known.pop() if len(known) == 1 else None
    tracker._set(outputs[0], tuple(axes))


def _index(tracker: AxisTracker, given: Any, args: Any, kwargs: Any, outputs: Any) -> None:
    index = args[1] if isinstance(args[1], tuple) else (args[1],)
    if not all(isinstance(one, (int, slice, type(None), type(Ellipsis))) for one in index):
        return
    known, places = tracker.of(given[0]), sum(isinstance(one, (int, slice)) for one in index)
    if Ellipsis in index:
        at = index.index(Ellipsis)
        fill = (slice(None),) * (given[0].ndim - places)
        index = (*index[:at], *fill, *index[at + 1 :])
    axes: list[Axis | None] = []
    place = 0
    for one in index:
        if one is None:
            axes.append(None)
            continue
        if isinstance(one, slice):
            axes.append(_sliced(known[place], one, given[0].shape[place]))
        place += 1
    tracker._set(outputs[0], (*axes, *known[place:]))


def _sliced(axis: Axis | None, part: slice, size: int) -> Axis | None:
    """A stretch of an axis; of a grid of positions it must hold the whole grid."""
    if axis is None or axis.grid is None:
        return axis
    start, stop, step = part.indices(size)
    if step != 1 or start > axis.prefix or size - stop > axis.suffix:
        return None
    return axis._replace(prefix=axis.prefix - start, suffix=axis.suffix - (size - stop))


def _split(tracker: AxisTracker, given: Any, args: Any, kwargs: Any, outputs: Any) -> None:
    dim = kwargs.get("dim", args[2] if len(args) > 2 else 0) % given[0].ndim
    known = list(tracker.of(given[0]))
    axis = known[dim]
    known[dim] = None if axis is not None and axis.grid else axis
    for result in outputs:
        tracker._set(result, tuple(known))


def _squeeze(tracker: AxisTracker, given: Any, args: Any, kwargs: Any, outputs: Any) -> None:
    dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
    known, shape = tracker.of(given[0]), given[0].shape
    dims = range(len(shape)) if dim is None else [dim] if isinstance(dim, int) else dim
    gone = {one % len(shape) for one in dims if shape[one] == 1}
    tracker._set(outputs[0], tuple(axis for i, axis in enumerate(known) if i not in gone))


def _unsqueeze(tracker: AxisTracker, given: Any, args: Any, kwargs: Any, outputs: Any) -> None:
    dim = kwargs.get("dim", args[1] if len(args) > 1 else 0) % outputs[0].ndim
    known = tracker.of(given[0])
    tracker._set(outputs[0], (*known[:dim], None, *known[dim:]))


def _expand(tracker: AxisTracker, given: Any, args: Any, kwargs: Any, outputs: Any) -> None:
    tracker._set(outputs[0], tracker._broadcast(given[:1], outputs[0]))


REARRANGING: dict[str, Rearrange] = {
    "permute": _permute,
    "transpose": _transpose,
    "swapaxes": _transpose,
    "swapdims": _transpose,
    "movedim": _movedim,
    "moveaxis": _movedim,
    "flatten": _reshape,
    "unflatten": _reshape,
    "reshape": _reshape,
    "view": _reshape,
    "reshape_as": _reshape,
    "view_as": _reshape,
    "cat": _cat,
    "concat": _cat,
    "concatenate": _cat,
    "__getitem__": _index,
    "split": _split,
    "chunk": _split,
    "squeeze": _squeeze,
    "unsqueeze": _unsqueeze,
    "expand": _expand,
    "expand_as": _expand,
    "repeat": _expand,
}
