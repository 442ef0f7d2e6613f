"""What a type checker shows to the user of the package: ``attribute`` has real types."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import captum_ib

pytestmark = pytest.mark.slow  # pyright reads torch, too: some ten seconds

PACKAGE = Path(captum_ib.__file__).parent

PREPARED = """\
import torch
from torch import Tensor, nn

from captum_ib import CAM2IB, IBA, M2IB, NIB, RISE, CoIBA, CoM2IB, DualEncoder, GenericAttention

def use(model: nn.Module, dual: DualEncoder, x: Tensor, ids: Tensor) -> None:
"""

SHOWN = {
    "CoIBA(model).attribute(x)": "Tensor",
    "CoIBA(model).attribute((x,))": "tuple[Tensor, ...]",
    "CoIBA(model).attribute(x, target=1, return_trace=True)": "tuple[Tensor, FitTrace]",
    "IBA(model).attribute(x, beta=2.0)": "Tensor",
    "NIB(model).attribute(x)": "Tensor",
    "NIB(model).attribute(x, return_convergence_delta=True)": "tuple[Tensor, Tensor]",
    "NIB(dual).attribute((x, ids), return_convergence_delta=True)": (
        "tuple[tuple[Tensor, ...], Tensor | tuple[Tensor, ...]]"
    ),
    "M2IB(dual).attribute((x, ids))": "tuple[Tensor, Tensor]",
    "M2IB(dual).attribute((x, ids), return_trace=True)": (
        "tuple[tuple[Tensor, Tensor], tuple[FitTrace, FitTrace]]"
    ),
    "CoM2IB(dual).attribute((x, ids))": "tuple[Tensor, Tensor]",
    "CAM2IB(dual).attribute((x, ids))": "tuple[Tensor, Tensor]",
    "RISE(model).attribute(x, n_masks=100)": "Tensor",
    "RISE(dual).attribute((x, ids))": "tuple[Tensor, ...]",
    "GenericAttention(model).attribute(x)": "Tensor",
}
"""Expression → the type that an editor shows for it."""

WRONG = (
    "CoIBA(model).attribute(x, betta=1)",
    "NIB(model).attribute(x, n_step=5)",
    "M2IB(dual).attribute(x)",
    "RISE(model).attribute(x, n_mask=100)",
)
"""Calls that are errors."""


def _pyright(script: Path) -> list[dict]:
    """What pyright says of a script beside which the package lies, as installed."""
    if find_spec("pyright") is None:
        pytest.skip("pyright is not installed")
    command = (sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable)
    environment = {**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    done = subprocess.run(
        [*command, "--project", str(script.parent)],
        env=environment,
        cwd=script.parent,
        capture_output=True,
        text=True,
    )
    if not done.stdout.startswith("{"):
        pytest.skip(f"pyright does not run here: {(done.stderr or done.stdout)[-200:]}")
    return json.loads(done.stdout)["generalDiagnostics"]


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> dict[str, tuple[str, str]]:
    """Line of the script → (severity, message)."""
    folder = tmp_path_factory.mktemp("user")
    shutil.copytree(
        PACKAGE, folder / "installed" / "captum_ib", ignore=shutil.ignore_patterns("weights")
    )
    config = {"include": ["use.py"], "extraPaths": ["installed"], "typeCheckingMode": "strict"}
    (folder / "pyrightconfig.json").write_text(json.dumps(config))
    lines = [f"reveal_type({expression})" for expression in SHOWN] + list(WRONG)
    text = PREPARED + "".join(f"    {line}\n" for line in lines)
    (folder / "use.py").write_text(text)
    found: dict[str, tuple[str, str]] = {}
    for each in _pyright(folder / "use.py"):
        line = text.splitlines()[each["range"]["start"]["line"]].strip()
        found[line] = (each["severity"], each["message"])
    return found


@pytest.mark.parametrize("expression", SHOWN)
def test_attribute_has_a_type(said, expression):
    severity, message = said[f"reveal_type({expression})"]
    assert severity == "information", message
    assert message.endswith(f'" is "{SHOWN[expression]}"')


@pytest.mark.parametrize("call", WRONG)
def test_a_wrong_call_is_an_error(said, call):
    assert said[call][0] == "error"


def test_the_package_says_that_it_has_types():
    assert (PACKAGE / "py.typed").is_file()
