"""Harmless bombs: what would create a marker file, were it executed, in every form that a folder
can carry code in."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return os.mkdir, (str(self.marker),)


def copied(folder: Path, tmp_path: Path) -> Path:
    """A copy of a model's folder, to be spoilt."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def edit(folder: Path, name: str, **changes: Any) -> None:
    """Change entries of a JSON file; dots lead inwards (as ``text_config__hidden_size``)."""
    file = folder / name
    config = json.loads(file.read_text()) if file.exists() else {}
    for path, value in changes.items():
        *way, last = path.split("__") if not path.startswith("__") else [path]
        inner = config
        for step in way:
            inner = inner.setdefault(step, {})
        inner[last] = value
    file.write_text(json.dumps(config))


def pickle_bomb(file: Path, marker: Path) -> None:
    """A file of weights that is a bomb."""
    torch.save({"head.weight": Bomb(marker)}, file)


def module_bomb(folder: Path, marker: Path, *names: str) -> None:
    """Python files that are bombs, for every class that a configuration may name."""
    code = f"import os\nos.makedirs({str(marker)!r}, exist_ok=True)\n"
    code += "class Bomb:\n    def __init__(self, *args, **kwargs):\n        pass\n"
    for name in names or ("bomb", "modeling_bomb", "configuration_bomb", "processing_bomb"):
        (folder / f"{name}.py").write_text(code)
