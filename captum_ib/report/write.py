"""From run folders to a folder of tables, figures and galleries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from captum_ib.explaining.output import staged
from captum_ib.report import tables
from captum_ib.report.aggregate import Table, make_table
from captum_ib.report.gallery import gallery
from captum_ib.report.layout import heading
from captum_ib.report.plots import save_figures
from captum_ib.report.reading import find_runs
from captum_ib.report.scores import group_runs, read_group

FORMATS = ("md", "csv", "latex")


def read_tables(runs: Iterable[Path]) -> list[Table]:
    """One table per model, data, number of samples and precision, in the order of the runs.

    Args:
        runs: run folders, or folders of them.

    Raises:
        FileNotFoundError, ValueError: see ``find_runs``, ``group_runs`` and ``read_group``.
    """
    return [make_table(read_group(members)) for members in group_runs(find_runs(runs))]


def summary(runs: Iterable[Path], paired: bool = False) -> str:
    """The tables as plain text, for a terminal."""
    return tables.text(read_tables(runs), paired)


def make_report(
    runs: Iterable[Path],
    out: Path,
    *,
    formats: Sequence[str] = FORMATS,
    samples: int = 50,
    paired: bool = False,
    plots: bool = True,
    seed: int = 0,
) -> tuple[str, list[Path]]:
    """Write a report; files of the same names in ``out`` are replaced.

    Args:
        runs: run folders, or folders of them; what belongs in one table is joined.
        out: folder, made where it is not there.
        formats: of the tables: ``"md"``, ``"csv"``, ``"latex"``.
        samples: in each gallery, at most; 0: no gallery.
        paired: add tables of paired differences to the best method.
        plots: draw the figures.
        seed: of the choice of samples in the gallery and in the figure of agreement.

    Returns:
        The tables as plain text, and the files.

    Raises:
        FileNotFoundError, ValueError: see :func:`read_tables`; an unknown format.
    """
    for given in formats:
        if given not in FORMATS:
            raise ValueError(f"format {given!r} is not one of {', '.join(FORMATS)}")
    found = read_tables(runs)
    contents = {
        "md": ("table.md", lambda: tables.markdown(found, paired)),
        "csv": ("table.csv", lambda: tables.comma_separated(found)),
        "latex": ("table.tex", lambda: tables.latex(found, paired)),
    }
    with staged(out) as folder:
        for given in dict.fromkeys(formats):
            name, content = contents[given]
            (folder / name).write_text(content(), encoding="utf-8")
        for prefix, table in zip(_prefixes(found), found, strict=True):
            if plots:
                save_figures(table, folder, prefix, seed)
            if samples:
                page = gallery(table, samples, seed)
                (folder / f"{prefix}gallery.html").write_text(page, encoding="utf-8")
        names = sorted(file.name for file in folder.iterdir())
    return tables.text(found, paired), [out / name for name in names]


def _prefixes(found: Sequence[Table]) -> list[str]:
    """What tells the files of several tables apart; nothing for a single one."""
    if len(found) == 1:
        return [""]
    names = [tables.slug(heading(table)) for table in found]
    return [
        f"{name}-" if names.count(name) == 1 else f"{name}-{names[: number + 1].count(name)}-"
        for number, name in enumerate(names)
    ]
