"""What masks are laid on: pixels, or the embeddings of tokens; and the scores of masked samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from captum_ib.baselines._samples import as_map, explained
from captum_ib.checks import BatchSize, broadcast, require_choice, require_count, require_finite
from captum_ib.forward import Call
from captum_ib.hooks import CompositeHook, Undo, before_layer, borrowed, roots


class EmbeddingView(nn.Module):
    """A model of token ids as a function of their embeddings ``(rows, T, C)``.

    Args:
        forward_func: takes ids as its first argument.
        layer: the embedding that looks the ids up.
        ids: ``(N, T)``; rows come as multiples of N, draw by draw.
    """

    def __init__(self, forward_func: Callable[..., Any], layer: nn.Module, ids: Tensor) -> None:
        super().__init__()
        self.forward_func, self.layer, self.ids = forward_func, layer, ids
        self.training = layer.training  # the flags inside are the user's

    def forward(self, embedded: Tensor, *rest: Any) -> Any:
        """The output for embeddings in the place of those that the layer would give."""
        hook = CompositeHook([self.layer], lambda _, activation: embedded)
        ids = self.ids.repeat(embedded.shape[0] // self.ids.shape[0], 1)
        with hook, hook.one_pass():
            return self.forward_func(ids, *rest)


def token_embedding(call: Call) -> nn.Module:
    """The layer that looks up a call's token ids.

    Raises:
        ValueError: no ``nn.Embedding`` is called with exactly these ids.
    """
    found: list[nn.Module] = []

    def see(layer: nn.Module, args: tuple, kwargs: dict) -> None:
        if args and args[0].shape == call.inputs[0].shape and torch.equal(args[0], call.inputs[0]):
            found.append(layer)

    with borrowed(modules := roots(call.forward_func, call.run)), torch.no_grad(), Undo() as undo:
        for layer in (part for root in modules for part in root.modules()):
            if isinstance(layer, nn.Embedding):
                before_layer(undo, layer, see)
        call.run()
    if not found:
        raise ValueError(
            f"inputs of {call.inputs[0].dtype} can only be explained as token ids, but no "
            "nn.Embedding of the model is called with them; pass their embeddings as inputs, with "
            "a forward_func that takes these"
        )
    return found[0]


@dataclass(frozen=True)
class Canvas:
    """One input as something that masks can be laid on.

    Attributes:
        call: the forward function of :attr:`values`.
        values: pixels ``(N, C, H, W)`` or embeddings ``(N, T, C)``.
        baseline: what takes the place of masked positions, shaped like :attr:`values`.
    """

    call: Call
    values: Tensor
    baseline: Tensor

    @staticmethod
    def of(call: Call, baseline: Any = None) -> Canvas:
        """The canvas of a call with one input: an image, token ids, or embeddings.

        Args:
            call: the call.
            baseline: a number, or a tensor that broadcasts to the inputs; for token ids an id or
                ids. Default: 0, for token ids the embedding 0.

        Raises:
            ValueError: several inputs, another number of axes, or a baseline that does not fit.
        """
        if len(call.inputs) != 1:
            raise ValueError(
                f"given {len(call.inputs)} inputs; masks are laid on one: pass the others as "
                "additional_forward_args"
            )
        (given,) = call.inputs
        if given.is_floating_point():
            if given.ndim not in (3, 4):
                raise ValueError(
                    "inputs must be images (N, C, H, W), token ids (N, T) or embeddings (N, T, C), "
                    f"given shape {tuple(given.shape)}"
                )
            return Canvas(call, given, broadcast(baseline, given, "the inputs"))
        layer = token_embedding(call)
        embedded = _embed(call, layer, given)
        if baseline is None:
            floor = torch.zeros_like(embedded)
        else:
            ids = broadcast(baseline, given, "the inputs")
            floor = _embed(call.at(call.forward_func, (ids,)), layer, ids)
        view = EmbeddingView(call.forward_func, layer, given)
        return Canvas(call.at(view, (embedded,)), embedded, floor)

    def at(self, values: Tensor) -> Call:
        """The call with other values in the place of the canvas's own."""
        return self.call.at(self.call.forward_func, (values,))

    @property
    def positions(self) -> tuple[int, ...]:
        """Shape of a mask: ``(H, W)`` or ``(T,)``."""
        shape = self.values.shape
        return tuple(shape[2:] if self.channel_axis == 1 else shape[1:2])

    @property
    def channel_axis(self) -> int:
        """Axis of :attr:`values` that masks don't have."""
        return 1 if self.values.ndim == 4 else -1

    def shaped(self, masks: Tensor) -> Tensor:
        """Masks ``(…, *positions)`` with a channel axis of length 1 where :attr:`values` has it."""
        return masks.unsqueeze(-3 if self.values.ndim == 4 else -1)

    def masked(self, masks: Tensor) -> Tensor:
        """``baseline + mask · (values − baseline)`` for masks ``(K, N or 1, *positions)``."""
        shaped = self.shaped(masks).to(self.values.dtype)
        return torch.lerp(self.baseline, self.values, shaped)


