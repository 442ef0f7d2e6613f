"""The three steps of docs/add_a_model.md: the page's row runs through the tests of every row."""

from __future__ import annotations

from unittest.mock import patch

import pytest

from captum_ib.models.families import FAMILIES, towers_of
from tests.docs.pages import PAGES, blocks
from tests.models import test_supported as supported


@pytest.fixture
def row():
    """The page's row; its family is known while the test runs."""
    names: dict = {"__name__": "page"}
    known = set(FAMILIES)
    with patch.dict(FAMILIES):
        for block in blocks(PAGES["docs/add_a_model.md"]):
            if block.language == "python":
                exec(block.text, names)
        assert set(FAMILIES) - known == {"picture-and-words"}
        yield names["row"]


@pytest.mark.parametrize("method", ["m2ib", "nib"])
def test_the_row_is_supported(row, method):
    supported.test_supported(row, method)


def test_one_sample_alone(row):
    supported.test_one_sample_alone(row)


def test_without_its_row_the_family_is_unknown(row, monkeypatch):
    monkeypatch.delitem(FAMILIES, "picture-and-words")
    with pytest.raises(TypeError, match="PictureAndWords is of no known family"):
        towers_of(row.model())
