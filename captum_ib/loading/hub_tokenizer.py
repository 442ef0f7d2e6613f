"""A tokenizer of transformers, as a loaded model has it: texts to ids, ids to words to show."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from captum_ib.loading.hubs import as_shown
from captum_ib.loading.values import short


class HubTokenizer:
    """A transformers tokenizer in the form of :class:`captum_ib.loading.loaded.LoadedModel`.

    Args:
        tokenizer: of transformers.
        full_length: pad every text to this length and give no mask, for models that were trained
            so; default: pad to the longest text of the batch.
        vocabulary: number of words that the model has; default: do not check.
    """

    def __init__(
        self, tokenizer: Any, full_length: int | None = None, vocabulary: int | None = None
    ) -> None:
        self.tokenizer = tokenizer
        self.full_length = full_length
        self.vocabulary = vocabulary
        self.special_tokens = _of_no_text(tokenizer)

    def __call__(self, texts: list[str]) -> tuple[Tensor, Tensor | None]:
        """``input_ids`` and ``attention_mask``, both ``(N, T)``, padded at the end.

        Raises:
            ValueError: a text is longer than the model takes, the tokenizer finds nothing in it, or
                gives words that the model lacks.
        """
        length = self.full_length
        batch = self.tokenizer(
            list(texts),
            padding="max_length" if length is not None else self.tokenizer.pad_token is not None,
            max_length=length,
            return_tensors="pt",
        )
        ids, most = batch["input_ids"], length or self.tokenizer.model_max_length
        self._require_words(texts, ids)
        if ids.shape[1] > most:
            raise ValueError(
                f"the text has {ids.shape[1]} tokens, but the model takes at most {most}; "
                "shorten it"
            )
        if self.vocabulary is not None and int(ids.max()) >= self.vocabulary:
            raise ValueError(
                f"the tokenizer gives the text word {int(ids.max())}, but the model has "
                f"{self.vocabulary}; they do not belong together"
            )
        return ids, batch["attention_mask"] if length is None else None

    def _require_words(self, texts: list[str], ids: Tensor) -> None:
        """See that something is left of each text."""
        nothing = self.tokenizer("")["input_ids"]
        padding = self.tokenizer.pad_token_id
        for text, row in zip(texts, ids.tolist(), strict=True):
            same = row[: len(nothing)] == nothing and set(row[len(nothing) :]) <= {padding}
            if text.strip() and same:
                raise ValueError(
                    f"the tokenizer finds no token in the text {short(text)}; its vocabulary may "
                    "be another model's, or incomplete"
                )

    def tokens(self, ids: Tensor) -> list[str]:
        """The tokens of one row of ids as words, without marks of word boundaries.

        Of byte-level vocabularies the text that the bytes stand for; a part of a letter is "�".
        """
        words = self.tokenizer.convert_ids_to_tokens(ids.tolist())
        if self._bytes:
            words = [self._read(word) for word in words]
        return as_shown(words)

    @property
    def _bytes(self) -> bool:
        inner = getattr(self.tokenizer, "backend_tokenizer", None)
        return "ByteLevel" in repr(getattr(inner, "decoder", None))

    def _read(self, word: str) -> str:
        if word.lstrip("Ġ").isascii() or word in self.tokenizer.all_special_tokens:
            return word
        return self.tokenizer.convert_tokens_to_string([word]).strip() or word


def _of_no_text(tokenizer: Any) -> frozenset[str]:
    """Words that stand for no text: all that are special but the one for unknown words."""
    unknown = getattr(tokenizer, "unk_token", None)
    roles = ("bos_token", "eos_token", "sep_token", "pad_token", "cls_token", "mask_token")
    twice = any(getattr(tokenizer, role, None) == unknown for role in roles)  # CLIP's
    return frozenset(tokenizer.all_special_tokens) - (set() if twice else {unknown})