@dataclass
class Scorer:
    """Scores of many variants of the same samples.

    Attributes:
        call: the samples.
        probability: whether a class output is turned into the target's probability.
        original: the scores of the samples themselves, ``(N,)``.
    """

    call: Call
    probability: bool
    original: Tensor

    @staticmethod
    def of(call: Call, score: str) -> Scorer:
        """For ``score`` ``"probability"`` or ``"output"``.

        Raises:
            ValueError: another score; a target that does not fit the output.
        """
        require_choice("score", score, ("probability", "output"))
        original = call.score(call.run(), score == "probability")
        require_finite(original, "the output of forward_func")
        return Scorer(call, score == "probability", original)

    def part(self, call: Call, rows: slice) -> Scorer:
        """The scorer of some of the samples, whose call is given."""
        return Scorer(call, self.probability, self.original[rows])

    def __call__(self, variants: Tensor) -> Tensor:
        """Variants ``(K, N, …)`` of the samples → scores ``(K, N)``."""
        count, n = variants.shape[:2]
        rest = self.call.repeated(count)[len(self.call.inputs) :]
        output = self.call.called_with([variants.flatten(0, 1), *rest], count * n)
        return self.call.score(output, self.probability).unflatten(0, (count, n))


def explain_inputs(
    calls: Sequence[Call],
    explain: Callable[[Canvas], Tensor],
    internal_batch_size: BatchSize,
    baselines: Any = None,
) -> Any:
    """``explain`` (canvas → values shaped like it) for all samples, for both towers.

    Returns the values; summed over channels for token ids and for the towers of a pair.
    """

    def values_of(call: Call, baseline: Any) -> Tensor:
        canvas = Canvas.of(call, baseline)
        with borrowed(roots(call.forward_func, call.run)):
            values = explain(canvas)
        if len(calls) == 1 and (values.ndim == 4 or call.inputs[0].is_floating_point()):
            return values
        return as_map(call, values.sum(dim=canvas.channel_axis))

    return explained(calls, values_of, internal_batch_size, baselines=baselines)


def _embed(call: Call, layer: nn.Module, ids: Tensor) -> Tensor:
    found: list[Tensor] = []
    hook = CompositeHook([layer], lambda _, activation: found.append(activation.detach().clone()))
    with borrowed(roots(call.forward_func, call.run)), torch.no_grad(), hook, hook.one_pass():
        call.run()
    return found[0]


def chunks(count: int, size: int) -> list[slice]:
    """``range(count)`` in slices of at most ``size``."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def masks_per_pass(perturbations_per_eval: int, count: int) -> int:
    """Masks per forward pass.

    Raises:
        TypeError: no int.
        ValueError: less than 1.
    """
    return min(require_count("perturbations_per_eval", perturbations_per_eval), max(1, count))
