"""Which argument of a forward function says what is padding: said, named, or shown by a check."""

# Arguments of a model have any type.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from captum_ib.forward.mask_check import passing
from captum_ib.forward.mask_forms import Reading, is_binary, readings_of
from captum_ib.models.view import ModelView

if TYPE_CHECKING:
    from captum_ib.forward.call import Call

KEEP = re.compile(r"(.*_)?attention_mask")
"""Names of parameters whose 1 is a token that counts (transformers)."""
PADDING = re.compile(r"(.*_)?key_padding_mask")
"""Names of parameters whose True is padding (torch)."""
LIKELY_PADDING = re.compile(r"(.*_)?(padding|pad)_mask")
"""Names that mean padding in most libraries, not in all: taken where the check decides nothing."""
LENGTHS = re.compile(r"(.*_)?(lengths?|lens|seq_?len)")
"""Names of parameters that hold how many tokens of a sample count, from the first on."""
NO_MASK = re.compile(
    r"(.*_)?(token_type_ids|token_types?|segment_ids|segments?|position_ids|labels|langs|head_mask"
    r"|global_attention_mask|bool_masked_pos)"
)
"""Names of parameters that hold zeros and ones, and are no mask of padding."""


@dataclass(frozen=True, eq=False)
class Mask:
    """A mask of padding among the arguments of ``forward_func``, with what its ones mean.

    Goes into ``additional_forward_args`` in place of the tensor; the model is given the tensor.

    Args:
        tensor: zeros and ones (or booleans), ``(N, T)``, with any axes of size 1 between; with
            ``keep=True`` also 0 at the tokens that count and −∞ (or less than −1000) at padding,
            as it is added to attention scores, and ``(N,)`` numbers of tokens that count.
        keep: ``True``: 1 is a token that counts, as in transformers' ``attention_mask``;
            ``False``: 1 is padding, as in torch's ``src_key_padding_mask``; ``None``: this is no
            mask of padding.

    Raises:
        TypeError: no tensor, or a ``keep`` of another kind.
        ValueError: a tensor of another form.

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
        if self.keep is not None and _said_of(self.tensor, self.keep, self._tokens) is None:
            raise ValueError(
                "a Mask holds zeros and ones of shape (N, T), or (keep=True) zeros and -inf, or "
                "numbers of tokens (N,); given a tensor of shape "
                f"{tuple(self.tensor.shape)} and type {self.tensor.dtype}. Of a mask (N, T, T) "
                "pass the (N, T) that it is made of, and make it in forward_func: "
                "lambda ids, keep: model(ids, keep[:, None, None]), or, where the model adds it, "
                "model(ids, torch.zeros(keep.shape).masked_fill(keep == 0, -torch.inf)[:, None, "
                "None])"
            )

    @property
    def _tokens(self) -> int:
        """T; of numbers of tokens the largest."""
        if self.tensor.numel() == 0:
            return 0
        return int(self.tensor.max()) if self.tensor.ndim < 2 else self.tensor[0].numel()

    @property
    def valid(self) -> Tensor | None:
        """The tokens that count, ``(N, T)`` of bool; ``None``: all."""
        if self.keep is None:
            return None
        reading = _said_of(self.tensor, self.keep, self._tokens)
        return None if reading is None else reading.valid([self.tensor])


def _said_of(tensor: Tensor, keep: bool, tokens: int, argument: int = 0) -> Reading | None:
    """How a tensor is read of which it is said that it is a mask."""
    n = len(tensor) if tensor.ndim else 0
    said = ("keep", "additive", "lengths") if keep else ("padding",)
    readings = readings_of(argument, tensor, n, tokens)
    return next((reading for reading in readings if reading.form in said), None)


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
        read = [_said_of(call.arguments[i], keep, tokens, i) for i, keep in said.items()]
        fit = [reading for reading in read if reading is not None]
        if len(fit) == 1:
            _refuse_inverted(call, fit[0])
        if len(fit) != 1:
            shapes = [tuple(call.arguments[index].shape) for index in said]
            raise ValueError(
                f"the layer has {tokens} tokens for each of {call.n} samples, and {len(fit)} of "
                f"the given Masks fit (their shapes: {shapes}); give one Mask of shape "
                f"{(call.n, tokens)}, and all other arguments as plain tensors, or choose another "
                f"layer; {_OTHER_TOKENS}"
            )
        return fit[0]

    def _told(self, call: Call, tokens: int) -> Reading | None:
        """By the name of a parameter, else by the check."""
        names = parameter_names(call.forward_func, len(call.arguments))
        read = {
            index: readings_of(index, value, call.n, tokens)
            for index, value in enumerate(call.arguments)
            if index > 0 and index not in self.marks and not NO_MASK.fullmatch(names[index])
        }
        every = [reading for readings in read.values() for reading in readings]
        named = [reading for reading in every if _is_named(reading, names[reading.argument])]
        if _agree(named, call):
            return named[0]
        _refuse_others(call, tokens, names, read)
        # Zeros only, or ones only, say nothing where the name doesn't: all tokens count.
        mixed = [reading for reading in every if _is_mixed(reading.valid(call.arguments))]
        passed = passing(call, mixed)
        hints = [one for one in mixed if one.form == "additive" or _is_hinted(one, names)]
        for readings in (passed, hints):
            if _agree(readings, call):
                return readings[0]
        asked = list(dict.fromkeys(one.argument for one in mixed if one.plain))
        if asked:
            raise ValueError(_question(call, asked, names, passed))
        return None


_OTHER_TOKENS = (
    "where the model puts tokens of its own in front, say how many: "
    "layout=TokenLayout('sequence', prefix=10); a tensor that is no mask of this layer's tokens is "
    "captum_ib.Mask(tensor, keep=None)"
)


_INVERSE = {"keep": "padding", "padding": "keep"}


def _refuse_inverted(call: Call, said: Reading) -> None:
    """Raise ``ValueError`` for a Mask whose ones mean the reverse, as a check shows."""
    form = _INVERSE.get(said.form)
    if form is None or not _is_mixed(said.valid(call.arguments)):
        return
    inverse = replace(said, form=form)
    if passing(call, [said, inverse]) == [inverse]:
        raise ValueError(
            f"the given Mask(tensor, keep={said.form == 'keep'}) says the reverse of what the "
            "model does: other tokens where it says padding change the output, others don't; "
            f"pass Mask(tensor, keep={said.form != 'keep'}), or, where the tensor is inverted for "
            "the model, 1 - tensor"
        )


def _refuse_others(
    call: Call, tokens: int, names: Sequence[str], read: dict[int, list[Reading]]
) -> None:
    """Raise ``ValueError`` for a mask of padding that has other tokens than the layer."""
    if any(read.values()):
        return
    for index in read:
        value = call.arguments[index]
        named = KEEP.fullmatch(names[index]) or PADDING.fullmatch(names[index])
        rows = isinstance(value, Tensor) and value.ndim == 2 and len(value) == call.n
        if named and rows and is_binary(value) and _is_mixed(value != 0):
            raise ValueError(
                f"the layer has {tokens} tokens, and {names[index]} says of {value.shape[1]} "
                f"which are padding; {_OTHER_TOKENS}"
            )


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


def _is_named(reading: Reading, name: str) -> bool:
    """Whether the parameter's name says that it is a mask of this form."""
    if reading.form == "lengths":
        return bool(LENGTHS.fullmatch(name))
    if reading.form == "additive":
        return bool(KEEP.fullmatch(name) or PADDING.fullmatch(name))
    wanted = {"keep": KEEP, "padding": PADDING}.get(reading.form)
    return wanted is not None and bool(wanted.fullmatch(name))


def _is_hinted(reading: Reading, names: Sequence[str]) -> bool:
    likely = LIKELY_PADDING.fullmatch(names[reading.argument])
    return reading.form == "padding" and bool(likely)


def _is_mixed(mask: Tensor) -> bool:
    return bool(mask.any()) and not bool(mask.all())


def _agree(readings: Sequence[Reading], call: Call) -> bool:
    """Whether there is a reading, and all of them leave the same tokens."""
    valid = [reading.valid(call.arguments) for reading in readings]
    return bool(valid) and all(torch.equal(one, valid[0]) for one in valid)


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
