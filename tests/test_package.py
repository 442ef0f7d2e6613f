"""The package's front door: cheap to import, and every public name behind it resolves."""

from __future__ import annotations

import subprocess
import sys

import pytest

import captum_ib

HEAVY = ("torch", "captum", "transformers", "timm", "torchvision", "matplotlib", "quantus", "numpy")


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_import_loads_nothing_heavy():
    code = f"import sys, captum_ib; print([m for m in {HEAVY!r} if m in sys.modules])"
    assert _python(code) == "[]"


@pytest.mark.parametrize("name", captum_ib.__all__)
def test_public_name_resolves(name):
    value = getattr(captum_ib, name)
    assert name.startswith("__") or getattr(value, "__name__", "").split(".")[-1] == name


def test_dir_lists_every_public_name():
    assert set(captum_ib.__all__) <= set(dir(captum_ib))
    assert set(captum_ib._HOME) | set(captum_ib._ROOMS) | {"__version__"} == set(captum_ib.__all__)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'IBAA'"):
        captum_ib.IBAA  # noqa: B018
