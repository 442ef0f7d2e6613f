"""docs/metrics.md names what the package exports (tests/docs runs its code)."""

from __future__ import annotations

from pathlib import Path

import captum_ib.metrics

PAGE = (Path(__file__).parents[2] / "docs/metrics.md").read_text(encoding="utf-8")


def test_every_name_is_on_the_page():
    for name in captum_ib.metrics.__all__:
        assert f"{name}" in PAGE, name
