"""The controls of figures: what they refuse, and that every surface offers the same."""

from __future__ import annotations

from dataclasses import fields

import pytest

from captum_ib.visualization import CONTROLS, Style, amount, style_from, unit_of
from captum_ib.visualization.numbers import amounts


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"opacity": 1.5}, ValueError, r"opacity must lie in \[0, 1\], given 1.5"),
        ({"opacity": "half"}, TypeError, "opacity is a number, given 'half'"),
        ({"percentile": 0}, ValueError, r"percentile must lie in \(0, 100\], given 0"),
        ({"contours": 2.5}, TypeError, "contours is a whole number, given 2.5"),
        ({"contours": True}, TypeError, "contours is a whole number, given True"),
        ({"columns": 1}, ValueError, r"columns must lie in \[2, 12\], given 1"),
        ({"grey": 1}, TypeError, "grey is True or False, given 1"),
        ({"cmap": "viridi"}, ValueError, "no colour map 'viridi'; nearest: viridis"),
    ],
)
def test_what_a_style_refuses(options, error, message):
    with pytest.raises(error, match=message):
        Style(**options)


def test_controls_are_fields_with_the_same_defaults():
    defaults = {field.name: field.default for field in fields(Style)}
    assert {control.name: control.default for control in CONTROLS} == {
        name: defaults[name] for name in ("opacity", "cmap", "grey", "contours", "masked")
    }


def test_values_of_a_surface_become_a_style():
    assert style_from({"opacity": None, "contours": 3}) == Style(contours=3)
    with pytest.raises(ValueError, match="a style has no 'alpha'; it has opacity, cmap"):
        style_from({"alpha": 1})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (6812.3, "6.8 k"),
        (212.4, "212"),
        (99.6, "100"),
        (999.7, "1 k"),
        (2.5e6, "2.5 M"),
        (0.0312, "0.031"),
        (0.00999, "0.01"),
        (-1.25, "−1.2"),
        (3.41e-5, "3.4 × 10⁻⁵"),
        (9.99e-5, "1 × 10⁻⁴"),
        (3e20, "3 × 10²⁰"),
    ],
)
def test_amounts(value, text):
    assert amount(value) == text


def test_numbers_side_by_side_have_the_same_decimals():
    assert amounts([0.0, 212.4, 3.6]) == ["0", "212", "4"]
    assert amounts([5e-4, -1e-5]) == ["5 × 10⁻⁴", "−1 × 10⁻⁵"]
    assert amounts([]) == []


def test_units_of_the_output():
    assert unit_of("output units", pair=False) == "logits"
    assert unit_of("output units", pair=True) == "cosine"
    assert unit_of("relative", pair=True) == "relative"
