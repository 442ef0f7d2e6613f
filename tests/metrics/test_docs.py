"""The code of docs/metrics.md runs as it stands, and its table names what the package exports."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import captum_ib.metrics

# Quantus 0.5 turns arrays of one element into numbers in a way that numpy 1.25 deprecates.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Conversion of an array with ndim:DeprecationWarning"
)

PAGE = (Path(__file__).parents[2] / "docs/metrics.md").read_text(encoding="utf-8")


def test_code_runs(capsys):
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(compile(block, "docs/metrics.md", "exec"), names)
    assert "Failed to evaluate" not in capsys.readouterr().out
    assert set(names["results"]) == {"IBA", "CoIBA", "IG"}
    np.testing.assert_allclose(
        names["difference"], names["both"].insertion - names["both"].deletion, rtol=1e-6
    )
    assert names["agreement"].ssim.shape == (3, 3)
    assert names["certificate"].rate.shape == (4,)


def test_every_name_is_on_the_page():
    for name in captum_ib.metrics.__all__:
        assert f"{name}" in PAGE, name
    for anchor in re.findall(r"\]\(#([\w-]+)\)", PAGE):
        titles = re.findall(r"^## (.+)$", PAGE, flags=re.MULTILINE)
        slugs = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
        assert anchor in slugs, anchor
