"""A vision-language model that generates, as a forward function: pixels → log p(answer)."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from captum_ib.evidence import patch_grid
from captum_ib.layout import TokenLayout
from captum_ib.models.architectures import NamedLayer
from captum_ib.models.tower import blocks_within
from captum_ib.models.view import ModelView

IGNORED = -100
"""Answer ids that do not count, as in the labels of transformers' language models."""


class AnswerLogProbability(ModelView):
    """Pixels → the log-probability of a given answer, in nats, ``(N,)``.

    log p(answer | image, prompt) = Σ_t log p(a_t | image, prompt, a_<t): what every attribution
    method can explain of a model that generates text (PaliGemma, LLaVA and their kin in
    transformers). It has one output per sample, so ``target`` is ``None``.

    On a layer of the vision tower, on the projector and on the layers of the language model, the
    map is that of the image's tokens, ``(N, 1, h, w)``; ``layout=TokenLayout("sequence")`` gives
    all tokens of the language model, ``(N, T)``: prompt and answer too. By default the methods
    look at the language model's layers.

    Args:
        model: a ``…ForConditionalGeneration`` of transformers that takes ``input_ids`` with a
            placeholder per image token, ``pixel_values`` and ``attention_mask``.
        prompt_ids: ``(P,)``: the processor's ``input_ids`` for the image and the question,
            placeholders included; or ``(N, P)``.
        answer_ids: ``(A,)``, or ``(N, A)``: the answer, without a begin token; -100 where a
            shorter answer has ended.
        extra: further keyword arguments of the model, the same in every call.

    Raises:
        TypeError: a model without a vision tower or a language model.
        ValueError: no placeholder of an image in the prompt, or placeholders in several places;
            an empty answer.
    """

    prompt_ids: Tensor
    answer_ids: Tensor

    def __init__(
        self,
        model: nn.Module,
        prompt_ids: Tensor,
        answer_ids: Tensor,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.extra = dict(extra or {})
        self._vision = _part(model, "vision_tower", "vision_model", "visual")
        self._language = _part(model, "language_model", "text_model")
        self.register_buffer("prompt_ids", torch.atleast_2d(prompt_ids), persistent=False)
        self.register_buffer("answer_ids", torch.atleast_2d(answer_ids), persistent=False)
        if self.answer_ids.shape[1] == 0 or not bool((self.answer_ids[:, 0] != IGNORED).all()):
            raise ValueError("the answer is empty; pass the ids of at least one token")
        self.image_tokens = _placeholders(model, self.prompt_ids)
        self.training = model.training  # the flags inside are the user's

    def forward(
        self,
        pixel_values: Tensor,
        prompt_ids: Tensor | None = None,
        answer_ids: Tensor | None = None,
    ) -> Tensor:
        """Log-probability of each row's answer, nats.

        Args:
            pixel_values: ``(N, 3, H, W)``.
            prompt_ids, answer_ids: ``(N, P)`` and ``(N, A)`` as ``additional_forward_args``, where
                every sample has its own; default: those given at first.
        """
        rows = pixel_values.shape[0]
        prompt = _rows(self.prompt_ids if prompt_ids is None else prompt_ids, rows)
        answer = _rows(self.answer_ids if answer_ids is None else answer_ids, rows)
        counted = answer != IGNORED
        ids = torch.cat([prompt, answer.clamp_min(0)], dim=1)
        logits = self._logits(pixel_values, ids, prompt.shape[1])
        predicted = logits[:, -answer.shape[1] - 1 : -1].float().log_softmax(dim=-1)
        chosen = predicted.gather(2, answer.clamp_min(0).unsqueeze(2)).squeeze(2)
        return (chosen * counted).sum(dim=1)

    def _logits(self, pixel_values: Tensor, ids: Tensor, prompt: int) -> Tensor:
        """Logits of the whole sequence, or of its end from the last token of the prompt."""
        arguments: dict[str, Any] = {
            "input_ids": ids,
            "pixel_values": pixel_values,
            "attention_mask": torch.ones_like(ids),
            **self.extra,
        }
        taken = inspect.signature(self.model.forward).parameters
        if "use_cache" in taken:
            arguments["use_cache"] = False
        labels = False
        if getattr(getattr(self.model, "config", None), "model_type", "") == "paligemma":
            # The prompt is read in both directions, the answer (type 1) from left to right only;
            # transformers 4 does so only where it is given labels too.
            types = torch.arange(ids.shape[1], device=ids.device) >= prompt
            arguments["token_type_ids"] = types.long().expand_as(ids)
            labels = "mm_encoder_outputs" not in taken
            if labels:
                arguments["labels"] = torch.where(types, ids, IGNORED)
        if "logits_to_keep" in taken and not labels:
            arguments["logits_to_keep"] = ids.shape[1] - prompt + 1
        return self.model(**arguments).logits

    def blocks(self) -> list[NamedLayer]:
        """The language model's layers, with their names within this module."""
        return blocks_within(*self._language)

    def vision_blocks(self) -> list[NamedLayer]:
        """The vision tower's blocks, with their names within this module."""
        return blocks_within(*self._vision)

    def layout(
        self, layer: nn.Module, activation: Tensor, inputs: tuple[Tensor, ...], name: str
    ) -> TokenLayout:
        """The image's tokens: in the vision tower, behind it, or within the whole sequence.

        Raises:
            ValueError: when their grid can't be told.
        """
        vision = self._vision[1]
        if any(module is layer for module in vision.modules()):
            return TokenLayout.infer(vision, layer, activation, inputs, name)
        start, stop = self.image_tokens
        grid = patch_grid(vision, stop - start, inputs[0])
        tokens = int(activation.shape[1]) if activation.ndim == 3 else 0
        if grid is not None and tokens == stop - start:
            return TokenLayout("tokens", grid=grid)
        if grid is not None and tokens >= stop:
            return TokenLayout("tokens", start, grid, suffix=tokens - stop)
        raise ValueError(
            f"can't tell where the image's {stop - start} tokens lie in layer {name}, whose "
            f"activation has shape {tuple(activation.shape)}; pass layout=, for example "
            f"TokenLayout('tokens', prefix={start}, grid=(rows, columns), suffix=…) or "
            "TokenLayout('sequence') for all tokens"
        )


def _part(model: nn.Module, *names: str) -> NamedLayer:
    """The outermost module of one of these names."""
    for name, module in model.named_modules(prefix="model"):
        if name.rpartition(".")[2] in names:
            return name, module
    raise TypeError(
        f"{type(model).__name__} has no {' or '.join(names)}; AnswerLogProbability is for "
        "transformers' vision-language models (…ForConditionalGeneration)"
    )


def _placeholders(model: Any, prompt_ids: Tensor) -> tuple[int, int]:
    """Start and stop of the image's tokens in every prompt."""
    config = getattr(model, "config", None)
    token = getattr(config, "image_token_id", getattr(config, "image_token_index", None))
    if token is None:
        raise TypeError(f"the config of {type(model).__name__} has no image_token_id")
    found = prompt_ids == token
    count = int(found[0].sum())
    start = int(found[0].int().argmax())
    expected = torch.zeros_like(found)
    expected[:, start : start + count] = True
    if count == 0 or not bool((found == expected).all()):
        raise ValueError(
            f"the prompt needs one run of image placeholders (id {token}), at the same place in "
            f"every row, given {found.sum(dim=1).tolist()} of them; pass the processor's "
            "input_ids for one image and the question"
        )
    return start, start + count


def _rows(ids: Tensor, rows: int) -> Tensor:
    """Ids of every row of a batch whose samples repeat draw by draw."""
    return ids.repeat(rows // ids.shape[0], 1)
