"""The table of methods: every row can be imported and says what its class accepts."""

from __future__ import annotations

import inspect

import pytest

from captum_ib import methods
from captum_ib.methods import METHODS


@pytest.mark.parametrize("row", METHODS.values(), ids=METHODS)
def test_row_agrees_with_the_class(row):
    parameters = inspect.signature(row.cls.attribute).parameters
    assert set(row.options.values()) | set(row.settings) <= set(parameters)
    assert ("seed" in row.options) == ("seed" in parameters)
    assert row.name == row.name.lower() and METHODS[row.name] is row
    assert row.title == row.cls.__name__ and row.takes


@pytest.mark.parametrize("row", METHODS.values(), ids=METHODS)
def test_bits_are_never_signed(row):
    assert not (row.unit == "bits" and row.signed)


def test_get():
    assert methods.get("NIB") is METHODS["nib"]
    with pytest.raises(
        ValueError, match="unknown method 'cobia'; nearest: coiba, .*all: iba, coiba"
    ):
        methods.get("cobia")
    with pytest.raises(ValueError, match="unknown method 'zzz'; all: iba"):
        methods.get("zzz")


def test_for_kind():
    assert [row.name for row in methods.for_kind("dual")][:2] == ["m2ib", "nib"]
    assert "transformerattribution" not in [row.name for row in methods.for_kind("dual")]
    assert "m2ib" not in [row.name for row in methods.for_kind("classifier")]


def test_settings_reach_those_that_have_them():
    rows = [METHODS["iba"], METHODS["ig"], METHODS["saliency"]]
    given = {"beta": 2.0, "steps": 7, "samples": None, "seed": 1}
    assert methods.settings_for(rows, given) == {
        "iba": {"beta": 2.0, "n_steps": 7, "seed": 1},
        "ig": {"n_steps": 7, "internal_batch_size": 10},
        "saliency": {},
    }
    assert METHODS["ig"].settings == {"internal_batch_size": 10}  # the table stays as it is


def test_settings_that_mean_nothing():
    with pytest.raises(ValueError, match="samples means nothing to nib, ig: .*: iba, coiba, m2ib"):
        methods.settings_for([METHODS["nib"], METHODS["ig"]], {"samples": 3})
