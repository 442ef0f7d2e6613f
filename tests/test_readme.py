"""The README's commands and folders, and the table of papers, are those of the package.

That its code runs and its links lead somewhere is tested in tests/docs, with that of the docs.
"""

from __future__ import annotations

import re
from pathlib import Path

from captum_ib.methods import METHODS

ROOT = Path(__file__).parents[1]
HOME = "captum_ib.attr."  # the comparators have a table of their own, in docs/baselines.md
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMPARISON = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")


def test_table_of_methods_is_that_of_the_package():
    rows = dict(re.findall(r"^\| `(\w+)` \| `(\w+)` \|", COMPARISON, flags=re.MULTILINE))
    ours = {name: row for name, row in METHODS.items() if row.cls_path.startswith(HOME)}
    assert rows == {name: row.title for name, row in ours.items()}
    for name, row in ours.items():
        line = next(line for line in COMPARISON.splitlines() if line.startswith(f"| `{name}` |"))
        assert row.paper in line and row.unit.split()[0].rstrip("s") in line
        assert ("signed" in line) == row.signed


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)


def test_folders_exist():
    table = README.split("## Where things are")[1].split("\n\n")[1]
    for folder in re.findall(r"`([\w/]+/)`", table):
        assert (ROOT / folder).is_dir(), folder
