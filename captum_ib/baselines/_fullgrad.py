"""Hidden states and biases times their gradients, token by token: the terms of FullGrad(+)."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_ib.baselines._backward import NORMS
from captum_ib.baselines._recorder import AttentionRecorder
from captum_ib.baselines._samples import as_map
from captum_ib.checks import require_finite
from captum_ib.forward import Call, layout_of
from captum_ib.hooks import (
    AxisTracker,
    CompositeHook,
    borrowed,
    require_path,
    roots,
    samples_axis_of,
)
from captum_ib.layout import TokenLayout
from captum_ib.models.layers import NamedLayer


@dataclass
class Biased:
    """The output of an operation with a bias, a copy that is part of the graph.

    Attributes:
        output: ``(N, T, C)``, ``(T, N, C)`` where :attr:`sequence_first`, or ``(N, C)``.
        bias: ``(C,)``.
    """

    output: Tensor
    bias: Tensor
    sequence_first: bool


class BiasRecorder(AttentionRecorder):
    """While open, collects the outputs of linear maps and normalisations that have a bias.

    Only of those that depend on something that requires grad: behind the first hidden state.
    """

    def __init__(self, sequence_first: bool = False) -> None:
        super().__init__()
        self.biased: list[Biased] = []
        self.sequence_first = sequence_first

    def compute(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """See the base class."""
        result = super().compute(func, args, kwargs)
        if func is F.linear:
            bias = kwargs.get("bias", args[2] if len(args) > 2 else None)
            return self._noted(result, bias, self.sequence_first)
        if func in NORMS and "rms" not in func.__name__:
            bias = kwargs.get("bias", args[3] if len(args) > 3 else None)
            return self._noted(result, bias, self.sequence_first)
        return result

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """A linear map of ``nn.MultiheadAttention``, which takes the sequence first."""
        return self._noted(F.linear(x, weight, bias), bias, True)

    def _noted(self, result: Tensor, bias: Tensor | None, sequence_first: bool) -> Tensor:
        if bias is None or not result.requires_grad:
            return result
        result = result.clone()  # what is behind it may write in place
        self.biased.append(Biased(result, bias, sequence_first))
        return result.clone()


@dataclass(frozen=True)
class Balance:
    """What FullGrad(+) adds up, each term ``(N, T)``.

    Attributes:
        call: the samples.
        states: Σ_c h_l ∂y/∂h_l per block l.
        biases: Σ over all operations with a bias of ⟨b, ∂y/∂output⟩.
        layout: where the tokens lie.
    """

    call: Call
    states: list[Tensor]
    biases: Tensor
    layout: TokenLayout

    @staticmethod
    def of(
        call: Call,
        blocks: list[NamedLayer],
        mode: AbstractContextManager[Any],
        probability: bool,
        layout: TokenLayout | None,
    ) -> Balance:
        """Run the model once, inside ``mode``, and look at its blocks' inputs and its biases."""
        names, modules = (list(part) for part in zip(*blocks, strict=True))
        found: list[Tensor] = []

        def see(_: int, activation: Tensor) -> Tensor:
            # Not the model's own tensor: it may write in place.
            state = activation.clone() if found else activation.detach().clone().requires_grad_()
            found.append(state)
            return state.clone()

        axis = samples_axis_of(call.forward_func)
        hook = CompositeHook(modules, see, True, names, axis)
        recorder, tracker = BiasRecorder(axis == 1), AxisTracker()
        with borrowed([*roots(call.forward_func, call.run), *modules]):
            with mode, tracker, recorder, hook, hook.one_pass():
                output = call.run()
            require_finite(output, "the output of forward_func")
            require_path(output, found, names)
            ends = [*found, *(one.output for one in recorder.biased)]
            slopes = torch.autograd.grad(
                call.score(output, probability).sum(), ends, allow_unused=True,
                materialize_grads=True,
            )  # fmt: skip
        first = found[0].detach()
        axes = tracker.settled(tracker.of(found[0]))
        known = layout_of(call, modules[0], first, names[0], layout, axes)
        states = [
            known.tokens(state.detach().float() * slope.float()).sum(dim=-1)
            for state, slope in zip(found, slopes, strict=False)
        ]
        biases = torch.zeros_like(states[0])
        for one, slope in zip(recorder.biased, slopes[len(found) :], strict=True):
            biases = biases + _per_token(one, slope, known, biases)
        require_finite(biases, "the share of the biases")
        return Balance(call, states, biases, known)

    def valid(self, values: Tensor) -> Tensor:
        """Values ``(N, T)``, padding 0."""
        return as_map(self.call, values) if self.layout.kind == "sequence" else values

    def map(self, values: Tensor) -> Tensor:
        """Values ``(N, T)`` → ``(N, 1, h, w)`` or, padding 0, ``(N, T)``."""
        grid = self.layout.grid if self.layout.spatial else None
        return self.layout.attribution(self.layout.arrange(self.valid(values).unsqueeze(-1), grid))


def _per_token(one: Biased, slope: Tensor, layout: TokenLayout, like: Tensor) -> Tensor:
    """⟨b, ∂y/∂output⟩ of one operation, ``(N, T)``."""
    values = (slope.float() * one.bias.detach().float()).sum(dim=-1)
    if one.sequence_first and values.ndim == 2:
        values = values.transpose(0, 1)
    if values.ndim > 2 and values.shape[0] == like.shape[0]:  # heads apart, as in a norm of queries
        places = [axis for axis in range(1, values.ndim) if values.shape[axis] == like.shape[1]]
        if len(places) == 1:
            return values.movedim(places[0], 1).flatten(2).sum(dim=2)
    if values.shape == like.shape:
        return values
    if values.shape == like.shape[:1]:
        whole = torch.zeros_like(like)
        if layout.prefix:
            whole[:, 0] = values
            return whole
        return whole + values.unsqueeze(1) / like.shape[1]
    raise RuntimeError(
        f"an operation with a bias gives {tuple(one.output.shape)}, which belongs to no token of "
        f'{tuple(like.shape)}; use method="input_x_grad", or a gradient method inside libra(model)'
    )
