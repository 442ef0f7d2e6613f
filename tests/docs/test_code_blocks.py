"""Every block of code in the README and the docs: Python runs, commands parse.

The blocks of a page share their names, and run in order in an empty folder. A block marked
```` ```python no-run ```` needs a download or somebody else's package and is only compiled.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
import typer

from captum_ib.cli import app, main
from captum_ib.cli.arguments import spread
from captum_ib.extras import MissingExtraError
from captum_ib.methods import METHODS
from captum_ib.models.families import FAMILIES
from tests.docs.pages import PAGES, ROOT, Block, blocks

SHELLS = ("bash", "console", "sh", "shell", "")
NOT_RUN_AT_MOST = 14
"""Blocks that are only compiled, in all pages together: a new one needs a reason."""

# Quantus 0.5 turns arrays of one element into numbers in a way that numpy 1.25 deprecates.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Conversion of an array with ndim:DeprecationWarning"
)


WIDEST = 103
"""Letters of a line of code that fit the pages on a screen of 1280 pixels."""


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/")])
def test_no_code_scrolls_sideways(page: str) -> None:
    lines = [line for block in blocks(PAGES[page]) for line in block.text.splitlines()]
    assert [line for line in lines if len(line) > WIDEST] == []


def python_blocks(page: str) -> list[Block]:
    return [block for block in blocks(PAGES[page]) if block.language == "python"]


def readme(names: dict[str, Any]) -> None:
    assert names["maps"].shape == (2, 1, 64, 64) and names["maps"].min() >= 0
    assert names["image_bits"].shape == (2, 1, 7, 7)
    assert names["word_bits"].shape == names["ids"].shape


def baselines(names: dict[str, Any]) -> None:
    assert names["maps"].shape[:2] == (2, 1)
    assert names["masked"].shape == (2, 1, *names["pixels"].shape[2:])
    assert names["image_map"].shape == (2, 1, 7, 7)
    assert names["word_map"].shape == (2, 5)
    assert names["gradients"].shape == (2, 3, 56, 56)


def metrics(names: dict[str, Any]) -> None:
    assert set(names["results"]) == {"IBA", "CoIBA", "IG"}
    np.testing.assert_allclose(
        names["difference"], names["both"].insertion - names["both"].deletion, rtol=1e-6
    )
    assert names["agreement"].ssim.shape == (3, 3)
    assert names["certificate"].rate.shape == (4,)


def why(names: dict[str, Any]) -> None:
    assert round(float(names["start"]), 1) == 7.2 and names["closed"] < 0.0001


def quickstart(names: dict[str, Any]) -> None:
    assert names["bits"].shape == (2, 1, 8, 8) and names["maps"].shape == (2, 1, 64, 64)
    assert names["image_bits"].shape == (2, 1, 7, 7)
    assert names["word_bits"].shape == names["ids"].shape
    assert (names["word_bits"][names["mask"] == 0] == 0).all()


def faq(names: dict[str, Any]) -> None:
    assert names["agreement"].min() > 0.999


def models(names: dict[str, Any]) -> None:
    assert names["attribution"].shape == (2, 4) and names["attribution"][1, 3] == 0
    assert names["image_map"].shape == names["class_map"].shape == (2, 1, 7, 7)


def migrating(names: dict[str, Any]) -> None:
    assert names["maps"].amin() == 0 and names["maps"].amax() == 1


def add_a_model(names: dict[str, Any]) -> None:
    assert names["image_bits"].shape == (2, 1, 4, 4) and names["word_bits"].shape == (2, 4)


def arrays(names: dict[str, Any]) -> None:
    assert names["where_each_word_looks"].shape[2:] == (7, 7)


def install(names: dict[str, Any]) -> None:
    assert set(names["captum_ib"].zoo.names()) == {"clip-scenes", "vit-scenes", "vit-relations"}


CHECKS: dict[str, Callable[[dict[str, Any]], None]] = {
    "README.md": readme,
    "docs/add_a_model.md": add_a_model,
    "docs/baselines.md": baselines,
    "docs/faq.md": faq,
    "docs/install.md": install,
    "docs/methods/ca_m2ib.md": arrays,
    "docs/metrics.md": metrics,
    "docs/migrating.md": migrating,
    "docs/models.md": models,
    "docs/quickstart.md": quickstart,
    "docs/why.md": why,
}
"""What a page says of its results."""


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)])
def test_python_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    with patch.dict(METHODS), patch.dict(FAMILIES), torch.random.fork_rng():
        for block in python_blocks(page):
            # Empty lines in front, so that a traceback names the line of the page.
            code = compile("\n" * (block.line - 1) + block.text, str(ROOT / page), "exec")
            if "no-run" not in block.words:
                try:
                    exec(code, names)
                except MissingExtraError as error:
                    pytest.skip(str(error))
    CHECKS.get(page, lambda names: None)(names)
    assert "Failed to evaluate" not in capsys.readouterr().out  # Quantus prints what it caught


def test_every_check_has_its_page():
    assert set(CHECKS) <= set(PAGES)


def test_few_blocks_are_only_compiled():
    marked = [b for page in PAGES for b in python_blocks(page) if "no-run" in b.words]
    assert len(marked) <= NOT_RUN_AT_MOST
    known = {"no-run"}
    assert all(set(block.words) <= known for page in PAGES for block in python_blocks(page))


def commands(text: str) -> list[list[str]]:
    """The commands of a block: prompts and comments away, lines that end in a backslash joined.

    Where a block has prompts, the other lines are what the commands print.

    >>> commands("$ make demo  # set-up\\n$ captum-ib \\\\\\n  methods\\n")
    [['make', 'demo'], ['captum-ib', 'methods']]
    """
    joined = text.replace("\\\n", " ")
    prompted = re.findall(r"^\s*\$ (.*)$", joined, flags=re.MULTILINE)
    lines = prompted or joined.splitlines()
    found = [shlex.split(line, comments=True) for line in lines]
    return [words for words in found if words]


def shell_lines() -> list[Any]:
    return [
        pytest.param(words, id=f"{page}:{block.line} {' '.join(words)}"[:80])
        for page, text in PAGES.items()
        for block in blocks(text)
        if block.language in SHELLS
        for words in commands(block.text)
        if words[0] in ("captum-ib", "make", "python")
    ]


def parse(arguments: list[str]) -> None:
    """Parse a command line of ``captum-ib`` without carrying it out."""
    group: Any = typer.main.get_command(app)
    context = group.make_context("captum-ib", list(spread(arguments)))
    # Click 8.2 has put an underscore before the name.
    held = vars(context).get("_protected_args", vars(context).get("protected_args"))
    name, command, rest = group.resolve_command(context, [*held, *context.args])
    command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("words", shell_lines())
def test_commands_exist(words):
    program, *arguments = words
    if program == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        target = next(word for word in arguments if "=" not in word)
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
    elif program == "captum-ib" and arguments != ["--version"]:
        parse(arguments)
    elif program == "captum-ib":
        assert main(arguments) == 0


def test_a_command_with_a_mistake_is_noticed():
    for wrong in (["explain", "--modell", "x"], ["explian"], ["layers"]):
        with pytest.raises(Exception, match=r"No such|Missing"):
            parse(wrong)


PROGRAM = re.compile(r"python (?:-m ([\w.]+)|((?:benchmarks|docs)/\w+\.py))")


@pytest.mark.parametrize("page", PAGES)
def test_programs_that_measured_exist(page):
    ours = ("benchmarks", "captum_ib", "tests")
    for module, file in PROGRAM.findall(PAGES[page]):
        if file:
            assert (ROOT / file).is_file(), file
        elif module.split(".")[0] in ours:
            path = ROOT / module.replace(".", "/")
            assert path.is_dir() or path.with_suffix(".py").is_file(), module
