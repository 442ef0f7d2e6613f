"""The rule for collapsed maps: its thresholds, its trace, its warning."""

from __future__ import annotations

import warnings

import pytest
import torch

from captum_ib import IBA, CoIBA, zoo
from captum_ib.bottleneck import FitTrace
from captum_ib.collapse import (
    CollapsedMapWarning,
    collapses_of,
    is_collapsed,
    warn_if_collapsed,
)


def trace(*compression: float) -> FitTrace:
    terms = torch.tensor(compression)[:, None]
    return FitTrace(terms, torch.zeros_like(terms), terms)


def test_without_a_trace_a_map_needs_one_bit_in_one_place():
    maps = torch.tensor([[0.99, 0.5], [0.0, 1.0], [0.0, 0.0]])
    assert is_collapsed(maps).tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("peak", "last", "kind"),
    [
        # Four positions, 10 bits in all: the peak keeps (last / 5) · 4 · peak / 10.
        (7.0, 0.0088, "nothing"),  # 0.00493
        (7.0, 0.0090, None),  # 0.00504
        (2.5, 0.0240, "nothing"),  # even, 0.0048
        (2.5, 0.0260, None),  # even, 0.0052
        (7.0, 4.49, None),
        (7.0, 4.51, "everything"),  # more than 0.9 of the start
    ],
)
def test_with_a_trace_the_share_of_the_possible_information_counts(peak, last, kind):
    rest = (10 - peak) / 3
    bits = torch.tensor([[peak, rest, rest, rest]])
    (found,) = collapses_of(bits, trace(5.0, last))
    assert (found and found.kind) == kind


def test_a_sum_of_nothing_is_nothing_and_no_price_keeps_everything():
    (found,) = collapses_of(torch.zeros(1, 1, 2, 2), trace(5.0, 1.0))
    assert (found.kind, found.bits, found.peak) == ("nothing", 0.0, 0.0)
    (found,) = collapses_of(torch.full((1, 1, 2, 2), 50.0), trace(0.0, 0.0))  # β = 0
    assert (found.kind, found.bits) == ("everything", 200.0)


def test_the_warning_names_samples_and_mend():
    maps = torch.tensor([[0.1, 0.2], [0.0, 9.0], [0.3, 0.1]])
    message = (
        r"CoIBA kept nothing: 0\.2 bits at most in one place for 2 of 3 samples \(0, 2\), so the "
        r"map shows no selection; take an earlier layer .*, or lower beta by factors of ten"
    )
    with pytest.warns(CollapsedMapWarning, match=message):
        assert warn_if_collapsed(maps, name="CoIBA")
    with pytest.warns(CollapsedMapWarning, match="IBA kept everything: 11 bits.*raise beta"):
        warn_if_collapsed(torch.tensor([[4.0, 7.0]]), trace(5.0, 4.9), name="IBA")


def test_good_maps_warn_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not warn_if_collapsed(torch.tensor([[0.0, 9.0]]), trace(5.0, 0.5))


@pytest.mark.parametrize(
    ("attribution", "told", "error", "message"),
    [
        ([[1.0]], None, TypeError, "must be a tensor, given list"),
        (torch.zeros(3), None, ValueError, r"one row per sample, given \(3,\)"),
        (torch.zeros(0, 3), None, ValueError, r"given \(0, 3\)"),
        (torch.tensor([[-1.0, 2.0]]), None, ValueError, "not in bits"),
        (torch.tensor([[torch.nan]]), None, ValueError, "not in bits"),
        (
            torch.ones(2, 3),
            trace(5.0, 1.0),
            ValueError,
            "2 samples is needed, given .* 1 samples",
        ),
        (torch.ones(1, 3), trace(5.0), ValueError, "at least two steps .* given one of 1 steps"),
    ],
)
def test_bad_input(attribution, told, error, message):
    with pytest.raises(error, match=message):
        collapses_of(attribution, told)


def test_on_the_zoo_a_collapsed_depth_is_told_from_a_good_one():
    vit = zoo.load("vit-scenes")
    scenes = zoo.scenes.labelled(4, seed=1_000_003, start=1000, objects=(3, 4), size=64)
    inputs = vit.normalize(scenes.images)
    options = {"target": scenes.labels, "seed": 0, "return_trace": True}
    assert is_collapsed(*IBA(vit.model, "blocks.4").attribute(inputs, **options)).sum() >= 3
    good = IBA(vit.model, "blocks.1").attribute(inputs, **options)
    assert is_collapsed(*good).tolist() == [False] * 4
    kept = CoIBA(vit.model).attribute(inputs, beta=1e-12, n_steps=2, **options)
    assert [found.kind for found in collapses_of(*kept)] == ["everything"] * 4
