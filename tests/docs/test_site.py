"""What the docs build makes: the matrix, the pictures, the list of tutorials, the API's pages."""

from __future__ import annotations

import doctest
import importlib
import inspect
import json
import re
import subprocess
import sys
from configparser import ConfigParser

import numpy as np
import pytest
from PIL import Image

import captum_ib
from captum_ib.methods import METHODS
from tests.docs.pages import DOCS, PAGES, ROOT

pytest.importorskip("sphinx", reason="pip install 'captum_ib[docs]'")


@pytest.fixture
def extension(monkeypatch):
    """Import a module of docs/ or docs/_ext/ by its name."""
    monkeypatch.syspath_prepend(DOCS)
    monkeypatch.syspath_prepend(DOCS / "_ext")
    return importlib.import_module


def test_the_matrix_has_a_row_for_every_method_in_captums_columns(extension):
    matrix = extension("matrix")
    lines = matrix.table()
    head = [cell.strip() for cell in lines[0].strip("|").split("|")]
    assert head[:4] == ["Algorithm", "Type", "Application", "Space complexity"]
    assert [re.findall(r"`(\w+)`", line)[0] for line in lines[2:]] == list(METHODS)
    assert all(line.count(" | ") == len(head) - 1 for line in lines)


@pytest.mark.parametrize(
    ("name", "kind", "space", "passes", "baseline"),
    [
        ("coiba", "Information bottleneck", "#draws · #examples", "Forward and", "Optional (ref"),
        ("m2ib", "Information bottleneck", "#draws · #examples", "Forward and", "Optional (ref"),
        ("nib", "Gradient", "#steps · #examples", "Forward and", "Optional (where"),
        # The rows of Captum's own matrix.
        ("ig", "Gradient", "O(#steps · #examples · #features)", "Forward and", "Optional (where"),
        ("iia", "Attention", "#steps · #examples", "Forward and", "Optional (where"),
        ("saliency", "Gradient", "O(#examples · #features)", "Forward and", "No"),
        ("rise", "Perturbation", "#perturbations_per_eval · #examples", "Forward", "Optional"),
        ("attentionrollout", "Attention", "O(#examples · #features)", "Forward and", "No"),
    ],
)
def test_cells_of_the_matrix(extension, name, kind, space, passes, baseline):
    matrix = extension("matrix")
    cells = matrix.cells(METHODS[name])
    assert cells[1] == kind
    assert space in cells[3]
    assert cells[4].startswith(passes) and (cells[4] == "Forward") == (name == "rise")
    assert cells[6].startswith(baseline)


def test_the_matrix_of_one_kind(extension):
    matrix = extension("matrix")
    assert len(matrix.table("dual")) == 2 + sum("dual" in row.takes for row in METHODS.values())
    with pytest.raises(ValueError, match="classifier, dual or generator, given 'cnn'"):
        matrix.table("cnn")


def test_every_method_has_its_picture(extension):
    figures = extension("figures")
    pages = {name.split("/")[-1][:-3] for name in PAGES if name.startswith("docs/methods/")}
    pages -= {"axioms"}
    others = {"quickstart", "figures_styles", "figures_collapsed", "figures_texts", "bits_strip"}
    assert pages == set(figures.PICTURES) - others
    for name in pages:
        assert f"](../images/methods/{name}.png)" in PAGES[f"docs/methods/{name}.md"]
    for name in others - {"quickstart", "bits_strip"}:
        assert f"](images/methods/{name}.png)" in PAGES["docs/figures.md"]


@pytest.mark.parametrize("name", ["iba", "coiba", "m2ib", "nib", "ca_m2ib", "com2ib"])
def test_defaults_on_the_pages_are_those_of_the_classes(name):
    page = PAGES[f"docs/methods/{name}.md"]
    parameters = inspect.signature(METHODS[name.replace("_", "")].cls.attribute).parameters
    table = page.split("| default | source |")[1].split("\n\n")[0]
    assert f"{parameters['n_steps'].default} " in table and " steps" in table
    if "beta" in parameters:
        assert f"β = {parameters['beta'].default:g}" in table
        draws = parameters["n_samples"].default
        kind = "antithetic draws" if parameters["antithetic"].default else "draws"
        assert f"{draws} {kind}" in table
    if "prior" in parameters:
        standard = "N(0, 1)" in table
        assert standard == (parameters["prior"].default == "standard")


