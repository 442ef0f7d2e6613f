"""One tower of a pair behind a layer: hidden states in, embeddings that are not normalised out."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from captum_ib.checks import broadcast, require_finite
from captum_ib.forward import TowerCall, sequence_mask, session_layouts
from captum_ib.hooks import CompositeHook, Session, open_session, samples_axis_of
from captum_ib.layout import TokenLayout
from captum_ib.models.layers import NamedLayer


@dataclass(frozen=True)
class Pooled:
    """A tower as a function of the hidden state that enters a layer.

    Attributes:
        session: the borrowed tower.
        x: the hidden state, ``(N, T, C)``.
        r: that of the reference, float32.
        layout: where its tokens lie.
        valid: tokens that count, ``(N, T)``; ``None``: all.
    """

    session: Session
    x: Tensor
    r: Tensor
    layout: TokenLayout
    valid: Tensor | None

    @property
    def direction(self) -> Tensor:
        """x − x', 0 at padding, float32."""
        whole = self.x.float() - self.r
        return whole if self.valid is None else whole * self.valid.unsqueeze(-1)

    def run(self, states: Tensor) -> Tensor:
        """Embeddings ``(rows, d)`` of states ``(rows, T, C)``; rows come draw by draw."""
        return self.session.run(len(states) // len(self.x), lambda _, activation: states.clone())

    def embedding(self) -> Tensor:
        """g(x), ``(N, d)``, float32."""
        return self.session.output.float()

    def difference(self) -> Tensor:
        """g(x) − g(x'), both read at the tokens where the sample itself is read."""
        with torch.no_grad():
            return self.embedding() - self.run((self.x.float() - self.direction).to(self.x.dtype))


@contextmanager
def opened(
    call: TowerCall, layer: NamedLayer, reference: Tensor, layout: TokenLayout | None
) -> Generator[Pooled]:
    """A tower's passes from the hidden state that enters a layer."""
    view = call.embedding
    call.decide()

    def run(repeats: int) -> Tensor:
        given = call.arguments if repeats == 1 else call.repeated(repeats)
        return view.tower.pooled(*[v.clone() if isinstance(v, Tensor) else v for v in given])

    name, module = layer
    with open_session(view, run, [module], [name], call.n, to_input=True) as session:
        (known,) = session_layouts(call, session, layout)
        x = session.activations[0]
        if x.ndim != 3:
            raise ValueError(
                f"layer {name} is entered by {tuple(x.shape)}, expected tokens (N, T, C); choose a "
                "transformer's block"
            )
        r = _entering(call, layer, reference)
        yield Pooled(session, x, r.float(), known, sequence_mask(call, x, known))


def _entering(call: TowerCall, layer: NamedLayer, inputs: Tensor) -> Tensor:
    """The hidden state of other inputs."""
    name, module = layer
    found: list[Tensor] = []

    def see(_: int, activation: Tensor) -> None:
        found.append(activation.detach().clone())

    axis = samples_axis_of(call.forward_func)
    hook = CompositeHook([module], see, True, [name], axis)
    with torch.no_grad(), hook, hook.one_pass():
        call.at(call.forward_func, (inputs,)).run()
    require_finite(found[0], f"the reference's activation of layer {name}")
    return found[0]


def reference_inputs(call: TowerCall, given: Any, aligned: bool) -> Tensor:
    """x': as given; by default zeros, for token ids the first and the last token with 0 between.

    Args:
        call: one side of a pair.
        given: a number or a tensor that broadcasts to the inputs, or ``None``.
        aligned: whether the last token stays where it is; else it follows one id 0.
    """
    (values,) = call.inputs
    if given is not None or values.is_floating_point():
        return broadcast(given, values, "the inputs")
    tokens = values.shape[1]
    valid = call.valid_tokens(tokens)
    places = torch.arange(tokens, device=values.device).expand(len(values), -1)
    if valid is None:
        valid = torch.ones_like(values, dtype=torch.bool)
    valid = valid.bool()
    first = valid.int().argmax(dim=1, keepdim=True)
    last = (places * valid).amax(dim=1, keepdim=True)
    end = last if aligned else (first + 2).clamp_max(tokens - 1)
    whole = torch.zeros_like(values)
    whole = torch.where(places == first, values.gather(1, first), whole)
    whole = torch.where(places == end, values.gather(1, last), whole)
    # Padding stays padding.
    return torch.where(valid | (places == end), whole, values) if aligned else whole
