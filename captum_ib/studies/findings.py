"""What a study found: tables, pictures, and sentences that say whether the paper's claim holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captum_ib.explaining.output import staged, write_json
from captum_ib.extras import need

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Findings:
    """Tables, pictures, sentences.

    Attributes:
        tables: by name; each is written as CSV and into the page.
        figures: by name; each is written as PNG.
        said: what came out, in sentences with numbers: what agrees with the paper, and what not.
    """

    tables: Mapping[str, pd.DataFrame]
    figures: Mapping[str, Figure] = field(default_factory=dict[str, "Figure"])
    said: tuple[str, ...] = ()

    def write(self, out: Path, name: str, title: str, record: Mapping[str, Any]) -> list[Path]:
        """Write all files, or none if an error comes first.

        Args:
            out: the folder.
            name: of the study: ``NAME.md`` and ``NAME.json`` are its page and its record.
            title: of the page.
            record: what has to be known to run it again.

        Returns:
            The files, the page first.
        """
        need("tabulate", "the page of a study")
        parts = [f"# {title}", *self.said]
        with staged(out) as folder:
            for key, figure in self.figures.items():
                figure.savefig(folder / f"{name}-{key}.png", dpi=200)
                parts.append(f"![{key}]({name}-{key}.png)")
            for key, table in self.tables.items():
                table.to_csv(folder / f"{name}-{key}.csv", index=False)
                parts.append(f"## {key}\n\n{table.to_markdown(index=False, floatfmt='.4g')}")
            (folder / f"{name}.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
            write_json(folder / f"{name}.json", {"study": name, **record})
            files = sorted(file.name for file in folder.iterdir())
        return [out / f"{name}.md", *(out / file for file in files if file != f"{name}.md")]
