"""How well a text's map finds the words that carry content, where the truth is known."""

from __future__ import annotations

import numpy as np
import torch

from captum_ib.zoo.evaluate import auc


def word_share(values: np.ndarray, valid: np.ndarray, content: np.ndarray) -> float:
    """The share of the positive attribution of the words that lies on content words, in [0, 1].

    Args:
        values: ``(T,)``, attribution per token.
        valid: ``(T,)`` bool, the tokens that stand for text.
        content: ``(T,)`` bool, those of words that carry content.

    Returns:
        NaN where no word has a positive attribution.

    >>> word_share(np.array([9.0, 3.0, 1.0]), np.array([0, 1, 1]) > 0, np.array([0, 1, 0]) > 0)
    0.75
    """
    positive = np.clip(values, 0, None, dtype=np.float64) * valid
    total = positive.sum()
    return float((positive * content).sum() / total) if total > 0 else float("nan")


def word_auc(values: np.ndarray, valid: np.ndarray, content: np.ndarray) -> float:
    """How often a content word has more attribution than another word, ties counting half.

    Arguments as for :func:`word_share`.

    Returns:
        In [0, 1]; NaN where all words carry content, or none.

    >>> word_auc(np.array([9.0, 3.0, 1.0]), np.array([0, 1, 1]) > 0, np.array([0, 1, 0]) > 0)
    1.0
    """
    words, truth = torch.from_numpy(values[valid]), torch.from_numpy(content[valid])
    return float(auc(words, truth)) if truth.any() and not truth.all() else float("nan")
