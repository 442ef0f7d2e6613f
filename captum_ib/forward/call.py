"""One call of ``attribute``: checked inputs, targets in all of Captum's forms, repeated passes."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from captum_ib.hooks.values import require_finite
from captum_ib.models.dual_encoder import TowerView

Target = int | tuple[int, ...] | Tensor | Sequence[int] | Sequence[tuple[int, ...]] | None


@dataclass
class Call:
    """Checked arguments of a forward function, ready to be run on repeated samples.

    Attributes:
        forward_func: the function to call.
        inputs: tensors with the samples on axis 0, detached.
        additional: further arguments; tensors with N rows go along with the samples.
        target: ``(N, k)`` indices of the output to explain, or ``None``.
        tuple_in: whether the caller gave a tuple of inputs.
    """

    forward_func: Callable[..., Any]
    inputs: tuple[Tensor, ...]
    additional: tuple[Any, ...] = ()
    target: Tensor | None = None
    tuple_in: bool = False
    _repeated: dict[int, tuple] = field(default_factory=dict, repr=False)

    @property
    def n(self) -> int:
        """Samples."""
        return int(self.inputs[0].shape[0])

    @property
    def device(self) -> torch.device:
        """Device of the inputs."""
        return self.inputs[0].device

    def run(self, repeats: int = 1) -> Tensor:
        """The output tensor for the samples repeated so many times, draw by draw."""
        if repeats not in self._repeated:
            self._repeated = {repeats: tuple(self._repeat(repeats))}
        return output_tensor(self.forward_func(*self._repeated[repeats]))

    def _repeat(self, repeats: int) -> list[Any]:
        arguments = [*self.inputs, *self.additional]
        return [
            value.repeat(repeats, *[1] * (value.ndim - 1)) if self._per_sample(value) else value
            for value in arguments
        ]

    def _per_sample(self, value: Any) -> bool:
        return isinstance(value, Tensor) and value.ndim > 0 and value.shape[0] == self.n

    def part(self, start: int, stop: int) -> Call:
        """The call for some of the samples."""
        forward = self.forward_func
        if isinstance(forward, TowerView):  # its constant has a row per sample
            forward = forward.part(start, stop)
        return Call(
            forward,
            tuple(value[start:stop] for value in self.inputs),
            tuple(
                value[start:stop] if self._per_sample(value) else value for value in self.additional
            ),
            None if self.target is None else self.target[start:stop],
            self.tuple_in,
        )

    def token_mask(self, tokens: int) -> Tensor | None:
        """Valid tokens ``(N, tokens)``: the first 0/1 mask of that shape among the arguments."""
        for value in self.additional:
            if (
                isinstance(value, Tensor)
                and tuple(value.shape) == (self.n, tokens)
                and not value.is_complex()
                and bool(((value == 0) | (value == 1)).all())
            ):
                return value.bool()
        return None


def prepare(
    forward_func: Callable[..., Any],
    inputs: Tensor | tuple[Tensor, ...],
    additional_forward_args: Any = None,
) -> Call:
    """Check ``inputs`` and ``additional_forward_args`` as Captum's methods take them.

    Raises:
        TypeError: inputs that are neither a tensor nor a tuple of tensors.
        ValueError: no samples, different numbers of samples, NaN or inf.
    """
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    if not given:
        raise ValueError("inputs is an empty tuple, expected at least one tensor")
    for index, value in enumerate(given):
        if not isinstance(value, Tensor):
            raise TypeError(
                f"inputs must be a tensor or a tuple of tensors, given {type(value).__name__} at "
                f"position {index}"
            )
        require_finite(value, f"inputs[{index}]" if isinstance(inputs, tuple) else "inputs")
        if value.ndim == 0 or value.shape[0] != given[0].shape[0] or value.shape[0] == 0:
            raise ValueError(
                "every input needs the same number of samples on axis 0, at least one; given "
                f"shapes {[tuple(v.shape) for v in given]}"
            )
    extra = additional_forward_args
    extra = () if extra is None else extra if isinstance(extra, tuple) else (extra,)
    detached = tuple(
        value.detach().clone() if value.is_inference() else value.detach() for value in given
    )
    return Call(forward_func, detached, extra, None, isinstance(inputs, tuple))


def output_tensor(output: Any) -> Tensor:
    """The tensor in a model's output: itself, ``.logits`` of a ``ModelOutput``, or the first one.

    Raises:
        TypeError: when there is none.
    """
    if isinstance(output, Tensor):
        return output
    logits = getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    entries = output.values() if isinstance(output, Mapping) else output
    if isinstance(entries, Sequence) or isinstance(output, Mapping):
        for entry in entries:
            if isinstance(entry, Tensor):
                return entry
    raise TypeError(
        f"forward_func returned {type(output).__name__}, expected a tensor, a sequence of tensors "
        "or a ModelOutput; wrap it in a function that returns the tensor to explain"
    )


def target_index(target: Target, output: Tensor) -> Tensor | None:
    """Captum's target forms → ``(N, k)`` indices into the ``k`` axes after the sample axis.

    int or tuple: the same for all samples; tensor or list: one per sample. ``None`` is right for
    one output per sample.

    Raises:
        TypeError: another kind of target.
        ValueError: a wrong number of targets or axes, or an index out of range.
    """
    n, axes = output.shape[0], output.ndim - 1
    if target is None:
        if output[0].numel() != 1:
            raise ValueError(
                f"target is None, but the model gives {output[0].numel()} outputs per sample "
                f"(shape {tuple(output.shape)}); pass the index of the one to explain"
            )
        return None
    index = _as_index(target, n).to(output.device)
    if index.shape[1] != axes:
        raise ValueError(
            f"target {target} has {index.shape[1]} indices per sample, the output of shape "
            f"{tuple(output.shape)} needs {axes}"
        )
    if index.shape[0] != n:
        raise ValueError(f"given {index.shape[0]} targets for {n} samples")
    size = torch.tensor(output.shape[1:], device=output.device)
    if bool(((index < -size) | (index >= size)).any()):
        raise ValueError(
            f"target out of range: given {target}, the output has shape {tuple(output.shape)}"
        )
    return index % size


def _as_index(target: Any, n: int) -> Tensor:
    if isinstance(target, bool) or not isinstance(target, (numbers.Integral, tuple, list, Tensor)):
        raise TypeError(
            "target must be an int, a tuple, a tensor or a list of ints or tuples, given "
            f"{type(target).__name__}"
        )
    if isinstance(target, Tensor):
        if target.is_floating_point():
            raise TypeError(f"target must hold integers, given a tensor of {target.dtype}")
        if target.numel() == 1:
            return target.reshape(1, 1).expand(n, 1)
        return target.reshape(target.shape[0], -1).long()
    if isinstance(target, numbers.Integral):
        return torch.full((n, 1), int(target))
    if isinstance(target, tuple):
        return torch.tensor([target]).expand(n, -1)
    rows = [entry if isinstance(entry, tuple) else (int(entry),) for entry in target]
    return torch.tensor(rows).reshape(len(rows), -1)


def select(output: Tensor, index: Tensor | None) -> Tensor:
    """One scalar per row: the target's output, ``(rows,)``, float32.

    ``index`` has N rows, ``output`` a multiple of them, draw by draw.
    """
    rows = output.shape[0]
    if index is None:
        return output.reshape(rows).float()
    repeated = index.repeat(rows // index.shape[0], 1)
    return output[(torch.arange(rows, device=output.device), *repeated.T)].float()


Objective = Callable[[Tensor, Tensor | None], Tensor]
"""(output ``(rows, …)``, target ``(N, k)`` or ``None``) → what to minimise, ``(rows,)``, nats."""


def class_objective(output: Tensor, index: Tensor | None) -> Tensor:
    """Cross-entropy to the target; for one output per sample, minus that output."""
    if index is None or output.shape[1] == 1:
        return -select(output, index)
    return -select(torch.log_softmax(output.float(), dim=1), index)


def draw_seed(seed: int | None) -> int:
    """The seed of a call: the given one, else one from torch's global generator.

    Raises:
        TypeError: a seed that is no int.
    """
    if seed is None:
        return int(torch.randint(0, 2**62, ()).item())
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"seed must be an int or None, given {type(seed).__name__}")
    return seed
