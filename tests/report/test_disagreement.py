"""Columns that contradict each other: what is compared, said and drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from captum_ib.report import disagreement, plots, read_tables, tables
from tests.report.folders import Folder

METHODS = ["coiba", "nib", "saliency"]
LABELS = ("CoIBA", "NIB", "Saliency")


def table_of(folder, scores, metrics=("insertion", "deletion", "iou"), methods=METHODS):
    """A table whose methods have the given number in every sample, plus what is even in all."""

    def score(index, method, seed, metric):
        return scores[metric][LABELS.index(method)]

    config = {"methods": methods, "metrics": list(metrics)}
    (table,) = read_tables([Folder(config=config, score=score).write(folder)])
    return table


def taus(table):
    pairs = disagreement.agreements(table)
    return {(pair.first.label, pair.second.label): pair.tau for pair in pairs}


def test_orders_are_read_from_the_better_end(tmp_path):
    scores = {"insertion": (3.0, 2, 1), "deletion": (1.0, 2, 3), "iou": (0.1, 0.3, 0.2)}
    found = taus(table_of(tmp_path, scores))
    # Low deletion is good: the first two agree in full. IoU agrees with one pair of three.
    assert found == {
        ("insertion", "deletion"): 1.0,
        ("insertion", "iou"): pytest.approx(-1 / 3),
        ("deletion", "iou"): pytest.approx(-1 / 3),
    }


def test_opposite_orders_are_said_below_the_table(tmp_path):
    scores = {"insertion": (3.0, 2, 1), "deletion": (3.0, 2, 1), "iou": (0.3, 0.2, 0.1)}
    table = table_of(tmp_path, scores)
    assert disagreement.sentences(table) == [
        "Metrics that order the methods against each other (Kendall's τ below 0; −1: in opposite "
        "order): Insertion and Deletion (−1.00, 3 methods); Deletion and IoU (−1.00, 3 methods)."
    ]
    said = "Insertion and Deletion (−1.00, 3 methods)"
    assert said in " ".join(tables.text([table]).split())
    assert said in tables.markdown([table])


def test_agreement_and_ties_say_nothing(tmp_path):
    scores = {"insertion": (3.0, 2, 1), "deletion": (1.0, 2, 3), "iou": (0.2, 0.2, 0.2)}
    table = table_of(tmp_path, scores)
    assert disagreement.sentences(table) == []
    assert math.isnan(taus(table)["insertion", "iou"])  # one number only: no order
    figure = disagreement.plot(table)
    assert figure is not None
    ticks = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert ticks == ["Insertion ↑", "Deletion ↓"]


def test_two_methods_are_too_few(tmp_path):
    scores = {"insertion": (3.0, 2), "deletion": (3.0, 2), "iou": (0.3, 0.2)}
    table = table_of(tmp_path, scores, methods=METHODS[:2])
    assert all(math.isnan(tau) for tau in taus(table).values())
    assert disagreement.sentences(table) == [] and disagreement.plot(table) is None


def test_the_picture_holds_the_numbers(tmp_path):
    scores = {"insertion": (3.0, 2, 1), "deletion": (3.0, 2, 1), "iou": (0.1, 0.3, 0.2)}
    table = table_of(tmp_path, scores)
    (figure,) = [figure for name, figure in plots.figures(table) if name == "metrics"]
    drawn = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(drawn, [[1, -1, -1 / 3], [-1, 1, 1 / 3], [-1 / 3, 1 / 3, 1]])


def test_parts_of_a_metric_are_not_compared(tmp_path):
    whole = [
        (label, 0, name, value)
        for label, value in zip(LABELS, (0.3, 0.2, 0.1), strict=True)
        for name in ("grid_pointing", "grid_pointing:side")
    ]
    config = {"methods": METHODS, "metrics": ["iou", "grid_pointing"]}
    folder = Folder(config=config, score=lambda i, method, *_: LABELS.index(method), whole=whole)
    (table,) = read_tables([folder.write(tmp_path)])
    assert taus(table) == {("iou", "grid_pointing"): -1.0}


def test_a_method_without_a_score_is_left_out(tmp_path):
    scores = {"insertion": (3.0, 2, 1), "deletion": (3.0, None, 1), "iou": (0.3, 0.2, 0.1)}
    pairs = disagreement.agreements(table_of(tmp_path, scores))
    assert [pair.methods for pair in pairs] == [2, 3, 2]
    assert math.isnan(pairs[0].tau) and pairs[1].tau == 1


def test_kendall_is_scipys():
    rng = np.random.default_rng(0)
    for _ in range(5):
        one, other = rng.integers(0, 4, (2, 7)).astype(float)
        expected = stats.kendalltau(one, other).statistic
        assert disagreement.kendall(one, other) == pytest.approx(expected)
