"""What is taken when a person names no method, layer or setting."""

from __future__ import annotations

import inspect

import pytest
import torch

from captum_ib import IBA, M2IB, NIB, CoIBA, DualEncoder, methods, zoo
from captum_ib.models.layers import CHOICES
from captum_ib.presets import PRESETS, preset_of, recommended_method

ROWS = [(name, method) for name, rows in PRESETS.items() for method in rows]


@pytest.mark.parametrize(("name", "method"), ROWS)
def test_a_row_names_what_exists(name, method):
    row, preset = methods.get(method), preset_of(method, name)
    parameters = inspect.signature(row.cls.attribute).parameters
    assert preset is PRESETS[name][method]
    assert preset.layers in CHOICES
    assert set(preset.settings) <= set(parameters)
    assert all(parameters[key].default != value for key, value in preset.settings.items())
