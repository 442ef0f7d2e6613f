"""Tables as Markdown, CSV, LaTeX and plain text."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from captum_ib.report.aggregate import Cell, Table
from captum_ib.report.layout import BEST, Entry, Layout, heading, layouts
from captum_ib.report.libraries import pd, tabulate

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
    "–": "--", "−": r"$-$", "±": r"$\pm$", "×": r"$\times$", "†": r"$\dagger$", "Δ": r"$\Delta$",
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "λ": r"$\lambda$", "β": r"$\beta$",
    "σ": r"$\sigma$", "γ": r"$\gamma$", "\n": " ",
}  # fmt: skip
_NARROW = 15  # characters to which the heads of a terminal's table are broken
_WIDE = 8  # columns from which a LaTeX table is scaled to the width of the text
_FORMULA = re.compile(r"^(?=[=+\-@\t\r\n])")


def escape_latex(text: str) -> str:
    r"""Text that LaTeX prints as it stands here.

    >>> escape_latex("IBA_50% & β")
    'IBA\\_50\\% \\& $\\beta$'
    """
    return "".join(_LATEX.get(sign, sign) for sign in text)


def escape_markdown(text: str) -> str:
    r"""Text that Markdown prints as it stands here, also inside a table.

    >>> escape_markdown("a|b_c <b>")
    'a\\|b\\_c &lt;b&gt;'
    """
    text = re.sub(r"([\\`*_\[\]|~])", r"\\\1", text.replace("&", "&amp;"))
    return " ".join(text.replace("<", "&lt;").replace(">", "&gt;").split())


def escape_csv(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: such text gets an apostrophe before it.

    >>> escape_csv("=cmd|' /C calc'!A1"), escape_csv("IBA"), escape_csv(-1.5)
    ("'=cmd|' /C calc'!A1", 'IBA', -1.5)
    """
    return _FORMULA.sub("'", value) if isinstance(value, str) else value


def markdown(tables: Sequence[Table], paired: bool = False) -> str:
    """All tables below each other, best bold and second underlined (``<ins>``)."""
    blocks = []
    number = 0
    for table in tables:
        blocks.append(f"## {escape_markdown(heading(table))}")
        for layout in layouts(table, paired):
            number += 1
            blocks.append(f"**Table {number}.** {escape_markdown(layout.caption)}")
            frame = layout.entries.map(_markdown)
            frame.index = pd.Index(map(escape_markdown, frame.index), name="Method")
            frame.columns = [escape_markdown(head) for head in frame.columns]
            blocks.append(frame.to_markdown(disable_numparse=True, colalign=_align(layout)))
            blocks.append("\n".join(f"- {escape_markdown(note)}" for note in layout.notes))
    return "\n\n".join(filter(None, blocks)) + "\n"


def text(tables: Sequence[Table], paired: bool = False) -> str:
    """All tables for a terminal; ``*`` marks the best of a column, ``'`` the second."""
    blocks = []
    for layout in (layout for table in tables for layout in layouts(table, paired)):
        frame = layout.entries.map(_text).reset_index(names="method")
        # as a row: tabulate makes room beside what it takes for a head
        heads = [textwrap.fill(head, _NARROW, break_long_words=False) for head in frame.columns]
        rows = [heads, *frame.to_numpy().tolist()]
        align = _align(layout)
        grid = tabulate.tabulate(rows, tablefmt="plain", disable_numparse=True, colalign=align)
        caption = layout.caption.replace(BEST, "* best, ' second of a column.")
        blocks.append("\n".join([caption, "", grid, "", *layout.notes]).rstrip())
    return "\n\n".join(blocks) + "\n"


def latex(tables: Sequence[Table], paired: bool = False) -> str:
    """All tables as ``table*`` floats; they need the packages booktabs and graphicx."""
    floats = [
        _latex(layout, f"tab:{slug(heading(table))}-{number}")
        for table in tables
        for number, layout in enumerate(layouts(table, paired), start=1)
    ]
    return "\n\n".join(["% \\usepackage{booktabs} \\usepackage{graphicx}", *floats]) + "\n"


