"""All metrics of both libraries in one `quantus.evaluate` call, with three methods."""

from __future__ import annotations

import numpy as np
import pytest
import quantus
from captum.attr import IntegratedGradients, Saliency

from captum_ib import IBA
from captum_ib.metrics import (
    ROAD,
    ConfidenceDrop,
    ConfidenceIncrease,
    Deletion,
    Insertion,
    InsertionMinusDeletion,
    LocalizationIoU,
    ROARPlus,
    explain_func,
)

# Quantus 0.5 turns arrays of one element into numbers in a way that numpy 1.25 deprecates.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Conversion of an array with ndim:DeprecationWarning"
)

QUIET = {"disable_warnings": True, "display_progressbar": False}


def test_one_call(vit, images, targets, capsys):
    metrics = {
        "Insertion": Insertion(steps=4),
        "Deletion": Deletion(steps=4),
        "ΔInsDel": InsertionMinusDeletion(steps=4),
        "Drop": ConfidenceDrop(),
        "Increase": ConfidenceIncrease(),
        "IoU": LocalizationIoU(),
        "ROAR+": ROARPlus(epochs=1, train_fraction=0.6),
        "ROAD": ROAD(percentages=[50], noise=0.0, **QUIET),
        "PixelFlipping": quantus.PixelFlipping(features_in_step=1024, **QUIET),
        "Selectivity": quantus.Selectivity(patch_size=16, **QUIET),
        "SensitivityN": quantus.SensitivityN(features_in_step=1024, **QUIET),
        "Completeness": quantus.Completeness(**QUIET),
        "PointingGame": quantus.PointingGame(**QUIET),
        "RankAccuracy": quantus.RelevanceRankAccuracy(**QUIET),
        "Sparseness": quantus.Sparseness(**QUIET),
        "MaxSensitivity": quantus.MaxSensitivity(nr_samples=1, **QUIET),
        "MPRT": quantus.MPRT(skip_layers=True, return_last_correlation=True, **QUIET),
    }
    methods = {
        "Saliency": explain_func(Saliency),
        "IG": explain_func(IntegratedGradients, n_steps=2),
        "IBA": explain_func(IBA, layer="blocks.0", n_steps=2, n_samples=2, seed=0),
    }
    masks = np.zeros((6, 1, 32, 32), dtype=int)
    masks[:, :, 8:24, 8:24] = 1
    results = quantus.evaluate(
        metrics,
        methods,
        vit,
        images,
        targets,
        s_batch=masks,
        explain_func_kwargs={},
        call_kwargs={"all": {"softmax": True, "device": "cpu"}},
    )
    # quantus.evaluate prints what a metric raises and goes on; here nothing may be raised.
    assert "Failed to evaluate" not in capsys.readouterr().out
    for name, explain in methods.items():
        assert set(results[name]) == set(metrics)
        attributions = explain(model=vit, inputs=images, targets=targets)
        alone = Insertion(steps=4)(vit, images, targets, attributions, device="cpu")
        np.testing.assert_allclose(results[name]["Insertion"], alone, rtol=1e-5)
        assert len(results[name]["Drop"]) == 6
        assert len(results[name]["ROAR+"]) == 1
        difference = np.subtract(results[name]["Insertion"], results[name]["Deletion"])
        np.testing.assert_allclose(results[name]["ΔInsDel"], difference, rtol=1e-5)
