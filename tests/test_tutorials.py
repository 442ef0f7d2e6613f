"""The notebooks are committed without outputs and open with how to change the model."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "tutorials").glob("*.ipynb"))


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_source_and_opens_with_how_to_change_the_model(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    opening = "".join(cells[0]["source"])
    assert cells[0]["cell_type"] == "markdown" and "change one line" in opening
    (name,) = re.findall(r'^(\w+) = "zoo:[\w-]+"$', "".join(code[0]["source"]), flags=re.MULTILINE)
    assert f"`{name}`" in opening
