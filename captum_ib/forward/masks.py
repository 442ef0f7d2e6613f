"""Which argument of a forward function says what is padding: said, named, or shown by a check."""

# Arguments of a model have any type.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from captum_ib.hooks import borrowed, roots
from captum_ib.models.view import ModelView

if TYPE_CHECKING:
    from captum_ib.forward.call import Call

KEEP = re.compile(r"(.*_)?attention_mask")
"""Names of parameters whose 1 is a token that counts (transformers)."""
PADDING = re.compile(r"(.*_)?key_padding_mask")
"""Names of parameters whose True is padding (torch)."""
LIKELY_PADDING = re.compile(r"(.*_)?(padding|pad)_mask")
"""Names that mean padding in most libraries, not in all: taken where the check decides nothing."""
NO_MASK = re.compile(
    r"(.*_)?(token_type_ids|token_types?|segment_ids|segments?|position_ids|labels|langs|head_mask"
    r"|global_attention_mask|bool_masked_pos)"
)
"""Names of parameters that hold zeros and ones, and are no mask of padding."""

CHECKED = 2
"""Samples with padding that the check looks at, one by one."""
LEAK = 1e-3
"""Largest change by a padded token, relative to the change by the tokens that count."""


@dataclass(frozen=True, eq=False)
class Mask:
    """A mask of padding among the arguments of ``forward_func``, with what its ones mean.

    Goes into ``additional_forward_args`` in place of the tensor; the model is given the tensor.

    Args:
        tensor: zeros and ones (or booleans), ``(N, T)``.
        keep: ``True``: 1 is a token that counts, as in transformers' ``attention_mask``;
            ``False``: 1 is padding, as in torch's ``src_key_padding_mask``; ``None``: this is no
            mask of padding.

    Raises:
        TypeError: no tensor, or a ``keep`` of another kind.
        ValueError: other values than 0 and 1, or another number of axes than two.

    >>> Mask(torch.tensor([[False, True]]), keep=False).valid
    tensor([[ True, False]])
    """

    tensor: Tensor
    keep: bool | None = True

    def __post_init__(self) -> None:
        if not isinstance(cast(object, self.tensor), Tensor):
            raise TypeError(f"a Mask holds a tensor, given {type(self.tensor).__name__}")
        if self.keep is not None and not isinstance(cast(object, self.keep), bool):
            raise TypeError(f"keep must be True, False or None, given {self.keep!r}")
        if self.keep is not None and not (self.tensor.ndim == 2 and _is_binary(self.tensor)):
            raise ValueError(
                "a Mask holds zeros and ones of shape (N, T), given a tensor of shape "
                f"{tuple(self.tensor.shape)} and type {self.tensor.dtype}"
            )

    @property
    def valid(self) -> Tensor | None:
        """The tokens that count, ``(N, T)`` of bool; ``None``: all."""
        return None if self.keep is None else Reading(0, self.keep).valid([self.tensor])


@dataclass(frozen=True)
class Reading:
    """Which argument is the mask, and whether its ones are the tokens that count."""

    argument: int
    keep: bool

    def valid(self, arguments: Sequence[Any]) -> Tensor:
        """Valid tokens ``(N, T)`` of bool."""
        mask = arguments[self.argument] != 0
        return mask if self.keep else ~mask


def without_marks(values: Sequence[Any]) -> tuple[Any, ...]:
    """Arguments as the model takes them: the tensors that masks hold."""
    return tuple(value.tensor if isinstance(value, Mask) else value for value in values)


def with_marks(values: Sequence[Any], marks: dict[int, bool | None]) -> tuple[Any, ...]:
    """Plain arguments with what was said of some of them."""
    return tuple(
        Mask(value, marks[index]) if index in marks and isinstance(value, Tensor) else value
        for index, value in enumerate(values)
    )


def marks_of(values: Sequence[Any]) -> dict[int, bool | None]:
    """What was said of the masks among some arguments, by position."""
    return {index: value.keep for index, value in enumerate(values) if isinstance(value, Mask)}


