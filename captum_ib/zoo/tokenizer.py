"""Split the captions of the scenes into words and number them: a word-level tokenizer."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

PAD, BOS, EOS = "<pad>", "<bos>", "<eos>"


class WordTokenizer:
    """A tokenizer that knows whole words only; the id of a word is its place in the list.

    A caption becomes ``<bos> word … word <eos>``, padded at the end. Upper case, commas and full
    stops are ignored.

    Args:
        words: The vocabulary. It starts with ``<pad>``, holds ``<bos>`` and ends with ``<eos>``:
            transformers' CLIP takes its text embedding where the end token is, which versions
            before 4.30 find as the highest id.
        max_length: Longest caption, ``<bos>`` and ``<eos>`` included.

    Example:
        >>> tokenizer = WordTokenizer(["<pad>", "<bos>", "a", "red", "circle", "<eos>"])
        >>> ids, mask = tokenizer.encode(["A red circle.", "red"])
        >>> ids.tolist()
        [[1, 2, 3, 4, 5], [1, 3, 5, 0, 0]]
        >>> tokenizer.tokens(ids[1])
        ['<bos>', 'red', '<eos>', '<pad>', '<pad>']
    """

    def __init__(self, words: Sequence[str], max_length: int = 16) -> None:
        if isinstance(words, str) or not all(isinstance(word, str) for word in words):
            raise TypeError("words must be a sequence of strings, one per token.")
        if len(words) < 4 or words[0] != PAD or BOS not in words or words[-1] != EOS:
            raise ValueError(
                f"words must start with {PAD!r}, hold {BOS!r} and end with {EOS!r}, with at least "
                f"one word between; got {list(words[:2])} … {list(words[-1:])}."
            )
        if len(set(words)) != len(words):
            twice = sorted(word for word, count in Counter(words).items() if count > 1)
            raise ValueError(f"words must be distinct; given more than once: {twice}.")
        if max_length < 3:
            raise ValueError(f"max_length must be at least 3 (begin, word, end); got {max_length}.")
        self.words = tuple(words)
        self.max_length = max_length
        self._ids = {word: index for index, word in enumerate(self.words)}
        self.pad_id, self.bos_id, self.eos_id = (self._ids[word] for word in (PAD, BOS, EOS))
        self.special_tokens = frozenset((PAD, BOS, EOS))

    def __len__(self) -> int:
        return len(self.words)

    def __call__(self, texts: Sequence[str], pad_to: int | None = None) -> tuple[Tensor, Tensor]:
        """Same as :meth:`encode`."""
        return self.encode(texts, pad_to)

    def encode(self, texts: Sequence[str], pad_to: int | None = None) -> tuple[Tensor, Tensor]:
        """Turn captions into padded token ids.

        Args:
            texts: N captions.
            pad_to: Length of the rows; by default that of the longest caption of the batch.

        Returns:
            ``input_ids`` and ``attention_mask`` (1 for tokens, 0 for padding), both ``(N, T)``
            int64.

        Raises:
            TypeError: If ``texts`` is one string, or holds anything but strings.
            ValueError: If there is no caption, one is empty, too long, or has an unknown word.
        """
        if isinstance(texts, str):
            raise TypeError(f"texts must be a list of strings; got one string. Pass [{texts!r}].")
        if not len(texts):
            raise ValueError("texts is empty; pass at least one caption.")
        rows = [self._encode_one(text) for text in texts]
        longest = max(map(len, rows))
        length = longest if pad_to is None else pad_to
        if not longest <= length <= self.max_length:
            raise ValueError(
                f"pad_to must be between {longest}, the longest caption's number of tokens, and "
                f"max_length={self.max_length}; got {pad_to}."
            )
        ids = torch.full((len(rows), length), self.pad_id, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = torch.tensor(row)
            mask[index, : len(row)] = 1
        return ids, mask

    def tokens(self, ids: Tensor | Sequence[int]) -> list[str]:
        """The word of each id of one row ``(T,)``, special tokens included."""
        row = ids.tolist() if isinstance(ids, Tensor) else list(ids)
        if any(not isinstance(index, int) for index in row):
            raise TypeError("ids must be one row of whole numbers, as encode(...)[0][i] gives.")
        outside = [index for index in row if not 0 <= index < len(self.words)]
        if outside:
            raise ValueError(f"ids must be in 0..{len(self.words) - 1}; got {outside}.")
        return [self.words[index] for index in row]

    def save(self, path: str | Path) -> None:
        """Write the vocabulary as a JSON list."""
        Path(path).write_text(json.dumps(list(self.words), indent=0) + "\n", encoding="utf-8")

    @classmethod
    def from_file(cls, path: str | Path, max_length: int = 16) -> WordTokenizer:
        """Read a vocabulary that :meth:`save` wrote."""
        words = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(words, list):
            raise ValueError(f"{path} must hold a JSON list of words; got {type(words).__name__}.")
        return cls(words, max_length)

    def _encode_one(self, text: str) -> list[int]:
        if not isinstance(text, str):
            raise TypeError(f"a caption must be a string; got {type(text).__name__}: {text!r}.")
        words = text.lower().replace(",", " ").replace(".", " ").split()
        if not words:
            raise ValueError(f"a caption must hold at least one word; got {text!r}.")
        if len(words) + 2 > self.max_length:
            raise ValueError(
                f"a caption may have at most {self.max_length - 2} words; got {len(words)}: "
                f"{text!r}. Shorten it."
            )
        return [self.bos_id, *(self._id(word, text) for word in words), self.eos_id]

    def _id(self, word: str, text: str) -> int:
        if word in self._ids and word not in (PAD, BOS, EOS):
            return self._ids[word]
        known = [known for known in self.words if known not in (PAD, BOS, EOS)]
        near = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
        hint = f"Did you mean {', '.join(map(repr, near))}?" if near else f"Known words: {known}."
        raise ValueError(f"the word {word!r} in {text!r} is not in the vocabulary. {hint}")
