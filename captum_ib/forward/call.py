"""One call of ``attribute``: checked inputs, repeated passes, the value that is explained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from captum_ib.checks import is_tuple, require_finite
from captum_ib.forward import mistakes
from captum_ib.forward.admit import admitted
from captum_ib.forward.masks import Readings, marks_of, without_marks
from captum_ib.forward.memory import note_rows
from captum_ib.forward.output import (
    Head,
    are_probabilities,
    class_axis_of,
    head_of,
    output_tensor,
    probabilities,
    squashed_by,
    states_multi_label,
)
from captum_ib.forward.rows import Shared, shared_arguments
from captum_ib.forward.target import (
    Objective,
    binary_cross_entropy,
    cross_entropy,
    cross_entropy_at,
    log_loss,
    part_of_target,
    select,
    target_index,
)
from captum_ib.forward.told import told
from captum_ib.hooks import borrowed, roots
from captum_ib.models.dual_encoder import TowerEmbedding

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass
class Call:
    """Checked arguments of a forward function, ready to be run on repeated samples.

    Attributes:
        forward_func: the function to call.
        inputs: tensors with the samples on axis 0, detached.
        additional: further arguments; tensors with a row for each sample go along with them.
        target: what to explain, in any of Captum's forms.
        tuple_in: whether the caller gave a tuple of inputs.
        marks: what was said of masks among the arguments, by position.
    """

    forward_func: Callable[..., Any]
    inputs: tuple[Tensor, ...]
    additional: tuple[Any, ...] = ()
    target: Any = None
    tuple_in: bool = False
    marks: dict[int, bool | None] = field(default_factory=dict[int, "bool | None"])
    _readings: Readings | None = field(default=None, repr=False)
    _shared: Shared | None = field(default=None, repr=False)
    _class_axis: int | None = field(default=None, repr=False)
    _head: Head | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self._readings is None:  # else this is a part, which is read as the whole
            self._readings = Readings(self._whole, self.marks)

    @property
    def n(self) -> int:
        """Samples."""
        return int(self.inputs[0].shape[0])

    @property
    def arguments(self) -> tuple[Any, ...]:
        """What the forward function is called with: inputs, then the additional arguments."""
        return (*self.inputs, *self.additional)

    @property
    def device(self) -> torch.device:
        """Device of the inputs."""
        return self.inputs[0].device

    def run(self, repeats: int = 1) -> Tensor:
        """The output tensor for the samples repeated so many times, draw by draw."""
        # Copies in any case: a model may write its inputs in place, and they are needed again.
        every = self.arguments if repeats == 1 else tuple(self.repeated(repeats))
        given = [value.clone() if isinstance(value, Tensor) else value for value in every]
        return self.called_with(given, repeats * self.n)

    def called_with(self, arguments: Sequence[Any], rows: int) -> Tensor:
        """The output tensor for other arguments with so many rows.

        Raises:
            TypeError: an output of which it can't be told which tensor is explained.
            ValueError: an output without the rows on axis 0.
        """
        note_rows(rows)
        with told(self.forward_func, arguments):
            output = self.forward_func(*arguments)
        self._class_axis = class_axis_of(output)
        explained = output_tensor(output, rows)
        if explained.grad_fn is not None:
            self._head = squashed_by(explained)
        return explained

    def index(self, output: Tensor) -> Tensor | None:
        """The target as indices ``(N, k)`` into an output with a multiple of N rows."""
        return target_index(self.target, output[: self.n])

    def score(self, output: Tensor, probability: bool = False) -> Tensor:
        """The explained value per row, ``(rows,)``, float32.

        Args:
            output: with a multiple of N rows, draw by draw.
            probability: that of the target, where there is one: softmax along the classes, of a
                single logit, and where the model says that several classes may hold, the sigmoid;
                outputs that are probabilities stay as they are.

        Raises:
            ValueError: a probability along an axis that can't be told.
        """
        index = self.index(output)
        return select(output if index is None or not probability else self._shares(output), index)

    def _shares(self, output: Tensor) -> Tensor:
        """Probabilities of the classes, as :meth:`score` has them."""
        if self._ends_in() in ("sigmoid", "softmax"):
            return output
        if states_multi_label(self.forward_func):
            return output.float().sigmoid()
        axis = self.class_axis(output)
        return output if are_probabilities(output, axis) else probabilities(output, axis)

    def _ends_in(self) -> Head:
        """What the forward function ends in; one more pass, where none had a graph so far."""
        if self._head is None:
            one = self.part(0, 1)
            try:
                with borrowed(roots(self.forward_func, one.run)):
                    self._head = head_of(self.forward_func, *one.arguments) or "other"
            except (RuntimeError, ValueError, TypeError):  # it takes no single sample, or no graph
                self._head = "other"
        return self._head

    def along_classes(self, objective: Objective) -> Objective:
        """An objective: cross-entropy along the axis that the last pass's output showed, and of
        each class by itself where the model says that several may hold, or ends in a sigmoid."""
        if objective is cross_entropy and self._head == "sigmoid" and self.target is not None:
            return log_loss
        if objective is cross_entropy and states_multi_label(self.forward_func):
            return binary_cross_entropy
        if objective is cross_entropy and self._class_axis is not None:
            return cross_entropy_at(self._class_axis)
        return objective

    def class_axis(self, output: Tensor) -> int:
        """Along which axis the classes of the last pass's output lie.

        Raises:
            ValueError: more than two axes, and an output whose kind says nothing.
        """
        if output.ndim == 2:
            return 1
        if self._class_axis is None:
            raise ValueError(
                f"along which axis of the output of shape {tuple(output.shape)} the classes lie "
                'can\'t be told, so there is no probability of the target; pass score="output", '
                "or a forward_func that returns (N, classes)"
            )
        return self._class_axis

    def part(self, start: int, stop: int) -> Self:
        """The call for some of the samples."""
        stop = min(stop, self.n)
        cut = self._for_each(lambda value: value[start:stop])
        return replace(
            self,
            inputs=tuple(cut[: len(self.inputs)]),
            additional=tuple(cut[len(self.inputs) :]),
            target=part_of_target(self.target, self.n, start, stop),
        )

    def at(self, forward_func: Callable[..., Any], inputs: tuple[Tensor, ...]) -> Self:
        """The same samples as other inputs of another forward function."""
        return replace(self, forward_func=forward_func, inputs=inputs)

    def valid_tokens(self, tokens: int) -> Tensor | None:
        """Valid tokens ``(N, tokens)``; ``None``: all.

        As the forward function knows them (a tower does), else as a
        :class:`~captum_ib.forward.Mask` among the arguments says, the name of a parameter, or a
        check of what changes the output.

        Raises:
            ValueError: a mask that can't be told, does not fit, or leaves nothing of a sample.
        """
        if isinstance(self.forward_func, TowerEmbedding):
            mask = self.forward_func.valid_tokens(*self.inputs, *self.additional)
            return mask if mask is None or mask.shape[1] == tokens else None
        self.decide()  # here, once, rather than in every call that the check makes
        reading = self._readings.of(tokens) if self._readings is not None else None
        valid = None if reading is None else reading.valid(self.arguments)
        if valid is not None and not bool(valid.any(dim=1).all()):  # one look at the device
            empty = [number for number, row in enumerate(valid) if not bool(row.any())]
            raise ValueError(
                f"no token counts in sample {', '.join(map(str, empty[:5]))}: is the mask inverted"
                "? Where 1 marks padding, pass captum_ib.Mask(mask, keep=False), and to a model "
                "that wants 1 at the tokens that count, 1 - mask"
            )
        return valid

    def _whole(self) -> Call:
        return Call(
            self.forward_func, self.inputs, self.additional, self.target, _shared=self._shared
        )

    def repeated(self, repeats: int) -> list[Any]:
        """The arguments for the samples repeated so many times, draw by draw."""
        return self._for_each(lambda value: value.repeat(repeats, *[1] * (value.ndim - 1)))

    def _for_each(self, change: Callable[[Tensor], Tensor]) -> list[Any]:
        """The arguments, those changed that have a row for each sample."""
        self.decide()
        shared = self._shared or ()
        return [
            change(value) if isinstance(value, Tensor) and value.ndim and i not in shared else value
            for i, value in enumerate(self.arguments)
        ]

    def decide(self) -> None:
        """See which arguments all samples share, in passes of its own: before any hook is set.

        Raises:
            ValueError: it can't be told.
        """
        if self._shared is None:
            self._shared = shared_arguments(self)


def prepare(
    forward_func: Callable[..., Any],
    inputs: Tensor | tuple[Tensor, ...],
    additional_forward_args: Any = None,
    target: Any = None,
) -> Call:
    """Check ``inputs`` and ``additional_forward_args`` as Captum's methods take them.

    Raises:
        TypeError: inputs that are neither a tensor nor a tuple of tensors.
        ValueError: no samples, different numbers of samples, NaN or inf.
    """
    extra = additional_forward_args
    extra = () if extra is None else extra if is_tuple(extra) else (extra,)
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    marks = marks_of((*given, *extra))
    given, extra = without_marks(given), without_marks(extra)
    if not given:
        raise ValueError("inputs is an empty tuple, expected at least one tensor")
    for index, value in enumerate(given):
        if not isinstance(cast(object, value), Tensor):
            raise TypeError(
                f"inputs must be a tensor or a tuple of tensors, given {type(value).__name__} at "
                f"position {index}{mistakes.tensor_of(value)}"
            )
        name = f"inputs[{index}]" if isinstance(inputs, tuple) else "inputs"
        require_plain(value, name)
        require_finite(value, name)
        if value.ndim == 0 or value.shape[0] != given[0].shape[0] or value.shape[0] == 0:
            raise ValueError(
                "every input needs the same number of samples on axis 0, at least one; given "
                f"shapes {[tuple(v.shape) for v in given]}"
            )
    detached = tuple(
        (value.detach().clone() if value.is_inference() else value.detach()).as_subclass(Tensor)
        for value in given
    )
    mistakes.look(forward_func, detached, extra)
    return Call(admitted(forward_func), detached, extra, target, isinstance(inputs, tuple), marks)


def draw_seed(seed: int | None) -> int:
    """The seed of a call: the given one, else one from torch's global generator.

    Raises:
        TypeError: a seed that is no int.
        ValueError: one that torch's generators don't take.
    """
    if seed is None:
        return int(torch.randint(0, 2**62, ()).item())
    if isinstance(seed, bool) or not isinstance(cast(object, seed), int):
        raise TypeError(f"seed must be an int or None, given {type(seed).__name__}")
    if not -(2**63) <= seed < 2**64:
        raise ValueError(f"seed must lie within -2**63 and 2**64 - 1, given {seed}")
    return seed


def require_plain(value: Tensor, name: str) -> None:
    """Check that a tensor holds numbers that a model can be run on.

    Raises:
        TypeError: a sparse, nested, quantised, complex, or meta tensor.
    """
    if value.is_meta:
        raise TypeError(f"{name} is on the meta device and holds no values; make it on cpu or cuda")
    if value.layout != torch.strided or value.is_nested:
        kind = "nested" if value.is_nested else str(value.layout).removeprefix("torch.")
        raise TypeError(f"{name} is a {kind} tensor, expected a dense one; pass .to_dense()")
    if value.is_quantized:
        raise TypeError(f"{name} is quantised, expected plain numbers; pass .dequantize()")
    if value.is_complex():
        raise TypeError(f"{name} is complex ({value.dtype}), expected real numbers")