@dataclass
class Readings:
    """How the arguments of a call are read, found once per call and number of tokens.

    Attributes:
        whole: makes the call with all its samples.
        marks: what was said of its arguments, by position.
    """

    whole: Callable[[], Call]
    marks: dict[int, bool | None]
    _found: dict[int, Reading | None] = field(default_factory=dict)

    def of(self, tokens: int) -> Reading | None:
        """The reading for a layer with so many tokens; ``None``: no mask, all tokens count.

        Raises:
            ValueError: a mask that does not fit, or several; one that can't be told.
        """
        if tokens not in self._found:
            said = any(keep is not None for keep in self.marks.values())
            call = self.whole()
            self._found[tokens] = self._said(call, tokens) if said else self._told(call, tokens)
        return self._found[tokens]

    def _said(self, call: Call, tokens: int) -> Reading:
        said = {index: keep for index, keep in self.marks.items() if keep is not None}
        fit = [i for i in said if tuple(call.arguments[i].shape) == (call.n, tokens)]
        if len(fit) != 1:
            shapes = [tuple(call.arguments[index].shape) for index in said]
            raise ValueError(
                f"the layer has {tokens} tokens for each of {call.n} samples, and {len(fit)} of "
                f"the given Masks fit (their shapes: {shapes}); give one Mask of shape "
                f"{(call.n, tokens)}, and all other arguments as plain tensors, or choose another "
                "layer"
            )
        return Reading(fit[0], bool(said[fit[0]]))

    def _told(self, call: Call, tokens: int) -> Reading | None:
        """By the name of a parameter, else by the check."""
        names = parameter_names(call.forward_func, len(call.arguments))
        candidates = [
            index
            for index, value in enumerate(call.arguments)
            if index > 0
            and index not in self.marks
            and not NO_MASK.fullmatch(names[index])
            and isinstance(value, Tensor)
            and tuple(value.shape) == (call.n, tokens)
            and _is_binary(value)
        ]
        meanings = {index: _meaning(names[index]) for index in candidates}
        named = [Reading(index, keep) for index, keep in meanings.items() if keep is not None]
        if _agree(named, call):
            return named[0]
        # Zeros only, or ones only, say nothing where the name doesn't: all tokens count.
        mixed = [index for index in candidates if _is_mixed(call.arguments[index])]
        if not mixed:
            return None
        passed = [reading for index in mixed for reading in _passing(call, index)]
        hints = [Reading(i, False) for i in mixed if LIKELY_PADDING.fullmatch(names[i])]
        for readings in (passed, hints):
            if _agree(readings, call):
                return readings[0]
        raise ValueError(_question(call, mixed, names, passed))


