"""Saliency: the size of the gradient, Captum's own, for pairs too (Simonyan et al., 2014)."""

from __future__ import annotations

from typing import Any

import captum.attr
from captum.attr import GradientAttribution
from torch import Tensor

from captum_ib.baselines._perturb import Canvas, explain_inputs
from captum_ib.checks import BatchSize
from captum_ib.facts import Facts
from captum_ib.forward import Inputs, Named, calls_of, log_usage


class Saliency(Named, GradientAttribution):
    """Captum's :class:`captum.attr.Saliency` for classifiers, token ids and pairs.

    \\|∂F/∂x\\| (Simonyan et al., ICLR workshop 2014), with Captum's order of arguments. Token ids
    have no gradient: theirs is that of their word embeddings, as M2IB's paper compares it. For a
    ``DualEncoder`` F is the cosine similarity of the pair, and each tower is explained while the
    other embedding is constant.

    >>> import torch
    >>> model = torch.nn.Linear(4, 2, bias=False).requires_grad_(False)
    >>> x = torch.rand(3, 4)
    >>> a = Saliency(lambda v: model(v[:, 0])).attribute(x[:, None], target=0)
    >>> torch.allclose(a[:, 0], model.weight[0].abs().expand(3, 4))
    True
    """

    facts = Facts(
        takes=frozenset({"classifier", "dual"}),
        unit="output units per input value",
        signed=False,
        paper="Simonyan et al., ICLR workshop 2014",
        description="magnitude of the gradient",
        passes="1 forward and backward",
    )

    @log_usage()
    def attribute(
        self,
        inputs: Inputs,
        target: Any = None,
        abs: bool = True,
        additional_forward_args: Any = None,
        *,
        internal_batch_size: BatchSize = None,
    ) -> Inputs:
        """Magnitude of the gradient. Common arguments: :mod:`captum_ib.baselines`.

        Args:
            abs: ``False`` gives the gradient with its sign.

        Returns:
            Shaped like the inputs, as Captum's; for token ids the sum over the embedding's
            channels, ``(N, T)``, padding 0. A pair for a ``DualEncoder``, whose image map is summed
            over channels, ``(N, 1, H, W)``.
        """
        calls = calls_of(self.forward_func, inputs, target, additional_forward_args)

        def explain(canvas: Canvas) -> Tensor:
            def score(values: Tensor) -> Tensor:
                call = canvas.at(values)
                return call.score(call.run())

            values = canvas.values.detach().clone().requires_grad_()
            return captum.attr.Saliency(score).attribute(values, abs=abs).detach().float()

        return explain_inputs(calls, explain, internal_batch_size)