def test_a_picture_is_replaced_only_where_it_changed(extension, tmp_path):
    figures = extension("figures")
    assert figures.draw_all(tmp_path, ("iba",)) == ["iba.png"]
    assert figures.same(tmp_path / "iba.png", DOCS / "images" / "methods" / "iba.png")
    assert not figures.same(tmp_path / "iba.png", DOCS / "images" / "methods" / "coiba.png")
    first = (tmp_path / "iba.png").stat().st_mtime_ns
    assert figures.draw_all(tmp_path, ("iba",)) == []
    assert (tmp_path / "iba.png").stat().st_mtime_ns == first
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "iba.png")
    assert figures.draw_all(tmp_path, ("iba",)) == ["iba.png"]


def test_tutorials_are_listed_by_what_they_say(extension, tmp_path):
    notebooks = extension("notebooks")
    source = ["# Two sounds\n", "\n", "A first\n", "paragraph.\n", "\n", "A second."]
    cells = {"cells": [{"cell_type": "markdown", "source": source}]}
    (tmp_path / "9_sounds.ipynb").write_text(json.dumps(cells))
    assert notebooks.listing(tmp_path)[:3] == ["## Two sounds", "", "A first paragraph."]
    source = ["# Title\n\nYou know this line:\n\n```\nx.\n```\n\nTo try it, change one line."]
    (tmp_path / "9_sounds.ipynb").write_text(json.dumps({"cells": [{"source": source}]}))
    assert notebooks.listing(tmp_path)[2] == "You know this line."
    (tmp_path / "9_sounds.ipynb").write_text(json.dumps({"cells": [{"source": ["No title"]}]}))
    with pytest.raises(ValueError, match=r"9_sounds\.ipynb opens without a title"):
        notebooks.listing(tmp_path)


@pytest.mark.parametrize("name", ["docstrings", "mathml"])
def test_examples_in_the_extensions(extension, name):
    found = doctest.testmod(extension(name))
    assert found.failed == 0 and found.attempted > 0


ROOMS = tuple(path.stem for path in (DOCS / "api").glob("*.md") if path.stem != "index")


HERE = ("explain", "Explanation", "InputWarning")


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_has_a_place_in_the_api(room):
    page = PAGES[f"docs/api/{room}.md"]
    if f"automodule:: captum_ib.{room}\n" in page:
        return
    if callable(getattr(captum_ib, room)):  # a page of names that belong to no room
        assert all(f":: captum_ib.{name}\n" in page for name in HERE)
        return
    package = importlib.import_module(f"captum_ib.{room}")
    own = "".join(text for name, text in PAGES.items() if name.startswith(f"docs/api/{room}/"))
    for name in package.__all__:
        assert f":: captum_ib.{room}.{name}\n" in page + own, name


@pytest.mark.parametrize(
    "name", [row.title for row in METHODS.values() if row.cls_path.startswith("captum_ib.")]
)
def test_every_method_has_a_page_of_its_own_in_the_api(name):
    pages = [page for page in PAGES if page.endswith(f"/{name.lower()}.md") and "/api/" in page]
    assert len(pages) == 1 and PAGES[pages[0]].startswith(f"# {name}\n")
    assert len(re.findall(r":: captum_ib\.", PAGES[pages[0]])) == 1


def test_every_public_package_has_a_page_in_the_api():
    rooms = set(captum_ib.__all__) & {path.stem for path in (ROOT / "captum_ib").iterdir()}
    assert rooms and rooms <= set(ROOMS)


def test_every_extra_is_on_the_page_of_installing():
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    table = re.findall(r"^\| `captum_ib\[(\w+)\]`", PAGES["docs/install.md"], flags=re.MULTILINE)
    assert set(table) == set(setup["options.extras_require"])


@pytest.mark.slow
def test_the_docs_build_without_warnings(tmp_path):
    command = ["-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(tmp_path)]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "methods" / "iba.html").read_text(encoding="utf-8")
    assert "<math " in page and 'src="../_images/iba.png"' in page
    for html in tmp_path.rglob("*.html"):  # nothing is fetched when a page is read
        fetched = re.findall(
            r'<(?:script|img|iframe)[^>]+src="(http[^"]+)"|<link[^>]+stylesheet[^>]+href="(http[^"]+)"',
            html.read_text(encoding="utf-8"),
        )
        assert fetched == [], html.name
