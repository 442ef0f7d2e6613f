"""One call of ``attribute``: checked inputs, repeated passes, the value that is explained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from captum_ib.checks import is_tuple, require_finite
from captum_ib.forward.target import output_tensor, part_of_target, select, target_index
from captum_ib.models.dual_encoder import TowerEmbedding

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass
class Call:
    """Checked arguments of a forward function, ready to be run on repeated samples.

    Attributes:
        forward_func: the function to call.
        inputs: tensors with the samples on axis 0, detached.
        additional: further arguments; tensors with N rows go along with the samples.
        target: what to explain, in any of Captum's forms.
        tuple_in: whether the caller gave a tuple of inputs.
    """

    forward_func: Callable[..., Any]
    inputs: tuple[Tensor, ...]
    additional: tuple[Any, ...] = ()
    target: Any = None
    tuple_in: bool = False
    _repeated: dict[int, tuple[Any, ...]] = field(
        default_factory=dict[int, tuple[Any, ...]], repr=False
    )

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
        # Fresh copies: a model may write its inputs in place, and they are handed out again.
        given = [v.clone() if isinstance(v, Tensor) else v for v in self._repeated[repeats]]
        return output_tensor(self.forward_func(*given))

    def index(self, output: Tensor) -> Tensor | None:
        """The target as indices ``(N, k)`` into an output with a multiple of N rows."""
        return target_index(self.target, output[: self.n])

    def score(self, output: Tensor, probability: bool = False) -> Tensor:
        """The explained value per row, ``(rows,)``, float32.

        Args:
            output: with a multiple of N rows, draw by draw.
            probability: the softmax probability of the target, where there are classes.
        """
        index = self.index(output)
        if probability and index is not None:
            output = output.float().softmax(dim=1)
        return select(output, index)

    def part(self, start: int, stop: int) -> Self:
        """The call for some of the samples."""
        stop = min(stop, self.n)
        return replace(
            self,
            inputs=tuple(value[start:stop] for value in self.inputs),
            additional=tuple(
                value[start:stop] if self._per_sample(value) else value for value in self.additional
            ),
            target=part_of_target(self.target, self.n, start, stop),
            _repeated={},
        )

    def at(self, forward_func: Callable[..., Any], inputs: tuple[Tensor, ...]) -> Self:
        """The same samples as other inputs of another forward function."""
        return replace(self, forward_func=forward_func, inputs=inputs, _repeated={})

    def valid_tokens(self, tokens: int) -> Tensor | None:
        """Valid tokens ``(N, tokens)``; ``None``: all.

        As the forward function knows them (a tower does), else by the first 0/1 mask of that
        shape among the arguments.
        """
        if isinstance(self.forward_func, TowerEmbedding):
            mask = self.forward_func.valid_tokens(*self.inputs, *self.additional)
            return mask if mask is None or mask.shape[1] == tokens else None
        for value in self.additional:
            if (
                isinstance(value, Tensor)
                and tuple(value.shape) == (self.n, tokens)
                and not value.is_complex()
                and bool(((value == 0) | (value == 1)).all())
            ):
                return value.bool()
        return None

    def _repeat(self, repeats: int) -> list[Any]:
        arguments = [*self.inputs, *self.additional]
        return [
            value.repeat(repeats, *[1] * (value.ndim - 1)) if self._per_sample(value) else value
            for value in arguments
        ]

    def _per_sample(self, value: Any) -> bool:
        return isinstance(value, Tensor) and value.ndim > 0 and value.shape[0] == self.n


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
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    if not given:
        raise ValueError("inputs is an empty tuple, expected at least one tensor")
    for index, value in enumerate(given):
        if not isinstance(cast(object, value), Tensor):
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
    extra = () if extra is None else extra if is_tuple(extra) else (extra,)
    detached = tuple(
        value.detach().clone() if value.is_inference() else value.detach() for value in given
    )
    return Call(forward_func, detached, extra, target, isinstance(inputs, tuple))


def draw_seed(seed: int | None) -> int:
    """The seed of a call: the given one, else one from torch's global generator.

    Raises:
        TypeError: a seed that is no int.
    """
    if seed is None:
        return int(torch.randint(0, 2**62, ()).item())
    if isinstance(seed, bool) or not isinstance(cast(object, seed), int):
        raise TypeError(f"seed must be an int or None, given {type(seed).__name__}")
    return seed