def parameter_names(forward_func: Callable[..., Any], count: int) -> list[str]:
    """Names of a forward function's first parameters; empty where it does not show them."""
    shown = getattr(forward_func, "_orig_mod", forward_func)  # what torch.compile wraps
    view = isinstance(shown, ModelView)
    shown = shown.forward if isinstance(shown, nn.Module) else shown
    try:
        parameters = inspect.signature(shown).parameters.values()
    except (TypeError, ValueError):  # no signature to be had
        parameters = []
    names = [
        "attention_mask" if view and parameter.name == "mask" else parameter.name
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    return [*names[:count], *[""] * (count - len(names))]


def _meaning(name: str) -> bool | None:
    if KEEP.fullmatch(name):
        return True
    return False if PADDING.fullmatch(name) else None


def _is_binary(value: Tensor) -> bool:
    return not value.is_complex() and bool(((value == 0) | (value == 1)).all())


def _is_mixed(mask: Tensor) -> bool:
    return bool((mask != 0).any()) and not bool((mask != 0).all())


def _agree(readings: Sequence[Reading], call: Call) -> bool:
    """Whether there is a reading, and all of them leave the same tokens."""
    valid = [reading.valid(call.arguments) for reading in readings]
    return bool(valid) and all(torch.equal(one, valid[0]) for one in valid)


def _passing(call: Call, index: int) -> list[Reading]:
    """The readings of an argument under which padding, and only padding, changes nothing.

    What stands where the mask is 0, then what stands where it is 1, is replaced by something
    else: the explained value must stay for one of them, and change for the other.
    """
    mask = call.arguments[index] != 0
    tokens = _tokens_argument(call, mask)
    if tokens is None:
        return []  # what belongs to a token can't be replaced
    rows = (mask.any(dim=1) & ~mask.all(dim=1)).nonzero().flatten().tolist()[:CHECKED]
    keeps = []
    with borrowed(roots(call.forward_func, call.run)), torch.no_grad():
        for row in rows:
            one = call.part(row, row + 1)
            before = _explained(one, one.arguments)
            at_zero, at_one = (
                float((_explained(one, _changed(one, tokens, where)) - before).abs().max())
                for where in (~mask[row], mask[row])
            )
            least = 1e-5 * float(before.abs().max())
            keeps.append((_only(at_one, at_zero, least), _only(at_zero, at_one, least)))
    both = zip((True, False), zip(*keeps, strict=True), strict=True) if keeps else []
    return [Reading(index, keep) for keep, passes in both if all(passes)]


def _only(large: float, small: float, least: float) -> bool:
    return large > least and small <= LEAK * large


def _tokens_argument(call: Call, mask: Tensor) -> int | None:
    """Which argument holds the tokens: the first with a row for each, and more than zeros and ones
    where there is such a one."""
    fit = [
        index
        for index, value in enumerate(call.arguments)
        if isinstance(value, Tensor) and value.ndim > 1 and value.shape[:2] == mask.shape
    ]
    rich = [index for index in fit if not _is_binary(call.arguments[index])]
    return next(iter([*rich, *(index for index in fit if index == 0)]), None)


def _changed(call: Call, tokens: int, where: Tensor) -> list[Any]:
    arguments = list(call.arguments)
    arguments[tokens] = replaced(arguments[tokens], where)
    return arguments


def _explained(call: Call, arguments: Sequence[Any]) -> Tensor:
    """The explained value for other arguments; without a target, all outputs."""
    given = [value.clone() if isinstance(value, Tensor) else value for value in arguments]
    output = call.called_with(given, call.n)
    if call.target is None and output[0].numel() > 1:
        return output.float()
    return call.score(output)


def replaced(values: Tensor, where: Tensor) -> Tensor:
    """One sample's tokens ``(1, T, …)`` with others at some positions: noise, or other ids."""
    changed = values.clone()
    if values.is_floating_point():
        noise = torch.randn(
            tuple(values.shape), generator=torch.Generator().manual_seed(0), dtype=torch.float32
        )
        scale, middle = values.float().std(), values.float().mean()
        changed[:, where] = (noise.to(values.device) * scale + middle)[:, where].to(values.dtype)
        return changed
    kept = values[:, ~where].unique()  # ids of the sample itself: surely in the vocabulary
    for position in where.nonzero().flatten().tolist():
        others = kept[kept != values[0, position]]
        own = torch.where(values[0, position] == 0, 1, 0).to(values.dtype)
        changed[0, position] = others[position % len(others)] if len(others) else own
    return changed


def _question(
    call: Call, candidates: Sequence[int], names: Sequence[str], passed: Sequence[Reading]
) -> str:
    listed = ", ".join(
        f"number {index}" + (f" ({names[index]})" if names[index] else "") for index in candidates
    )
    found = (
        f"{len(passed)} ways to read them fit"
        if passed
        else "no way to read them passed the check (other tokens where padding is said to be must "
        "leave the output as it is, other tokens elsewhere must change it)"
    )
    shape = tuple(call.arguments[candidates[0]].shape)
    return (
        f"argument {listed} of forward_func (counted from 0) holds zeros and ones {shape} and may "
        f"be the mask of padding, but what it means can't be told: {found}. Say it in "
        "additional_forward_args, in place of the tensor: captum_ib.Mask(tensor) where 1 is a "
        "token that counts, captum_ib.Mask(tensor, keep=False) where 1 is padding, "
        "captum_ib.Mask(tensor, keep=None) where it is no mask"
    )
