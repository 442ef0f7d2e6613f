"""What every test shares: no network, no display, and where the data beside the repository lies."""

from __future__ import annotations

import os
from pathlib import Path

# Before any hub library is imported: a test that would download something fails instead.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"

import pytest

SHARED = Path(os.environ.get("CAPTUM_IB_SHARED", Path(__file__).parents[2] / "shared"))


def _shared(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(
            f"{folder} is not there (set CAPTUM_IB_SHARED to the folder that holds {name}/)"
        )
    return folder


@pytest.fixture(scope="session")
def conformance() -> Path:
    """Folder with outputs of the original authors' code; the test is skipped where it is absent."""
    return _shared("conformance")


@pytest.fixture(scope="session")
def funnybirds() -> Path:
    """Folder with FunnyBirds images and part maps; the test is skipped where it is absent."""
    return _shared("funnybirds")
