"""The package's front door: cheap to import, and every public name behind it resolves."""

from __future__ import annotations

import re
import subprocess
import sys
from configparser import ConfigParser
from importlib.metadata import version
from pathlib import Path

import pytest

import captum_ib

HEAVY = (
    "torch", "captum", "transformers", "timm", "torchvision", "matplotlib", "quantus", "numpy",
    "pandas", "jinja2", "tabulate", "pyarrow",
)  # fmt: skip


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_import_loads_nothing_heavy():
    code = f"import sys, captum_ib; print([m for m in {HEAVY!r} if m in sys.modules])"
    assert _python(code) == "[]"


def test_command_line_loads_nothing_heavy():
    code = f"import sys, captum_ib.cli; print([m for m in {HEAVY!r} if m in sys.modules])"
    assert _python(code) == "[]"


def test_versions_agree():
    root = Path(__file__).parents[1]
    citation = (root / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {captum_ib.__version__}\n" in citation
    assert version("captum_ib") == captum_ib.__version__


def test_lower_bounds_are_those_that_are_tried():
    """Each dependency's lower bound in setup.cfg is the version in requirements-oldest.txt."""
    root = Path(__file__).parents[1]
    setup = ConfigParser()
    setup.read(root / "setup.cfg", encoding="utf-8")
    wanted = dict(re.findall(r"^(\S+) >= (\S+)$", setup["options"]["install_requires"], re.M))
    lines = (root / "requirements-oldest.txt").read_text(encoding="utf-8")
    tried = dict(re.findall(r"^(\S+)==(\S+)$", lines, re.M))
    assert len(wanted) == 13
    for name, bound in wanted.items():
        assert tried[name] in (bound, f"{bound}.0"), name


@pytest.mark.parametrize("name", captum_ib.__all__)
def test_public_name_resolves(name):
    value = getattr(captum_ib, name)
    assert name.startswith("__") or getattr(value, "__name__", "").split(".")[-1] == name


def test_dir_lists_every_public_name():
    assert set(captum_ib.__all__) <= set(dir(captum_ib))
    assert set(captum_ib._HOMES) | set(captum_ib._ROOMS) | {"__version__"} == set(captum_ib.__all__)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'IBAA'"):
        captum_ib.IBAA  # noqa: B018
