"""Results are written as a whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import captum_ib
from captum_ib.explaining.output import staged, unique_names, write_json


def names(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*"))


def test_files_move_at_the_end(tmp_path):
    out = tmp_path / "a" / "b"
    with staged(out) as folder:
        (folder / "x").write_text("new")
        assert not out.exists()
    assert names(tmp_path) == ["a", "a/b", "a/b/x"]


def test_other_files_stay(tmp_path):
    (tmp_path / "old").write_text("old")
    (tmp_path / "x").write_text("old")
    with staged(tmp_path) as folder:
        (folder / "x").write_text("new")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        "old": "old",
        "x": "new",
    }


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_after_an_error(tmp_path, error):
    with pytest.raises(error), staged(tmp_path / "out") as folder:
        (folder / "x").write_text("half")
        raise error
    assert names(tmp_path) == []


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(NotADirectoryError, match="file is a file, not a folder"), staged(out):
            pass


def test_unique_names_avoid_names_that_are_taken():
    paths = [Path("a/x.png"), Path("x-2.png"), Path("b/x.jpg"), Path("x.gif")]
    assert unique_names(paths) == ["x", "x-2", "x-3", "x-4"]


def test_json_holds_versions(tmp_path):
    write_json(tmp_path / "x.json", {"label": "Zürich"})
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    record = json.loads(text)
    assert "Zürich" in text and record["label"] == "Zürich"
    assert record["versions"]["captum_ib"] == captum_ib.__version__
    assert record["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
