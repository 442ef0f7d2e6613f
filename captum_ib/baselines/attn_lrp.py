"""AttnLRP: layer-wise relevance propagation through attention, as gradient × input (Achtibat)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from captum.attr import GradientAttribution
from torch import Tensor
from torch.nn import functional as F

from captum_ib.baselines._backward import GATED, BackwardMode
from captum_ib.baselines._perturb import Canvas, explain_inputs
from captum_ib.baselines._recorder import MATMUL, AttentionRecorder
from captum_ib.checks import BatchSize, require_choice, require_weight
from captum_ib.facts import OUTPUT, Facts
from captum_ib.forward import Inputs, Named, calls_of, log_usage

CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
ELEMENTWISE = (*GATED, F.relu, torch.relu, F.elu, F.leaky_relu, F.tanh, torch.tanh, Tensor.tanh)
EPSILON = 1e-6


class AttnLRP(Named, GradientAttribution):
    """Attention-aware layer-wise relevance propagation (Achtibat et al., ICML 2024).

    Relevance R of an activation x is x ⊙ g, with a gradient g that follows the rules:

    - linear maps: γ-LRP (below), or ε-LRP with ε → 0 where γ is ``None``;
    - products of activations, QKᵀ and AV: each factor gets half (uniform rule);
    - softmax: R_i = x_i (R_i^out − s_i Σ_j R_j^out) (Taylor decomposition), its plain gradient;
    - layer norm: the standard deviation is a constant;
    - elementwise f: R passes on as it is (identity rule), g · f(x) / x.

    γ-LRP, generalised to inputs and outputs of both signs: an output z > 0 shares R out by
    x⁺(w + γw⁺) + x⁻(w + γw⁻), one below 0 by x⁺(w + γw⁻) + x⁻(w + γw⁺); what the bias gets is lost.

    ``attention="cp"`` is CP-LRP (Ali et al., ICML 2022), attention probabilities as constants: what
    the authors' own package does for vision transformers.

    The authors note that LRP is patented and free for personal and scientific use only; see
    docs/baselines.md.

    >>> model = torch.nn.Linear(4, 2).requires_grad_(False)
    >>> x = torch.rand(3, 5, 4)
    >>> forward = lambda v: model(v).sum(dim=1)
    >>> R = AttnLRP(forward).attribute(x, target=0, gamma_linear=None)
    >>> torch.allclose(R, x * model.weight[0])
    True
    """

    facts = Facts(
        takes=frozenset({"classifier", "dual"}),
        unit=OUTPUT,
        signed=True,
        paper="Achtibat et al., ICML 2024",
        description="relevance passed back by the rules of LRP, attention included",
        passes="1 forward and backward",
    )

    @log_usage()
    def attribute(
        self,
        inputs: Inputs,
        target: Any = None,
        additional_forward_args: Any = None,
        *,
        attention: Literal["attnlrp", "cp"] = "attnlrp",
        gamma_conv: float | None = 0.25,
        gamma_linear: float | None = 0.05,
        gamma_attention: float | None = None,
        internal_batch_size: BatchSize = None,
    ) -> Inputs:
        """Relevance per input value. Common arguments: :mod:`captum_ib.baselines`.

        Args:
            attention: the rule for attention: the paper's, or ``"cp"``.
            gamma_conv: γ of convolutions (the authors' package for ViT: 0.25).
            gamma_linear: γ of the linear maps outside attention (there: 0.05).
            gamma_attention: γ of the projections of queries, keys, values and output (there: the
                plain gradient, ``None``).

        Returns:
            Shaped like the inputs; for token ids the sum over the embedding's channels, ``(N, T)``,
            padding 0. A pair for a ``DualEncoder``, whose image map is summed over channels,
            ``(N, 1, H, W)``. Sum the values over patches to see a ViT's.
        """
        require_choice("attention", attention, ("attnlrp", "cp"))
        gammas = {"conv": gamma_conv, "linear": gamma_linear, "attention": gamma_attention}
        for name, gamma in gammas.items():
            if gamma is not None:
                require_weight(f"gamma_{name}", gamma)
        calls = calls_of(self.forward_func, inputs, target, additional_forward_args)

        def explain(canvas: Canvas) -> Tensor:
            x = canvas.values.detach().clone().requires_grad_()
            call = canvas.at(x)
            with AttnLRPMode(attention, gammas, call.n):
                output = call.run()
            (g,) = torch.autograd.grad(call.score(output).sum(), x)
            return x.detach().float() * g.float()

        return explain_inputs(calls, explain, internal_batch_size)


@dataclass
class Kind:
    """What kind of layer a linear map is; attention that comes behind it tells."""

    name: str


class AttnLRPMode(BackwardMode):
    """The backward pass of AttnLRP or CP-LRP.

    A linear map belongs to attention where attention follows it with no normalisation of tokens
    between (queries, keys, values), or where it is the first behind one (the output projection).
    """

    gates = ELEMENTWISE

    def __init__(self, attention: str, gammas: dict[str, float | None], rows: int) -> None:
        super().__init__(rows)
        self.constant_attention = attention == "cp"
        self.gammas = gammas
        self._pending: list[Kind] = []
        self._behind = False

    def compute(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """See the base class."""
        tracked = any(isinstance(a, Tensor) and a.requires_grad for a in args)
        if torch.is_grad_enabled() and tracked:
            if func is F.linear:
                return self._layer(func, args, kwargs, self._kind())
            if func in CONVOLUTIONS:
                return self._layer(func, args, kwargs, Kind("conv"))
            if func in MATMUL and all(a.requires_grad for a in args[:2]):
                return self.product(*args[:2])
        return super().compute(func, args, kwargs)

    def normalised(self, func: Any, x: Tensor, *rest: Any, **kwargs: Any) -> Tensor:
        """See the base class."""
        if x.ndim < 4:  # of tokens, not of queries and keys by head
            self._pending, self._behind = [], False
        return super().normalised(func, x, *rest, **kwargs)

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        """a b; both get half of R (uniform rule)."""
        return a @ b if self.constant_attention else _half(a) @ _half(b)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """A projection of ``nn.MultiheadAttention``."""
        return self._layer(F.linear, (x, weight, bias), {}, Kind("attention"))

    def _layer(self, func: Any, args: tuple, kwargs: dict[str, Any], kind: Kind) -> Tensor:
        names = ("input", "weight", "bias")
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        x, weight, bias = (given.get(name) for name in names)
        rest = {name: value for name, value in kwargs.items() if name not in names}

        def operation(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            return func(x, weight, bias, *args[3:], **rest)

        return _Gamma.apply(x, weight, bias, operation, kind, self.gammas)

    def _kind(self) -> Kind:
        kind = Kind("attention" if self._behind else "linear")
        self._pending.append(kind)
        self._behind = False
        return kind

    def _seen(self, result: Tensor, values: Tensor | None = None) -> Tensor:
        found = AttentionRecorder._seen(self, result, values)
        for kind in self._pending:
            kind.name = "attention"
        self._pending, self._behind = [], True
        return found

    def _fused(self, query: Tensor, key: Tensor, *rest: Any, **kwargs: Any) -> Tensor:
        if self.constant_attention:
            query, key = query.detach(), key.detach()
        return AttentionRecorder._fused(self, query, key, *rest, **kwargs)

    def _multi_head(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        given = {**dict(zip(("query", "key"), args, strict=False)), **kwargs}
        if given["query"] is not given["key"]:  # a pooling head: its probabilities are constants
            return super()._multi_head(*args, **kwargs)
        found = AttentionRecorder._multi_head(self, *args, **kwargs)
        self._behind = False  # its output projection is done
        return found


class _Half(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> Tensor:
        return gradient[0] / 2


def _half(x: Tensor) -> Tensor:
    return _Half.apply(x)


class _Gamma(torch.autograd.Function):
    """A linear operation whose backward shares R = g ⊙ z out by the γ rule (see the method)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w: Tensor, b: Tensor | None, operation: Callable[..., Tensor],
        kind: Kind, gammas: dict[str, float | None],
    ) -> Tensor:  # fmt: skip
        z = operation(x, w, b)
        ctx.save_for_backward(x, w, b, z)
        ctx.operation, ctx.kind, ctx.gammas = operation, kind, gammas
        return z

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        x, w, z = (_wide(saved[i]) for i in (0, 1, 3))
        b = None if saved[2] is None else _wide(saved[2])
        g, gamma, operation = _wide(gradient[0]), ctx.gammas[ctx.kind.name], ctx.operation
        nothing = (None,) * 5
        with torch.enable_grad():
            if gamma is None:
                x = x.detach().requires_grad_()
                (found,) = torch.autograd.grad(operation(x, w, b), x, g)
                return (found, *nothing)
            up, down = (v.detach().requires_grad_() for v in (x.clamp_min(0), x.clamp_max(0)))
            w_up, w_down = w + gamma * w.clamp_min(0), w + gamma * w.clamp_max(0)
            b_up = None if b is None else b + gamma * b.clamp_min(0)
            b_down = None if b is None else b + gamma * b.clamp_max(0)
            z_up = operation(up, w_up, b_up) + operation(down, w_down, None)
            z_down = operation(up, w_down, b_down) + operation(down, w_up, None)
        shares = [
            torch.where(here, g * z / _stable(part.detach()), 0.0)
            for here, part in ((z > 0, z_up), (z < 0, z_down))
        ]
        of_up, of_down = torch.autograd.grad((z_up, z_down), (up, down), shares)
        return (of_up * (x > 0) + of_down * (x < 0), *nothing)


def _stable(value: Tensor) -> Tensor:
    return value + torch.where(value < 0, -EPSILON, EPSILON)


def _wide(value: Tensor) -> Tensor:
    """At least single precision: shares are quotients."""
    return value if value.dtype == torch.float64 else value.float()
