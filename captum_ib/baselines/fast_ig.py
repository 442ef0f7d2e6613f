"""FastIG: integrated gradients in one pass, exact for homogeneous models (Hesse et al.)."""

from __future__ import annotations

from typing import Any

import torch
from captum.attr import GradientAttribution
from torch import Tensor

from captum_ib.baselines._perturb import Canvas, explain_inputs
from captum_ib.checks import BatchSize
from captum_ib.facts import OUTPUT, Facts
from captum_ib.forward import Inputs, Named, calls_of, log_usage


class FastIG(Named, GradientAttribution):
    """Fast axiomatic attribution (Hesse et al., NeurIPS 2021), also known as 𝒳-gradient.

    (x − x') ⊙ ∇F(x): integrated gradients with every point of the path taken at its end. It is the
    integral exactly where F is homogeneous around x', F(x' + λ(x − x')) = λ F(x) (eq. 6–8), as in a
    network of ReLUs without biases; elsewhere it is an approximation. With the zero baseline it is
    Captum's ``InputXGradient``; what is added here are baselines, token ids and pairs.

    Signed, in units of the output.

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

    @log_usage()
    def attribute(
        self,
        inputs: Inputs,
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        *,
        internal_batch_size: BatchSize = None,
    ) -> Inputs:
        """Difference to the baseline times gradient. Common arguments: :mod:`captum_ib.baselines`.

        Args:
            baselines: x'.

        Returns:
            Shaped like the inputs, as Captum's gradient methods; for token ids the sum over the
            embedding's channels, ``(N, T)``, padding 0. A pair for a ``DualEncoder``, whose image
            map is summed over channels, ``(N, 1, H, W)``.
        """
        calls = calls_of(self.forward_func, inputs, target, additional_forward_args)

        def explain(canvas: Canvas) -> Tensor:
            return (canvas.values - canvas.baseline).float() * input_gradient(canvas)

        return explain_inputs(calls, explain, internal_batch_size, baselines)


def input_gradient(canvas: Canvas) -> Tensor:
    """Gradient of the explained value with respect to the canvas's values, float32."""
    state = canvas.values.detach().clone().requires_grad_()
    call = canvas.at(state)
    return torch.autograd.grad(call.score(call.run()).sum(), state)[0].float()
