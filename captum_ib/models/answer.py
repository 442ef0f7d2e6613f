"""A vision-language model that generates, as a forward function: pixels → log p(answer)."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from captum_ib.layout import TokenLayout
from captum_ib.models.architectures import NamedLayer
from captum_ib.models.generator_inputs import family_of, image_token, inputs_of
from captum_ib.models.picture_tokens import PictureTokens, pictures_of, runs_of
from captum_ib.models.tower import blocks_within
from captum_ib.models.view import ModelView

IGNORED = -100
"""Answer ids that do not count, as in the labels of transformers' language models."""


@dataclass(frozen=True)
class AnswerParts:
    """A map over all tokens, ``(N, T)``, taken apart.

    Attributes:
        images: per picture, tile or frame ``(N, 1, h, w)``; ``(N, t)`` where its grid is not known.
        prompt: the prompt's other tokens, ``(N, P)``: the question, and what surrounds it.
        prompt_ids: which they are, ``(N, P)``.
        answer: the answer's tokens, ``(N, A)``; the last is read by nothing.
    """

    images: tuple[Tensor, ...]
    prompt: Tensor
    prompt_ids: Tensor
    answer: Tensor


class AnswerLogProbability(ModelView):
    """Pixels → the log-probability of a given answer, in nats, ``(N,)``.

    log p(answer | image, prompt) = Σ_t log p(a_t | image, prompt, a_<t): what every attribution
    method can explain of a model that generates text (Gemma 3, Idefics 3, InternVL, LLaVA, its
    NeXT and OneVision, PaliGemma, Qwen 2, 2.5 and 3 VL, SmolVLM in transformers). It has one output
    per sample, so ``target`` is ``None``. With ``tokens`` only some tokens of the answer count:
    :meth:`each` gives a forward function per token.

    On a layer of the vision tower, on the projector and on the layers of the language model, the
    map is that of the image's tokens, ``(N, 1, h, w)``, where there is one picture in one piece.
    Several pictures, or tiles of one, have a map over all tokens of the language model, ``(N, T)``,
    prompt and answer too, and so has ``layout=TokenLayout("sequence")``; :meth:`parts` takes it
    apart. By default the methods look at the language model's layers.

    Args:
        model: a ``…ForConditionalGeneration`` of transformers that takes ``input_ids`` with a
            placeholder per image token, ``pixel_values`` and ``attention_mask``.
        prompt_ids: ``(P,)``: the processor's ``input_ids`` for the image and the question,
            placeholders included; or ``(N, P)``.
        answer_ids: ``(A,)``, or ``(N, A)``: the answer, without a begin token; -100 where a
            shorter answer has ended.
        extra: further keyword arguments of the model, as the processor gives them for one sample
            (``image_grid_thw``, ``image_sizes``, ``pixel_attention_mask``, …): tensors are repeated
            with the samples.
        tokens: places in the answer that count; default: all.

    Raises:
        TypeError: a model without a vision tower or a language model.
        ValueError: no placeholder of an image in the prompt, or placeholders at other places in
            other rows; an answer that is empty or holds one; tensors in ``extra`` beside several
            prompts; a place behind the answer's end.
    """

    prompt_ids: Tensor
    answer_ids: Tensor

    def __init__(
        self,
        model: nn.Module,
        prompt_ids: Tensor,
        answer_ids: Tensor,
        extra: dict[str, Any] | None = None,
        tokens: Sequence[int] | None = None,
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
        if bool((self.answer_ids == image_token(model)).any()):
            raise ValueError(
                f"the answer holds a picture's placeholder (id {image_token(model)}), behind which "
                "there is no picture; leave it out"
            )
        self.image_runs = _placeholders(model, self.prompt_ids)
        if len(self.prompt_ids) > 1 and any(isinstance(v, Tensor) for v in self.extra.values()):
            raise ValueError(
                f"extra holds tensors of one sample, and there are {len(self.prompt_ids)} prompts; "
                "make an AnswerLogProbability for each sample"
            )
        self.tokens = None if tokens is None else tuple(tokens)
        last = self.answer_ids.shape[1] - 1
        if self.tokens is not None and not all(0 <= place <= last for place in self.tokens):
            raise ValueError(f"tokens must be places in the answer, 0 to {last}, given {tokens}")
        self.training = model.training  # the flags inside are the user's

    def forward(
        self,
        pixel_values: Tensor,
        prompt_ids: Tensor | None = None,
        answer_ids: Tensor | None = None,
    ) -> Tensor:
        """Log-probability of each row's answer, nats.

        Args:
            pixel_values: ``(N, 3, H, W)``; of several pictures or tiles
                ``(N, pictures, 3, H, W)``; of Qwen's packed patches ``(N, patches, C)``, the
                processor's with an axis for the sample: ``pixel_values[None]``.
            prompt_ids, answer_ids: ``(N, P)`` and ``(N, A)`` as ``additional_forward_args``, where
                every sample has its own; default: those given at first.

        Raises:
            ValueError: packed patches without an axis of samples, or a prompt whose images lie at
                other places than those of the prompt given at first.
        """
        rows = pixel_values.shape[0]
        if prompt_ids is not None and _placeholders(self.model, prompt_ids) != self.image_runs:
            raise ValueError(
                "prompt_ids has its image placeholders at other places than the prompt that this "
                "AnswerLogProbability was made with; make another one"
            )
        prompt = _rows(self.prompt_ids if prompt_ids is None else prompt_ids, rows)
        answer = _rows(self.answer_ids if answer_ids is None else answer_ids, rows)
        counted = answer != IGNORED
        if self.tokens is not None:
            chosen_places = torch.zeros_like(counted)
            chosen_places[:, list(self.tokens)] = True
            counted = counted & chosen_places
        ids = torch.cat([prompt, answer.clamp_min(0)], dim=1)
        logits = self._logits(pixel_values, ids, prompt.shape[1])
        predicted = logits[:, -answer.shape[1] - 1 : -1].float().log_softmax(dim=-1)
        chosen = predicted.gather(2, answer.clamp_min(0).unsqueeze(2)).squeeze(2)
        return (chosen * counted).sum(dim=1)

    def _logits(self, pixel_values: Tensor, ids: Tensor, prompt: int) -> Tensor:
        """Logits of the whole sequence, or of its end from the last token of the prompt."""
        arguments = inputs_of(self.model, pixel_values, ids, prompt, self.extra)
        taken = inspect.signature(self.model.forward).parameters
        if "use_cache" in taken:
            arguments["use_cache"] = False
        # transformers 4 reads PaliGemma's types only where it is given labels too.
        labels = self.family == "paligemma" and "mm_encoder_outputs" not in taken
        if labels:
            types = arguments["token_type_ids"]
            arguments["labels"] = torch.where(types > 0, ids, IGNORED)
        if "logits_to_keep" in taken and not labels:
            arguments["logits_to_keep"] = ids.shape[1] - prompt + 1
        return self.model(**arguments).logits

    @property
    def length(self) -> int:
        """Tokens of prompt and answer."""
        return self.prompt_ids.shape[1] + self.answer_ids.shape[1]

    @property
    def family(self) -> str:
        """The model's ``model_type``."""
        return family_of(self.model)

    def each(self) -> Iterator[AnswerLogProbability]:
        """A forward function for each token of the answer, in order: log p(a_t | …, a_<t)."""
        for place in range(self.answer_ids.shape[1]):
            yield AnswerLogProbability(
                self.model, self.prompt_ids, self.answer_ids, self.extra, [place]
            )

    def pictures(self, pixel_values: Tensor) -> list[PictureTokens]:
        """Where the pictures, tiles or frames lie among the prompt's tokens."""
        return pictures_of(self.model, self._vision[1], self.image_runs, pixel_values, self.extra)

    def parts(self, attribution: Tensor, pixel_values: Tensor) -> AnswerParts:
        """A map over all tokens by pictures, question and answer.

        Args:
            attribution: ``(N, T)``, of a layer of the language model.
            pixel_values: what was explained.

        Raises:
            ValueError: a map of other tokens.
        """
        prompt, answer = self.prompt_ids.shape[1], self.answer_ids.shape[1]
        if attribution.ndim != 2 or attribution.shape[1] != prompt + answer:
            raise ValueError(
                f"a map over all tokens has shape (N, {prompt + answer}), given "
                f"{tuple(attribution.shape)}; explain a layer of the language model with "
                'layout=TokenLayout("sequence")'
            )
        others = torch.ones(prompt, dtype=torch.bool, device=attribution.device)
        for start, stop in self.image_runs:
            others[start:stop] = False
        return AnswerParts(
            tuple(one.of(attribution) for one in self.pictures(pixel_values)),
            attribution[:, :prompt][:, others],
            self.prompt_ids[:, others.to(self.prompt_ids.device)],
            attribution[:, prompt:],
        )

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
        start, stop = self.image_runs[0]
        pictures = self.pictures(inputs[0])
        one = pictures[0] if len(pictures) == 1 and not pictures[0].row_ends else None
        tokens = int(activation.shape[1]) if activation.ndim == 3 else 0
        if one is not None and one.grid is not None and tokens == stop - start:
            return TokenLayout("tokens", grid=one.grid)
        if one is not None and one.grid is not None and tokens >= stop:
            return TokenLayout("tokens", start, one.grid, suffix=tokens - stop)
        if one is None and tokens == self.prompt_ids.shape[1] + self.answer_ids.shape[1]:
            return TokenLayout("sequence")
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


def _placeholders(model: Any, prompt_ids: Tensor) -> list[tuple[int, int]]:
    """The runs of image tokens, the same in every prompt."""
    token = image_token(model)
    found = prompt_ids == token
    if not bool(found[0].any()) or not bool((found == found[:1]).all()):
        raise ValueError(
            f"the prompt needs image placeholders (id {token}), at the same places in every row, "
            f"given {found.sum(dim=1).tolist()} of them; pass the processor's input_ids for the "
            "image and the question"
        )
    return runs_of(found[0])


def _rows(ids: Tensor, rows: int) -> Tensor:
    """Ids of every row of a batch whose samples repeat draw by draw."""
    return ids.repeat(rows // ids.shape[0], 1)
