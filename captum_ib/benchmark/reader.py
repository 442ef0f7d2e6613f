"""A sample of the data becomes the model's input; what the benchmark has to know of the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from captum_ib.benchmark.data import Sample
from captum_ib.benchmark.subjects import Pairs, Pictures, Subjects
from captum_ib.forward import output_tensor, probabilities
from captum_ib.loading.load import LoadedModel
from captum_ib.metrics.scorer import model_input

STEP = 8
"""Captions are padded to full eights of tokens."""

BLANK = "a"
"""The word that replaces a removed one: an article, which says nothing of the picture."""


class Reader:
    """Turns samples into subjects, one at a time.

    Args:
        loaded: the model, on its device, in its precision.
        model: the same as it is explained: a classifier, or a ``DualEncoder``.
        device: where to compute.
        dtype: of the pixels.

    Attributes:
        text: the way of its captions; ``None`` for a classifier.
    """

    def __init__(
        self, loaded: LoadedModel, model: nn.Module, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.loaded, self.model, self.device, self.dtype = loaded, model, device, dtype
        self.text = Text(loaded) if loaded.kind == "dual" else None

    def __call__(self, index: int, sample: Sample) -> tuple[Subjects, dict[str, Any]]:
        """One sample, N = 1, and what the table of samples says of it.

        Raises:
            ValueError: its caption or its class means nothing to the model.
        """
        pixels = self.loaded.preprocess(sample.image)[None].to(self.device, self.dtype)
        common = ((index,), (sample.id,), pixels, self._truth(sample, tuple(pixels.shape[-2:])))
        if self.text is None:
            target, label, score = self._answer(sample, pixels)
            subject = Pictures(*common, torch.tensor([target], device=self.device))
        else:
            label, words = None, self._question(sample)
            subject = Pairs(*common, *words)
            with torch.no_grad():
                score = self.model(pixels, *(each for each in words[:2] if each is not None))
        return subject, {"caption": sample.caption, "label": label, "confidence": float(score)}

    def _answer(self, sample: Sample, pixels: Tensor) -> tuple[int, str, Tensor]:
        """The class that is explained, its name, and its probability."""
        with torch.no_grad():
            logits = Logits(self.model)(pixels)[0]
        target = int(logits.argmax())
        if sample.label is not None:
            target = self.loaded.class_index(sample.label)
        if target >= len(logits):
            raise ValueError(f"class {target} is out of range: the model has {len(logits)} classes")
        label = self.loaded.labels[target] if self.loaded.labels else str(target)
        return target, label, probabilities(logits, 0)[target]

    def _question(self, sample: Sample) -> tuple[Any, ...]:
        """What :class:`.Pairs` holds of a caption."""
        if not sample.caption:
            raise ValueError("there is no caption to compare the picture with")
        assert self.text is not None
        ids, mask, tokens, valid = self.text(sample.caption)
        content = None if sample.words is None else marked(tokens, valid, sample.words)
        mask = None if mask is None else mask.to(self.device)
        return ids.to(self.device), mask, (tokens,), (content,), valid[None]

    def _truth(self, sample: Sample, size: tuple[int, ...]) -> np.ndarray:
        """The mask, resized and cut as the picture is."""
        if sample.mask is None:
            return np.zeros((1, *size), dtype=bool)
        picture = Image.fromarray(sample.mask.astype(np.uint8) * 255).convert("RGB")
        seen = self.loaded.picture(self.loaded.preprocess(picture))
        return (seen[:1] > 0.5).cpu().numpy()


class Text:
    """Captions as a dual encoder takes them, each padded by its own length alone.

    Noise is drawn for every token of a row, so how far a caption is padded must not depend on the
    captions beside it: it is padded to the next multiple of eight tokens, as far as the model goes.

    Attributes:
        pad_id: id of padding; ``None`` where the tokenizer pads as it wants.
        special_ids: ids of the tokens that stand for no text: begin, end, padding.

    Raises:
        ValueError: the model came without a tokenizer.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        if loaded.tokenizer is None or loaded.tokens is None:
            raise ValueError(f"{loaded.name} has no tokenizer, so it can't read captions")
        self._tokenizer, self._words = loaded.tokenizer, loaded.tokens
        self._special = loaded.special_tokens
        inner = self._inner = getattr(loaded.tokenizer, "tokenizer", loaded.tokenizer)
        pads = (getattr(inner, name, None) for name in ("pad_id", "pad_token_id"))
        self.pad_id = next((number for number in pads if isinstance(number, int)), None)
        self.special_ids = _special_ids(loaded.tokenizer)

    def __call__(self, caption: str) -> tuple[Tensor, Tensor | None, tuple[str, ...], np.ndarray]:
        """Ids and mask ``(1, T)``, the T words, and which of them stand for text ``(T,)``."""
        ids, mask = self._padded(*self._tokenizer([caption]))
        tokens = tuple(self._words(ids[0]))
        valid = np.array([word not in self._special for word in tokens])
        return ids, mask, tokens, valid if mask is None else valid & mask[0].bool().numpy()

    def blank(self, word: str | None) -> int:
        """The id that replaces a removed token, from a word; ``None``: :data:`BLANK`.

        ``""`` is the padding token, which is what M2IB and CA-M2IB put in (docs/metrics.md).

        Raises:
            ValueError: the word is not one token of the model; ``""`` where it has no padding.
        """
        if word == "":
            if self.pad_id is None:
                raise ValueError('blank "" is the padding token, and this tokenizer names none')
            return self.pad_id
        text = BLANK if word is None else word
        try:
            ids = self._tokenizer([text])[0][0].tolist()
        except ValueError as error:
            raise ValueError(f"blank {text!r} is no word of the model: {error}") from error
        content = [number for number in ids if number not in self.special_ids]
        if len(content) != 1:
            raise ValueError(
                f"blank {text!r} is {len(content)} tokens of the model, expected one; set blank to "
                "a short word that says nothing"
            )
        return content[0]

    def _padded(self, ids: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if mask is None or self.pad_id is None:
            return ids, mask
        names = ("max_length", "model_max_length")
        most = next((getattr(self._inner, name) for name in names if hasattr(self._inner, name)), 0)
        length = -(-ids.shape[1] // STEP) * STEP
        more = max(0, min(length, int(most or ids.shape[1])) - ids.shape[1])
        pad = nn.functional.pad
        return pad(ids, (0, more), value=self.pad_id), pad(mask, (0, more))


class Logits(nn.Module):
    """A classifier of any precision that gives logits as a float32 tensor, never a ``ModelOutput``.

    Captum and Quantus expect such a model; Quantus also hands it float64.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = model.training

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits ``(N, classes)``, float32."""
        output = self.model(model_input(pixels, self.model))
        return output_tensor(output, len(pixels)).float()


def marked(tokens: Sequence[str], valid: np.ndarray, words: Sequence[str]) -> np.ndarray:
    """``(T,)`` bool: the tokens that belong to some of the words, whole or in pieces.

    >>> marked(["<bos>", "a", "semi", "circle", "<eos>"], np.array([0, 1, 1, 1, 0]) > 0,
    ...        ["semicircle"]).tolist()
    [False, False, True, True, False]
    """
    wanted = {word.casefold() for word in words}
    found = np.zeros(len(tokens), dtype=bool)
    for start in range(len(tokens)):
        text = ""
        for stop in range(start, len(tokens)):
            if not valid[stop]:
                break
            text += tokens[stop].casefold().removeprefix("##")
            if text in wanted:
                found[start : stop + 1] = True
            if not any(word.startswith(text) for word in wanted):
                break
    return found


def _special_ids(inner: object) -> tuple[int, ...]:
    while inner is not None and not hasattr(inner, "all_special_ids"):
        names = ("pad_id", "bos_id", "eos_id", "sot_token_id", "eot_token_id")
        found = {int(getattr(inner, name)) for name in names if hasattr(inner, name)}
        if found:
            # open_clip pads with 0 behind the end, which is a word in front of it.
            return tuple(sorted(found))
        inner = getattr(inner, "tokenizer", None)
    return tuple(sorted(set(getattr(inner, "all_special_ids", ()))))
