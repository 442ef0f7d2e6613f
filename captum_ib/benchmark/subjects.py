"""Samples as the model takes them: pixels, token ids, targets, truth at the model's size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from captum_ib.benchmark.data import Sample
from captum_ib.forward import output_tensor, probabilities
from captum_ib.loading.load import LoadedModel
from captum_ib.models.dual_encoder import DualEncoder


@dataclass(frozen=True)
class Subjects:
    """Samples of one shape, N of them, ready to be explained and judged.

    Attributes:
        indices: places in the data set.
        ids: names in the data set.
        pixels: ``(N, 3, H, W)``, the model's input.
        targets: ``(N,)`` classes; ``None`` for pairs.
        input_ids: ``(N, T)``; ``None`` without text.
        mask: ``(N, T)``, 1 for tokens; ``None`` where the model takes none.
        tokens: T words per sample.
        content: ``(N, T)`` bool, tokens of words that carry content; ``None`` where unknown.
        valid: ``(N, T)`` bool, tokens that stand for text; ``None`` without text.
        truth: ``(N, H, W)`` bool, the mask as the model sees the picture; all ``False``: unknown.
        scores: ``(N,)``, probability of the target, or cosine of the pair.
        captions: texts; ``None`` each without.
        labels: names of the targets; ``None`` each for pairs.
    """

    indices: tuple[int, ...]
    ids: tuple[str, ...]
    pixels: Tensor
    targets: Tensor | None
    input_ids: Tensor | None
    mask: Tensor | None
    tokens: tuple[tuple[str, ...] | None, ...]
    content: tuple[np.ndarray | None, ...]
    valid: np.ndarray | None
    truth: np.ndarray
    scores: np.ndarray
    captions: tuple[str | None, ...]
    labels: tuple[str | None, ...]

    def __len__(self) -> int:
        return len(self.indices)

    def part(self, rows: Sequence[int]) -> Subjects:
        """Some of the samples."""
        chosen = {name: _taken(value, list(rows)) for name, value in vars(self).items()}
        return Subjects(**chosen)

    def with_pixels(self, pixels: Tensor) -> Subjects:
        """The same questions about other pictures."""
        return replace(self, pixels=pixels)


def _taken(value: Any, rows: list[int]) -> Any:
    if value is None or isinstance(value, (Tensor, np.ndarray)):
        return None if value is None else value[rows]
    return tuple(value[row] for row in rows)


def join(parts: Sequence[Subjects]) -> Subjects:
    """Several samples of the same shape as one."""
    joined: dict[str, Any] = {}
    for name, first in vars(parts[0]).items():
        values = [getattr(part, name) for part in parts]
        if isinstance(first, Tensor):
            joined[name] = torch.cat(values)
        elif isinstance(first, np.ndarray):
            joined[name] = np.concatenate(values)
        else:
            joined[name] = None if first is None else sum(values, ())
    return Subjects(**joined)


class Reader:
    """Turns samples into subjects, one at a time; text is padded by its own length alone.

    Noise is drawn for every token of a row, so how far a caption is padded must not depend on the
    captions beside it: it is padded to the next multiple of eight tokens, as far as the model goes.

    Args:
        loaded: the model, on its device, in its precision.
        model: the same as it is explained: a classifier, or a ``DualEncoder``.
        device: where to compute.
        dtype: of the pixels.
    """

    STEP = 8

    def __init__(
        self, loaded: LoadedModel, model: nn.Module, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.loaded, self.model, self.device, self.dtype = loaded, model, device, dtype
        self._inner = getattr(loaded.tokenizer, "tokenizer", loaded.tokenizer)

    def __call__(self, index: int, sample: Sample) -> Subjects:
        """One sample, N = 1.

        Raises:
            ValueError: its caption or its class means nothing to the model.
        """
        pixels = self.loaded.preprocess(sample.image)[None].to(self.device, self.dtype)
        common = {
            "indices": (index,),
            "ids": (sample.id,),
            "pixels": pixels,
            "truth": self._truth(sample, tuple(pixels.shape[-2:])),
            "captions": (sample.caption,),
        }
        if isinstance(self.model, DualEncoder):
            return self._pair(sample, self.model, common)
        return self._classified(sample, common)

    def _classified(self, sample: Sample, common: dict[str, Any]) -> Subjects:
        with torch.no_grad():
            logits = output_tensor(self.model(common["pixels"]), 1).reshape(-1).float()
        target = int(logits.argmax())
        if sample.label is not None:
            target = self.loaded.class_index(sample.label)
        if target >= len(logits):
            raise ValueError(f"class {target} is out of range: the model has {len(logits)} classes")
        names = self.loaded.labels
        return Subjects(
            **common,
            targets=torch.tensor([target], device=self.device),
            input_ids=None,
            mask=None,
            tokens=(None,),
            content=(None,),
            valid=None,
            scores=np.array([float(probabilities(logits, 0)[target])]),
            labels=(names[target] if names else str(target),),
        )

    def _pair(self, sample: Sample, dual: DualEncoder, common: dict[str, Any]) -> Subjects:
        if not sample.caption:
            raise ValueError("there is no caption to compare the picture with")
        assert self.loaded.tokenizer is not None and self.loaded.tokens is not None
        ids, mask = self._padded(*self.loaded.tokenizer([sample.caption]))
        tokens = tuple(self.loaded.tokens(ids[0]))
        valid = np.array([word not in self.loaded.special_tokens for word in tokens])
        if mask is not None:
            valid &= mask[0].numpy().astype(bool)
        ids, mask = ids.to(self.device), None if mask is None else mask.to(self.device)
        with torch.no_grad():
            cosine = float(dual(common["pixels"], ids, *(() if mask is None else (mask,))))
        content = None if sample.words is None else marked(tokens, valid, sample.words)
        return Subjects(
            **common,
            targets=None,
            input_ids=ids,
            mask=mask,
            tokens=(tokens,),
            content=(content,),
            valid=valid[None],
            scores=np.array([cosine]),
            labels=(None,),
        )

    def _padded(self, ids: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        pad = self.pad_id
        if mask is None or pad is None:
            return ids, mask
        most = getattr(self._inner, "max_length", getattr(self._inner, "model_max_length", None))
        length = -(-ids.shape[1] // self.STEP) * self.STEP
        more = min(length, int(most or ids.shape[1])) - ids.shape[1]
        if more <= 0:
            return ids, mask
        return nn.functional.pad(ids, (0, more), value=pad), nn.functional.pad(mask, (0, more))

    @property
    def pad_id(self) -> int | None:
        """Id of padding; ``None`` where the tokenizer pads as it wants."""
        for name in ("pad_id", "pad_token_id"):
            if isinstance(getattr(self._inner, name, None), int):
                return getattr(self._inner, name)
        return None

    def _truth(self, sample: Sample, size: tuple[int, ...]) -> np.ndarray:
        """The mask, resized and cut as the picture is."""
        if sample.mask is None:
            return np.zeros((1, *size), dtype=bool)
        picture = Image.fromarray(sample.mask.astype(np.uint8) * 255).convert("RGB")
        seen = self.loaded.picture(self.loaded.preprocess(picture))
        return (seen[:1] > 0.5).cpu().numpy()


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


def plain(ids: Sequence[str], pixels: Tensor, targets: Tensor) -> Subjects:
    """Pictures and classes that are no samples of the data."""
    count = len(ids)
    nothing = (None,) * count
    return Subjects(
        indices=tuple(range(count)),
        ids=tuple(ids),
        pixels=pixels,
        targets=targets,
        input_ids=None,
        mask=None,
        tokens=nothing,
        content=nothing,
        valid=None,
        truth=np.zeros((count, *pixels.shape[2:]), dtype=bool),
        scores=np.full(count, np.nan),
        captions=nothing,
        labels=nothing,
    )
