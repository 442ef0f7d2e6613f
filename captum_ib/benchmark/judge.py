"""All metrics of a run on one method's maps, so that one sample's trouble stays its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from captum_ib.benchmark.catalogue import METRICS
from captum_ib.benchmark.columns import (
    Case,
    Column,
    Confidence,
    Difference,
    Perturbation,
    Setting,
    Words,
)
from captum_ib.benchmark.columns_quantus import (
    CompletenessGap,
    Located,
    MaxSensitivity,
    Randomised,
    Road,
    Sparseness,
)
from captum_ib.benchmark.config import MetricConfig
from captum_ib.benchmark.metrics import per_sample
from captum_ib.benchmark.subjects import Reader
from captum_ib.models.dual_encoder import DualEncoder

COLUMNS: dict[str, type[Column]] = {
    "insertion": Perturbation,
    "deletion": Perturbation,
    "insdel": Difference,
    "road": Road,
    "pointing_game": Located,
    "iou": Located,
    "relevance_rank": Located,
    "sparseness": Sparseness,
    "drop_image": Confidence,
    "increase_image": Confidence,
    "drop_text": Confidence,
    "increase_text": Confidence,
    "word_share": Words,
    "word_auc": Words,
    "max_sensitivity": MaxSensitivity,
    "completeness": CompletenessGap,
    "mprt": Randomised,
}

PROBLEMS = (
    ValueError,
    TypeError,
    RuntimeError,
    AssertionError,
    ArithmeticError,
    LookupError,
    AttributeError,
)
"""What a method or metric may raise for a sample; it is recorded, and the run goes on."""

BLANK = "a"
"""The word that replaces a removed one: an article, which says nothing of the picture."""


@dataclass
class Scores:
    """What the metrics say about N samples.

    Attributes:
        values: per label ``(N,)``; NaN where there is no score.
        curves: per label of a metric with curves, one array per sample, or ``None``.
        problems: per sample why a metric failed on it.
    """

    values: dict[str, np.ndarray] = field(default_factory=dict)
    curves: dict[str, list[np.ndarray | None]] = field(default_factory=dict)
    problems: dict[int, str] = field(default_factory=dict)


class Judge:
    """The metrics of a run that have one score per sample.

    Args:
        columns: the run's metrics; those over the whole set are left to :mod:`.whole`.
        setting: the model.

    Raises:
        ValueError: a metric that is not for this kind of model, or a setting out of range.
    """

    def __init__(self, columns: Sequence[MetricConfig], setting: Setting) -> None:
        kind = "dual" if isinstance(setting.model, DualEncoder) else "classifier"
        for column in columns:
            if kind not in METRICS[column.metric].kinds:
                fitting = ", ".join(name for name, entry in METRICS.items() if kind in entry.kinds)
                raise ValueError(f"{column.metric} can't judge a {kind}; use: {fitting}")
        wanted = per_sample(tuple(columns))
        self.columns = [COLUMNS[column.metric](column, setting) for column in wanted]

    def __call__(self, case: Case) -> Scores:
        """Scores of all metrics; a metric that fails on a batch is asked sample by sample."""
        scores = Scores()
        for column in self.columns:
            label = column.config.label
            try:
                values, curves = _ask(column, case)
            except PROBLEMS as error:
                values, curves = self._one_by_one(column, case, error, scores)
            scores.values[label] = values
            if curves is not None:
                scores.curves[label] = curves
        return scores

    def _one_by_one(
        self, column: Column, case: Case, error: Exception, scores: Scores
    ) -> tuple[np.ndarray, list[np.ndarray | None] | None]:
        count = len(case.subjects)
        values = np.full(count, np.nan)
        curves: list[np.ndarray | None] = [None] * count
        for row in range(count):
            try:
                if count == 1:
                    raise error
                one, line = _ask(column, case.alone(row))
                values[row] = one[0]
                curves[row] = None if line is None else line[0]
            except PROBLEMS as problem:
                reason = f"{column.config.label}: {first_line(problem)}"
                scores.problems[row] = "; ".join(filter(None, [scores.problems.get(row), reason]))
        return values, curves if any(line is not None for line in curves) else None


def _ask(column: Column, case: Case) -> tuple[np.ndarray, list[np.ndarray | None] | None]:
    values = np.asarray(column.scores(case), dtype=np.float64)
    if values.shape != (len(case.subjects),):
        raise ValueError(f"{values.shape} scores for {len(case.subjects)} samples")
    curves = column.curves(case)
    return values, None if curves is None else list(curves.astype(np.float32))


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    text = " ".join(str(error).split())
    return text or type(error).__name__


def setting_of(reader: Reader, device: torch.device, model: nn.Module) -> Setting:
    """What the metrics need to know of the model."""
    loaded = reader.loaded
    special, blank = (), None
    if loaded.tokenizer is not None and loaded.tokens is not None:
        special = special_ids(reader)
        blank = _blank(reader, special)
    return Setting(model, str(device), loaded.mean, loaded.std, special, blank)


def special_ids(reader: Reader) -> tuple[int, ...]:
    """Ids of the tokens that stand for no text: begin, end, padding."""
    inner = reader.loaded.tokenizer
    while inner is not None and not hasattr(inner, "all_special_ids"):
        names = ("pad_id", "bos_id", "eos_id", "sot_token_id", "eot_token_id")
        found = {getattr(inner, name) for name in names if hasattr(inner, name)}
        if found:
            # open_clip pads with 0 behind the end, which is a word in front of it.
            return tuple(sorted(int(number) for number in found))
        inner = getattr(inner, "tokenizer", None)
    return tuple(sorted(set(getattr(inner, "all_special_ids", ()))))


def _blank(reader: Reader, special: Sequence[int]) -> Callable[[str | None], int]:
    """Word → the id that replaces a removed token."""

    def find(word: str | None) -> int:
        text = BLANK if word is None else word
        tokenizer = reader.loaded.tokenizer
        assert tokenizer is not None
        try:
            ids = tokenizer([text])[0][0].tolist()
        except ValueError as error:
            raise ValueError(f"blank {text!r} is no word of the model: {error}") from error
        content = [number for number in ids if number not in special]
        if len(content) != 1:
            raise ValueError(
                f"blank {text!r} is {len(content)} tokens of the model, expected one; set blank to "
                "a short word that says nothing"
            )
        return content[0]

    return find
