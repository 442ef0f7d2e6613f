"""Files for download: those of the latest answers, and no others."""

from __future__ import annotations

import zipfile

import pytest

from captum_ib.app.asking import Question, answer
from captum_ib.app.results import ARCHIVE, Results


@pytest.fixture(scope="module")
def done(classifier):
    example = classifier.examples[0]
    *_, last = answer(classifier, Question(example.picture, "my cat.png", methods=("fastig",)))
    return last


def test_the_archive_holds_every_file(done, tmp_path):
    results = Results(tmp_path)
    token, files = results.add(done)
    assert files == [f"my cat-fastig.{end}" for end in ("json", "npz", "png")]
    with zipfile.ZipFile(results.find(token, ARCHIVE)) as archive:
        assert archive.namelist() == files
        assert archive.read(files[1]) == results.find(token, files[1]).read_bytes()


def test_only_the_latest_are_kept(done, tmp_path):
    results = Results(tmp_path, kept=2)
    tokens = [results.add(done)[0] for _ in range(5)]
    assert len(set(tokens)) == 5
    assert sorted(folder.name for folder in tmp_path.iterdir()) == sorted(tokens[3:])
    assert [results.find(token, ARCHIVE) is not None for token in tokens] == [False] * 3 + [
        True
    ] * 2


def test_nothing_else_is_found(done, tmp_path):
    results = Results(tmp_path / "..")
    (tmp_path / "secret").write_text("")
    token, files = results.add(done)
    for name in ("../secret", "secret", "/etc/passwd", "", ".."):
        assert results.find(token, name) is None
    assert results.find("..", files[0]) is None
    assert results.find(tmp_path.name, "secret") is None
