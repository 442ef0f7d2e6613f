"""The package itself: lazy, complete, and real Quantus metrics."""

from __future__ import annotations

import subprocess
import sys

import pytest
import quantus
from quantus.helpers.enums import EvaluationCategory, ModelType, ScoreDirection

import captum_ib.metrics
from captum_ib.metrics import (
    ConfidenceDrop,
    ConfidenceIncrease,
    Deletion,
    Insertion,
    InsertionMinusDeletion,
    LocalizationIoU,
    ROARPlus,
)

METRICS = {
    Insertion: ("higher", "Faithfulness"),
    Deletion: ("lower", "Faithfulness"),
    InsertionMinusDeletion: ("higher", "Faithfulness"),
    ConfidenceDrop: ("lower", "Faithfulness"),
    ConfidenceIncrease: ("higher", "Faithfulness"),
    LocalizationIoU: ("higher", "Localisation"),
    ROARPlus: ("higher", "Faithfulness"),
}


def test_importing_loads_neither_quantus_nor_torch():
    code = (
        "import sys, captum_ib.metrics; "
        "sys.exit(str([n for n in ('quantus', 'torch', 'matplotlib') if n in sys.modules]) != '[]')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_every_exported_name_exists():
    for name in captum_ib.metrics.__all__:
        assert getattr(captum_ib.metrics, name).__module__.startswith("captum_ib.metrics")
    assert dir(captum_ib.metrics) == sorted(captum_ib.metrics.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Accuracy'"):
        _ = captum_ib.metrics.Accuracy


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.__name__)
def test_class_attributes_are_quantus(metric):
    direction, category = METRICS[metric]
    assert issubclass(metric, quantus.metrics.base.Metric)
    assert metric.score_direction is ScoreDirection(direction)
    assert metric.evaluation_category is EvaluationCategory(category)
    assert metric.model_applicability == {ModelType.TORCH}
    assert metric.name
    built = metric(abs=True, normalise=True, display_progressbar=False)
    assert built.get_params["abs"] is True
    assert built.get_params["normalise"] is True
