"""The metrics of captum_ib that papers of 2020 to 2026 print, as columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from captum_ib import metrics
from captum_ib.benchmark.columns import Case, Column
from captum_ib.benchmark.reader import Logits, Reader

_LOCATED = {
    "pixel_accuracy": "PixelAccuracy",
    "mean_iou": "MeanIoU",
    "average_precision": "AveragePrecision",
    "energy_pointing": "EnergyPointingGame",
}
_ORDERED = {"morf": "MoRF", "lerf": "LeRF"}


class Masked(Column):
    """Metrics that compare with the mask; NaN for a sample without one."""

    def _make(self) -> Any:
        cls = getattr(metrics, _LOCATED[self.config.metric])
        return cls(undefined="nan", **self.options)

    def _scores(self, case: Case) -> np.ndarray:
        masks = case.subjects.truth[:, None]
        return np.array(self.call(self._make(), case.x, case.y, case.a, s_batch=masks))


class Ordered(Column):
    """MoRF and LeRF with their curves, and SRG, their difference."""

    def _make(self, name: str = "morf") -> Any:
        cls = getattr(metrics, _ORDERED[name])
        return cls(undefined="nan", **black(self.reader, self.options), **self.options)

    def _scores(self, case: Case) -> np.ndarray:
        if self.config.metric == "srg":
            return self._both(case, "lerf")[0] - self._both(case, "morf")[0]
        return self._both(case, self.config.metric)[0]

    def _curves(self, case: Case) -> np.ndarray | None:
        return None if self.config.metric == "srg" else self._both(case, self.config.metric)[1]

    def _both(self, case: Case, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Areas and curves; what a column of the same settings found is not computed again."""
        key = (name, tuple(sorted(self.options.items())))
        if key not in case.known:
            metric = self._make(name)
            areas = np.array(self.call(metric, case.x, case.y, case.a))
            case.known[key] = areas, metric.curves
        return case.known[key]


class Fidelity(Column):
    """μFidelity, of a classifier's logits or of a pair's cosine."""

    def _make(self) -> Any:
        return metrics.MuFidelity(
            undefined="nan", **black(self.reader, self.options), **self.options
        )

    def _scores(self, case: Case) -> np.ndarray:
        model = raw(self.reader)
        return np.array(self.call(self._make(), case.x, case.y, case.a, softmax=False, model=model))


class Completeness(Column):
    """The completeness error; the sum is that of the map as the method gives it."""

    def _make(self) -> Any:
        return metrics.CompletenessError(
            undefined="nan", **black(self.reader, self.options), **self.options
        )

    def _scores(self, case: Case) -> np.ndarray:
        # Only the sum counts: upsampling would change it.
        sums = case.maps.image.double().sum((1, 2, 3)).numpy()
        size = case.a.shape
        spread = np.broadcast_to(sums[:, None, None, None] / np.prod(size[1:]), size).copy()
        model = raw(self.reader)
        return np.array(self.call(self._make(), case.x, case.y, spread, softmax=False, model=model))


class Synergy(Column):
    """Synergistic faithfulness of the maps of picture and caption."""

    def _make(self) -> Any:
        text = self.reader.text
        assert text is not None
        options = dict(self.options)
        return metrics.SynergisticFaithfulness(
            undefined="nan",
            blank_token=text.blank(options.pop("blank", None)),
            special_tokens=text.special_ids,
            **black(self.reader, options),
            **options,
        )

    def _scores(self, case: Case) -> np.ndarray:
        words = case.pairs[1]
        return np.array(self.call(self._make(), case.x, case.y, case.a, custom_batch=words))


def black(reader: Reader, options: dict[str, Any]) -> dict[str, Any]:
    """What tells a metric the picture's black, unless its settings name a baseline."""
    loaded = reader.loaded
    return {} if "baseline" in options else {"mean": loaded.mean, "std": loaded.std}


def raw(reader: Reader) -> Any:
    """The model whose output is attributed: a classifier's logits, or a pair's cosine."""
    return reader.model if reader.loaded.kind == "dual" else Logits(reader.model)
