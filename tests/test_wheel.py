"""The wheel, installed outside the source tree, runs the README; the sdist builds the same wheel.

Nothing is downloaded: the environment is fresh, and sees the packages of this one behind its own.
"""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # three builds, and every import of the quick start from cold

ROOT = Path(__file__).parents[1]
BUILT = ".git .venv .venv-oldest build dist demo shared *.egg-info __pycache__ .*_cache".split()
BUILD = (
    "import os, sys; from setuptools import build_meta as backend; "
    "os.chdir(sys.argv[1]); print(getattr(backend, sys.argv[2])(sys.argv[3]))"
)


def _run(*command: object, cwd: Path, **environment: str) -> str:
    """What a command prints; fails with what it says."""
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**outside, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def _build(source: Path, what: str, to: Path) -> Path:
    to.mkdir(exist_ok=True)
    name = _run(sys.executable, "-c", BUILD, source, what, to, cwd=to).splitlines()[-1]
    return to / name


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """The source tree without what git and earlier builds left in it."""
    copy = tmp_path_factory.mktemp("source") / "captum_ib"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*BUILT))
    return copy


@pytest.fixture(scope="module")
def sdist(copy, tmp_path_factory) -> Path:
    return _build(copy, "build_sdist", tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(copy, tmp_path_factory) -> Path:
    return _build(copy, "build_wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory) -> Path:
    """The interpreter of an environment with the wheel in it."""
    home = tmp_path_factory.mktemp("environment")
    _run(sys.executable, "-m", "venv", "--without-pip", home, cwd=home)
    python = home / "bin" / "python"
    purelib = Path(_run(python, "-c", _PURELIB, cwd=home).strip())
    pip = (sys.executable, "-m", "pip", "--quiet", "--python", python, "install")
    _run(*pip, "--no-deps", "--no-index", wheel, cwd=home)
    # The other packages come behind: as a plain path, so that no editable installation (a .pth
    # file in them) brings the source tree along.
    (purelib / "behind.pth").write_text("\n".join(_site_packages()) + "\n")
    return python


_PURELIB = "import sysconfig; print(sysconfig.get_path('purelib'))"


def _site_packages() -> list[str]:
    return list(dict.fromkeys([sysconfig.get_path("purelib"), *site.getsitepackages()]))


def _content(wheel: Path) -> dict[str, bytes]:
    """The files of a wheel; its record lists the others, in an order that is of no matter."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if "RECORD" not in name}


def test_the_wheel_holds_every_file_of_the_package(wheel, copy):
    content = _content(wheel)
    package = copy / "captum_ib"
    wanted = {
        str(file.relative_to(copy))
        for file in package.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert {name for name in content if ".dist-info/" not in name} == wanted
    assert "captum_ib/py.typed" in content
    for name in ("clip-scenes", "vit-scenes", "vit-relations"):
        weights = package / "zoo" / "weights" / name / "model.safetensors"
        assert content[str(weights.relative_to(copy))] == weights.read_bytes()
    assert any(name.startswith("captum_ib/benchmark/presets/") for name in content)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in content)


def test_the_sdist_builds_the_same_wheel(sdist, wheel, tmp_path):
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    again = _content(_build(source, "build_wheel", tmp_path / "wheel"))
    expected = _content(wheel)
    assert sorted(again) == sorted(expected)
    assert [name for name in expected if again[name] != expected[name]] == []


def test_the_readme_runs_from_the_wheel(python, tmp_path):
    where = _run(python, "-c", "import captum_ib; print(captum_ib.__file__)", cwd=tmp_path).strip()
    assert Path(where).is_relative_to(python.parents[1])
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = [part.partition("```")[0] for part in readme.split("```python\n")[1:]]
    assert len(blocks) >= 2
    script = tmp_path / "readme.py"
    script.write_text("\n".join(blocks) + "\nprint(captum_ib_file, tuple(maps.shape))\n")
    text = script.read_text().replace("captum_ib_file", "__import__('captum_ib').__file__")
    script.write_text(text)
    said = _run(python, "readme.py", cwd=tmp_path, HF_HUB_OFFLINE="1").strip().splitlines()
    assert said[0].startswith("“a red circle”, cosine ") and said[-1] == f"{where} (2, 1, 64, 64)"
    assert sorted(file.suffix for file in (tmp_path / "out").iterdir()) == [".json", ".npz", ".png"]


def test_the_command_runs_from_the_wheel(python, tmp_path):
    command = python.parent / "captum-ib"
    _run(command, "demo", "--images", 1, "--out", "demo", cwd=tmp_path, HF_HUB_OFFLINE="1")
    explain = ["explain", "--model", "clip-scenes", "--image", "demo/clip-scenes-0.png"]
    explain += ["--text", "a red circle", "--method", "m2ib", "nib", "--out", "out"]
    _run(command, *explain, cwd=tmp_path, HF_HUB_OFFLINE="1")
    assert len(list((tmp_path / "out").iterdir())) == 7
