"""The notebooks: sources without outputs, one line to change, no network, a picture at the end.

`make tutorials` runs them; here is what can be seen without running.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "tutorials").glob("*.ipynb"))
ROOT = Path(__file__).parents[1]

# Notebook 5 brings its own model: no trained CLAP can come with the package.
MODEL_LINE = re.compile(r'^(\w+) = "(?:zoo:[\w-]+|built here)"$', flags=re.MULTILINE)
REAL = ("openai/clip-vit-base-patch32", "vit_base_patch16_224", "laion/clap-htsat-unfused")
DRAWS = ("imshow", "errorbar", "scatter", "contour")
NETWORK = re.compile(r"https?://|\b(?:urllib|requests|wget|curl|hf_hub_download)\b")
ABSOLUTE = re.compile(r"""["'](?:/(?:home|work|tmp|root|Users|mnt)\b|~/|[A-Z]:\\)""")


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def sources(path: Path, kind: str) -> list[str]:
    return ["".join(cell["source"]) for cell in read(path)["cells"] if cell["cell_type"] == kind]


def python(source: str) -> str:
    """A cell without the lines that are IPython's."""
    return "\n".join("" if line.startswith("%") else line for line in source.splitlines())


every = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_the_seven_are_there():
    assert [path.stem[:2] for path in NOTEBOOKS] == [f"{number}_" for number in range(1, 8)]


@every
def test_is_source(path):
    notebook = read(path)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    names = [cell["id"] for cell in notebook["cells"]]
    assert len(set(names)) == len(names)


@every
def test_opens_with_how_to_change_the_model(path):
    opening, first = read(path)["cells"][:2]
    text = " ".join("".join(opening["source"]).split())
    assert opening["cell_type"] == "markdown" and text.startswith("# ")
    assert "change one line" in text and any(name in text for name in REAL)
    (name,) = MODEL_LINE.findall("".join(first["source"]))
    assert f"`{name}`" in text
    assert any(re.search(rf"\b{name}\b", source) for source in sources(path, "code")[1:])


@every
def test_code_parses_and_stays_on_this_machine(path):
    for source in sources(path, "code"):
        code = python(source)
        ast.parse(code)
        assert not NETWORK.search(code)
        assert not ABSOLUTE.search(code)


@every
def test_is_seeded(path):
    code = "\n".join(map(python, sources(path, "code")))
    assert re.search(r"\bseeds?\b\W", code) or "manual_seed" in code


@every
def test_ends_in_a_picture_with_numbers_before_it(path):
    code = sources(path, "code")
    assert any(draw in code[-1] for draw in DRAWS)
    assert any("print(" in source for source in code)


@every
def test_links_lead_somewhere(path):
    for text in sources(path, "markdown"):
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", text):
            assert (path.parent / target).exists(), target
