"""Where InputIBA's input bottleneck sits: ahead of the model, or behind its word embedding."""

# torch does not type a model's modules.
# pyright: reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captum_ib.forward import Call
from captum_ib.hooks import borrowed
from captum_ib.layout import TokenLayout
from captum_ib.models.layers import NamedLayer

_AHEAD = {2: "flat", 3: "ncl", 4: "nchw", 5: "ncdhw"}


class Entry(nn.Module):
    """A forward function whose first input passes a module, so that a bottleneck can take it.

    Args:
        forward_func: the model, or a function that calls it.
    """

    def __init__(self, forward_func: Callable[..., Any]) -> None:
        super().__init__()
        self.inner, self.ahead = forward_func, nn.Identity()
        self.config = getattr(forward_func, "config", None)
        self.training = getattr(forward_func, "training", False)

    def forward(self, first: Tensor, *others: Any) -> Any:
        """What the forward function gives."""
        return self.inner(self.ahead(first), *others)


def site_of(call: Call, at: NamedLayer | None) -> tuple[Call, NamedLayer, TokenLayout]:
    """The call, the module at whose output the bottleneck sits, and the axes there.

    Args:
        call: the samples.
        at: the module; ``None``: the input itself, or of ids of words their embedding.

    Raises:
        ValueError: several inputs, axes that are not known, or an embedding that can't be told.
    """
    first, *others = call.inputs
    if others:
        raise ValueError(
            f"InputIBA explains one input, given {len(call.inputs)}; pass the others as "
            "additional_forward_args"
        )
    if at is not None:
        return call, at, TokenLayout("sequence")
    if not first.is_floating_point():
        return call, _embedding(call), TokenLayout("sequence")
    if first.ndim not in _AHEAD:
        raise ValueError(
            f"inputs of shape {tuple(first.shape)} have unknown axes; InputIBA takes (N, C), "
            "(N, C, L), (N, C, H, W) and (N, C, D, H, W), or ids of words"
        )
    entry = Entry(call.forward_func)
    return call.at(entry, call.inputs), ("ahead", entry.ahead), TokenLayout(_AHEAD[first.ndim])


def _embedding(call: Call) -> NamedLayer:
    """The embedding that is called with the ids, as a pass shows.

    Raises:
        ValueError: there is none, or there are several.
    """
    model, ids = call.forward_func, call.inputs[0]
    found: list[NamedLayer] = []
    if isinstance(model, nn.Module):
        with ExitStack() as stack:
            stack.enter_context(borrowed([model]))
            for name, module in _embeddings(model):

                def keep(module: nn.Module, given: tuple[Any, ...], name: str = name) -> None:
                    if given and given[0].shape == ids.shape and torch.equal(given[0], ids):
                        found.append((name, module))

                stack.callback(module.register_forward_pre_hook(keep).remove)
            with torch.no_grad():
                call.run()
    if len(found) != 1:
        names = ", ".join(name for name, _ in found) or "none"
        raise ValueError(
            f"the ids go into these embeddings: {names}; name the one whose output is explained: "
            'InputIBA(model, layer, at="embeddings.word_embeddings")'
        )
    return found[0]


def _embeddings(model: nn.Module) -> Iterator[NamedLayer]:
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding):
            yield name, module


def spread_over(like: Tensor) -> Callable[[Tensor], Tensor]:
    """Resizing (order 1) of a map over features to a map that broadcasts over the input.

    Where the two have no places in common (flat layers), each place gets the map's mean.
    """

    def spread(values: Tensor) -> Tensor:
        if like.ndim == 4 and values.ndim == 4:
            return F.interpolate(values, like.shape[2:], mode="bilinear", align_corners=False)
        if like.ndim == 3 and values.ndim == 2 and values.shape[1] == like.shape[1]:
            return values.unsqueeze(2)
        return values.flatten(1).mean(dim=1).view(-1, *[1] * (like.ndim - 1))

    return spread
