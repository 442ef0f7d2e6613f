"""docs/baselines.md: its matrix is the table of methods (tests/docs runs its code)."""

from __future__ import annotations

import re
from pathlib import Path

from captum_ib.methods import METHODS

PAGE = (Path(__file__).parents[2] / "docs" / "baselines.md").read_text(encoding="utf-8")


def test_the_matrix_is_the_table_of_methods():
    found = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (.+) \|$", PAGE, flags=re.MULTILINE)
    rows = {name: row for name, row in METHODS.items() if ".baselines." in row.cls_path}
    assert {name: title for name, title, _ in found} == {n: r.title for n, r in rows.items()}
    for name, _, rest in found:
        kind, application, space, passes, baseline, description = rest.split(" | ")
        row = rows[name]
        assert (passes, description) == (row.passes, row.description)
        assert ("pairs" in application) == ("dual" in row.takes)
        assert (baseline == "yes") == ("baselines" in row.cls.attribute.__wrapped__.__annotations__)
        assert kind and (("layer" in space) <= (row.layers == "many"))
