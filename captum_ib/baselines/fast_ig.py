"""FastIG: integrated gradients in one pass, exact for homogeneous models (Hesse et al.)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from captum.attr import GradientAttribution
from torch import Tensor

from captum_ib.baselines._perturb import Canvas
from captum_ib.checks import require_finite
from captum_ib.facts import OUTPUT, Facts
from captum_ib.forward import (
    Call,
    Inputs,
    Named,
    as_given,
    calls_of,
    in_parts,
    log_usage,
    per_call,
    samples_at_once,
)
from captum_ib.hooks import borrowed, roots


class FastIG(Named, GradientAttribution):
    """Fast axiomatic attribution (Hesse et al., NeurIPS 2021), also known as 𝒳-gradient.

    (x − x') ⊙ ∇F(x): integrated gradients with every point of the path taken at its end. It is the
    integral exactly where F is homogeneous around x', F(x' + λ(x − x')) = λ F(x) (eq. 6–8), as in a
    network of ReLUs without biases; elsewhere it is an approximation. With the zero baseline it is
    Captum's ``InputXGradient``; what is added here are baselines, token ids and pairs.

    Signed, in units of the output.

    Args:
        forward_func: the model, a function that calls it, or a
            :class:`~captum_ib.models.dual_encoder.DualEncoder`.

    >>> model = torch.nn.Linear(4, 2, bias=False).requires_grad_(False)
    >>> x = torch.rand(3, 5, 4)
    >>> a = FastIG(lambda v: model(v).sum(dim=1)).attribute(x, target=0)
    >>> torch.allclose(a, x * model.weight[0])
    True
    """

    facts = Facts(
        takes=frozenset({"classifier", "dual"}),
        unit=OUTPUT,
        signed=True,
        paper="Hesse et al., NeurIPS 2021",
        description="difference to the baseline times gradient",
        passes="1 forward and backward",
    )

    def __init__(self, forward_func: Callable[..., Any]) -> None:
        super().__init__(forward_func)

    @log_usage()
    def attribute(
        self,
        inputs: Inputs,
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        *,
        internal_batch_size: int | None = None,
    ) -> Inputs:
        """Difference to the baseline times gradient.

        Args:
            inputs: images ``(N, C, H, W)``, token ids ``(N, T)`` or embeddings ``(N, T, C)``; for
                a ``DualEncoder`` a pair.
            baselines: x': a number or a tensor that broadcasts to the inputs (default 0); for token
                ids an id (default: the embedding 0). For a ``DualEncoder`` also one per tower.
            target: output to explain, in any of Captum's forms; none for a ``DualEncoder``.
            additional_forward_args: passed on to ``forward_func`` behind the inputs.
            internal_batch_size: samples per forward pass; default all.

        Returns:
            Shaped like the inputs, as Captum's gradient methods; for token ids the sum over the
            embedding's channels, ``(N, T)``, padding 0. A pair for a ``DualEncoder``, whose image
            map is summed over channels, ``(N, 1, H, W)``.

        Raises:
            ValueError: NaN; a target out of range; a baseline that does not fit.
            TypeError: arguments of a wrong type.
        """

        def explain(canvas: Canvas) -> Tensor:
            return (canvas.values - canvas.baseline).float() * input_gradient(canvas)

        return explain_inputs(
            self.forward_func,
            inputs,
            baselines,
            target,
            additional_forward_args,
            explain,
            internal_batch_size,
        )


def input_gradient(canvas: Canvas) -> Tensor:
    """Gradient of the explained value with respect to the canvas's values, float32."""
    state = canvas.values.detach().clone().requires_grad_()
    call = canvas.at(state)
    return torch.autograd.grad(call.score(call.run()).sum(), state)[0].float()


def explain_inputs(
    forward_func: Callable[..., Any],
    inputs: Any,
    baselines: Any,
    target: Any,
    additional_forward_args: Any,
    explain: Callable[[Canvas], Tensor],
    internal_batch_size: int | None,
) -> Any:
    """``explain`` (canvas → values shaped like it) for all samples, for both towers.

    Returns the values; summed over channels for token ids and for the towers of a pair.
    """
    calls = calls_of(forward_func, inputs, target, additional_forward_args)
    floors = per_call(baselines, "baselines", calls)
    maps = [
        _values(call, floor, explain, internal_batch_size, reduce=len(calls) > 1)
        for call, floor in zip(calls, floors, strict=True)
    ]
    return as_given(maps, calls)


def _values(
    call: Call,
    baseline: Any,
    explain: Callable[[Canvas], Tensor],
    internal_batch_size: int | None,
    reduce: bool,
) -> Tensor:
    parts = []
    size = samples_at_once(call.n, internal_batch_size)
    per_sample = isinstance(baseline, Tensor) and baseline.shape == call.inputs[0].shape
    for number, part in enumerate(in_parts(call, size)):
        rows = slice(number * size, (number + 1) * size)
        canvas = Canvas.of(part, baseline[rows] if per_sample else baseline)
        with borrowed(roots(part.forward_func, part.run)):
            parts.append(explain(canvas))
    values = torch.cat(parts)
    require_finite(values, "the attribution")
    if values.ndim == 4:
        return values.sum(dim=1, keepdim=True) if reduce else values
    if not reduce and call.inputs[0].is_floating_point():
        return values
    tokens = values.sum(dim=-1)
    valid = call.valid_tokens(tokens.shape[1])
    return tokens if valid is None else tokens * valid