def comma_separated(tables: Sequence[Table]) -> str:
    """One line per number, unrounded: for spreadsheets and further computation."""
    lines = pd.DataFrame([line for table in tables for line in _numbers(table)], dtype=object)
    return lines.to_csv(index=False, lineterminator="\n")


def slug(text: str) -> str:
    """A name for files and labels.

    >>> slug("vit-scenes on scenes (seed 7)")
    'vit-scenes-on-scenes-seed-7'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "run"


def _numbers(table: Table) -> Iterator[dict[str, Any]]:
    config = table.group.config
    about = {
        "title": heading(table),
        "model": config["model"],
        "data": config["data"].get("path") or config["data"]["kind"],
        "samples": len(table.group.index),
        "dtype": config.get("dtype", "float32"),
    }
    for line in table.lines:
        peak = math.nan if line.peak is None else line.peak
        cells = [
            *((m.label, m.up, line.cells[m.label]) for m in (*table.metrics, *table.whole)),
            ("samples_per_second", True, Cell(line.rate, n=line.samples)),
            ("peak_bytes", False, Cell(peak, n=line.samples)),
        ]
        for label, up, cell in cells:
            numbers = {
                **about,
                "method": line.method.title,
                "metric": label,
                "direction": "up" if up else "down",
                "mean": cell.mean,
                "standard_error": cell.error,
                "error_over": cell.over,
                "standard_error_over_samples": cell.sample_error,
                "n": cell.n,
                "failed": line.failed,
                "seeds": line.seeds,
            }
            yield {name: escape_csv(value) for name, value in numbers.items()}


def _align(layout: Layout) -> list[str]:
    return ["left", *["right"] * len(layout.groups)]


def _markdown(entry: Entry) -> str:
    value = {1: "**{}**", 2: "<ins>{}</ins>"}.get(entry.rank, "{}").format(entry.text)
    return value + (f" ± {entry.error}" if entry.error else "") + entry.mark


def _text(entry: Entry) -> str:
    mark = {1: "*", 2: "'"}.get(entry.rank, "")
    return entry.text + (f" ± {entry.error}" if entry.error else "") + entry.mark + mark


def _latex(layout: Layout, label: str) -> str:
    frame = layout.entries.map(_latex_entry)
    frame.index = [escape_latex(method) for method in frame.index]
    frame = frame.reset_index(names=r"\textbf{Method}")
    frame.columns = [frame.columns[0], *map(escape_latex, frame.columns[1:])]
    align = "".join(side[0] for side in _align(layout))
    tabular = frame.style.hide(axis="index").to_latex(hrules=True, column_format=align)
    tabular = tabular.replace(
        "\\toprule\n", "\\toprule\n" + _latex_groups(layout.groups), 1
    ).strip()
    if len(layout.groups) >= _WIDE:
        tabular = f"\\resizebox{{\\textwidth}}{{!}}{{%\n{tabular}}}"
    caption = " ".join([layout.caption, *layout.notes])
    return "\n".join(
        [
            r"\begin{table*}",
            r"\centering",
            f"\\caption{{{escape_latex(caption)}}}",
            f"\\label{{{label}}}",
            r"\small",
            tabular,
            r"\end{table*}",
        ]
    )


def _latex_groups(groups: Sequence[str]) -> str:
    """A line above the heads that says what the metrics judge, with rules below it."""
    if not any(groups):
        return ""
    cells, rules, start = [""], [], 2
    for group, members in groupby(groups):
        end = start + len(list(members)) - 1
        cells.append(f"\\multicolumn{{{end - start + 1}}}{{c}}{{{escape_latex(group)}}}")
        rules += [f"\\cmidrule(lr){{{start}-{end}}}"] if group else []
        start = end + 1
    return " & ".join(cells) + " \\\\\n" + " ".join(rules) + "\n"


def _latex_entry(entry: Entry) -> str:
    value = escape_latex(entry.text)
    value = {1: "\\textbf{{{}}}", 2: "\\underline{{{}}}"}.get(entry.rank, "{}").format(value)
    error = f" {{\\scriptsize $\\pm$ {entry.error}}}" if entry.error else ""
    return value + error + escape_latex(entry.mark)
