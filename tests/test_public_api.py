"""The public API is what ``public_api.txt`` lists: a change of it is made on purpose."""

from __future__ import annotations

import difflib
import importlib.util
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LIST = HERE / "public_api.txt"
AGAIN = "python -m tests.public_api > tests/public_api.txt"


def _module():
    spec = importlib.util.spec_from_file_location("public_api", HERE / "public_api.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _differences(found: list[str]) -> str:
    listed = LIST.read_text(encoding="utf-8").splitlines()
    return "\n".join(difflib.unified_diff(listed, found, LIST.name, "the code", "", "", 0, ""))


def test_names_and_signatures_are_those_that_are_listed():
    difference = _differences(_module().lines())
    if difference:
        pytest.fail(
            f"the public API has changed:\n{difference}\n\nIf that is meant, tell it in "
            f"CHANGELOG.md, and list it: {AGAIN}",
            pytrace=False,
        )


def test_a_changed_signature_is_noticed(monkeypatch):
    from captum_ib import IBA

    monkeypatch.setattr(IBA, "attribute", lambda self, inputs, target=None: inputs)
    difference = _differences(_module().lines())
    assert "+captum_ib.IBA.attribute(self, inputs, target=None)" in difference.splitlines()


def test_every_room_of_the_package_is_listed():
    import captum_ib

    assert {f"captum_ib.{room}" for room in captum_ib._ROOMS} <= set(_module().ROOMS)
