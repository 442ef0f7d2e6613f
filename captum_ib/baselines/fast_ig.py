"""FastIG: integrated gradients in one pass, exact for homogeneous models (Hesse et al.)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from captum.attr import GradientAttribution
from torch import Tensor

from captum_ib.attr._base import log_usage
from captum_ib.forward.call import Call, prepare, require_finite, select, target_index
from captum_ib.attr._explain import part_of_target, valid_tokens
from captum_ib.attr._pairs import per_tower, require_no_target
from captum_ib.attr._towers import pair_calls
from captum_ib.baselines._names import Named
from captum_ib.baselines._perturb import Canvas
from captum_ib.baselines._tokens import check_batch_size
from captum_ib.hooks import borrowed, roots
from captum_ib.models.dual_encoder import DualEncoder


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

    def __init__(self, forward_func: Callable[..., Any]) -> None:
        super().__init__(forward_func)

    @log_usage()
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        *,
        internal_batch_size: int | None = None,
    ) -> Any:
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

        def explain(canvas: Canvas, wanted: Any) -> Tensor:
            (slope,) = input_gradient(canvas.call, canvas.values, wanted)
            return (canvas.values - canvas.baseline).float() * slope

        return explain_inputs(
            self.forward_func,
            inputs,
            baselines,
            target,
            additional_forward_args,
            explain,
            internal_batch_size,
        )


def input_gradient(call: Call, values: Tensor, target: Any) -> tuple[Tensor]:
    """Gradient of the target's output with respect to the values, float32."""
    state = values.detach().clone().requires_grad_()
    output = Call(call.forward_func, (state,), call.additional).run()
    total = select(output, target_index(target, output)).sum()
    return (torch.autograd.grad(total, state)[0].float(),)


def explain_inputs(
    forward_func: Callable[..., Any],
    inputs: Any,
    baselines: Any,
    target: Any,
    additional_forward_args: Any,
    explain: Callable[[Canvas, Any], Tensor],
    internal_batch_size: int | None,
) -> Any:
    """``explain`` (canvas, target → values shaped like it) for all samples, for both towers.

    Returns the values; summed over channels for token ids and for the towers of a pair.
    """
    check_batch_size(internal_batch_size, "internal_batch_size")
    if isinstance(forward_func, DualEncoder):
        require_no_target(target)
        calls = pair_calls(forward_func, inputs, additional_forward_args)
        floors = per_tower(baselines, "baselines")
        return tuple(
            _values(call, floor, None, explain, internal_batch_size, True)
            for call, floor in zip(calls, floors, strict=True)
        )
    call = prepare(forward_func, inputs, additional_forward_args)
    result = _values(call, baselines, target, explain, internal_batch_size, False)
    return (result,) if call.tuple_in else result


def _values(
    call: Call,
    baseline: Any,
    target: Any,
    explain: Callable[[Canvas, Any], Tensor],
    size: int | None,
    reduce: bool,
) -> Tensor:
    parts = []
    size = call.n if size is None else size
    for start in range(0, call.n, size):
        stop = min(start + size, call.n)
        part = call.part(start, stop)
        per_sample = isinstance(baseline, Tensor) and baseline.shape == call.inputs[0].shape
        canvas = Canvas.of(part, baseline[start:stop] if per_sample else baseline)
        with borrowed(roots(part.forward_func, part.run)):
            parts.append(explain(canvas, part_of_target(target, call.n, start, stop)))
    values = torch.cat(parts)
    require_finite(values, "the attribution")
    if values.ndim == 4:
        return values.sum(dim=1, keepdim=True) if reduce else values
    if not reduce and call.inputs[0].is_floating_point():
        return values
    tokens = values.sum(dim=-1)
    valid = valid_tokens(call, tokens.shape[1])
    return tokens if valid is None else tokens * valid
