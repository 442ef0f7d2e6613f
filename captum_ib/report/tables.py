"""Tables as Markdown, CSV, LaTeX and plain text."""

from __future__ import annotations

import csv
import io
import math
import re
import textwrap
from collections.abc import Sequence

from captum_ib.report.aggregate import Table
from captum_ib.report.layout import Column, Entry, Layout, heading, layouts

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
    "–": "--", "−": r"$-$", "±": r"$\pm$", "×": r"$\times$", "†": r"$\dagger$", "Δ": r"$\Delta$",
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "λ": r"$\lambda$", "β": r"$\beta$",
    "σ": r"$\sigma$", "γ": r"$\gamma$", "\n": " ",
}  # fmt: skip
_NARROW = 15  # characters to which the heads of a terminal's table are broken
_WIDE = 8
"""Columns from which a LaTeX table is scaled to the width of the text."""


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


def markdown(tables: Sequence[Table], paired: bool = False) -> str:
    """All tables below each other, best bold and second underlined (``<ins>``)."""
    blocks = []
    number = 0
    for table in tables:
        blocks.append(f"## {escape_markdown(heading(table))}")
        for layout in layouts(table, paired):
            number += 1
            blocks.append(f"**Table {number}.** {escape_markdown(layout.caption)}")
            head = ["Method", *(_head(column) for column in layout.columns)]
            rows = [[escape_markdown(cell) for cell in head]]
            for method, entries in _rows(layout):
                rows.append([escape_markdown(method), *(_markdown(entry) for entry in entries)])
            blocks.append(_grid(rows, rule=True))
            if layout.notes:
                blocks.append("\n".join(f"- {escape_markdown(note)}" for note in layout.notes))
    return "\n\n".join(blocks) + "\n"


def text(tables: Sequence[Table], paired: bool = False) -> str:
    """All tables for a terminal; ``*`` marks the best of a column, ``'`` the second."""
    blocks = []
    for table in tables:
        for layout in layouts(table, paired):
            caption = layout.caption.replace(
                "Best bold, second underlined.", "* best, ' second of a column."
            )
            body = [[method, *map(_text, entries)] for method, entries in _rows(layout)]
            rows = [*_stacked(["method", *map(_head, layout.columns)]), *body]
            blocks.append("\n".join([caption, "", _grid(rows), "", *layout.notes]).rstrip())
    return "\n\n".join(blocks) + "\n"


def latex(tables: Sequence[Table], paired: bool = False) -> str:
    """All tables as ``table*`` floats; they need the packages booktabs and graphicx."""
    floats = [
        _latex(layout, f"tab:{slug(heading(table))}-{number}")
        for table in tables
        for number, layout in enumerate(layouts(table, paired), start=1)
    ]
    lines = ["% \\usepackage{booktabs} \\usepackage{graphicx}", *floats]
    return "\n\n".join(lines) + "\n"


def comma_separated(tables: Sequence[Table]) -> str:
    """One line per number, unrounded: for spreadsheets and further computation."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        "title model data samples dtype method metric direction mean standard_error error_over "
        "standard_error_over_samples n failed seeds".split()
    )
    for table in tables:
        config = table.group.config
        data = config["data"].get("path") or config["data"]["kind"]
        dtype = config.get("dtype", "float32")
        start = [heading(table), config["model"], data, len(table.group.index), dtype]
        for line in table.lines:
            for metric in (*table.metrics, *table.whole):
                cell = line.cells[metric.label]
                direction = "up" if metric.up else "down"
                numbers = [_number(cell.mean), _number(cell.error), cell.over]
                numbers += [_number(cell.sample_error), cell.n, line.failed, line.seeds]
                writer.writerow([*start, line.method.title, metric.label, direction, *numbers])
            for name, direction, value in (
                ("samples_per_second", "up", line.rate),
                ("peak_bytes", "down", float("nan") if line.peak is None else line.peak),
            ):
                numbers = [_number(value), "", "", "", line.samples, line.failed, line.seeds]
                writer.writerow([*start, line.method.title, name, direction, *numbers])
    return stream.getvalue()


def slug(text: str) -> str:
    """A name for files and labels.

    >>> slug("vit-scenes on scenes (seed 7)")
    'vit-scenes-on-scenes-seed-7'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "run"


def _rows(layout: Layout) -> list[tuple[str, list[Entry]]]:
    return [
        (method, [column.entries[row] for column in layout.columns])
        for row, method in enumerate(layout.methods)
    ]


def _head(column: Column) -> str:
    return f"{column.head} {column.arrow}".strip()


def _markdown(entry: Entry) -> str:
    value = {1: "**{}**", 2: "<ins>{}</ins>"}.get(entry.rank, "{}").format(entry.text)
    return (value + (f" ± {entry.error}" if entry.error else "")) + entry.mark


def _text(entry: Entry) -> str:
    mark = {1: "*", 2: "'"}.get(entry.rank, "")
    return entry.text + (f" ± {entry.error}" if entry.error else "") + entry.mark + mark


def _stacked(heads: Sequence[str]) -> list[list[str]]:
    """Heads over several lines, so that they are not much wider than the numbers below them."""
    wrapped = [textwrap.wrap(head, _NARROW, break_long_words=False) for head in heads]
    height = max(map(len, wrapped))
    return [list(row) for row in zip(*([""] * (height - len(w)) + w for w in wrapped), strict=True)]


def _grid(rows: list[list[str]], rule: bool = False) -> str:
    """Columns of equal width, the first flush left, the others right; ``rule``: as Markdown."""
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if number == 0 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("| " + " | ".join(cells) + " |" if rule else "  ".join(cells).rstrip())
    if rule:
        dashes = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
        lines.insert(1, "| " + " | ".join(dashes) + " |")
    return "\n".join(lines)


def _latex(layout: Layout, label: str) -> str:
    head = [f"\\textbf{{{escape_latex('Method')}}}", *map(_latex_head, layout.columns)]
    body = [
        " & ".join([escape_latex(method), *map(_latex_entry, entries)]) + r" \\"
        for method, entries in _rows(layout)
    ]
    tabular = [
        f"\\begin{{tabular}}{{l{'r' * len(layout.columns)}}}",
        r"\toprule",
        *_latex_groups(layout.columns),
        " & ".join(head) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    if len(layout.columns) >= _WIDE:
        tabular = [r"\resizebox{\textwidth}{!}{%", *tabular[:-1], tabular[-1] + "}"]
    caption = " ".join([layout.caption, *layout.notes])
    return "\n".join(
        [
            r"\begin{table*}",
            r"\centering",
            f"\\caption{{{escape_latex(caption)}}}",
            f"\\label{{{label}}}",
            r"\small",
            *tabular,
            r"\end{table*}",
        ]
    )


def _latex_head(column: Column) -> str:
    return escape_latex(_head(column))


def _latex_groups(columns: Sequence[Column]) -> list[str]:
    """A line above the heads that says what the metrics judge, with rules below it."""
    if not any(column.group for column in columns):
        return []
    spans: list[tuple[str, int, int]] = []
    for number, column in enumerate(columns, start=2):
        if spans and spans[-1][0] == column.group:
            spans[-1] = (column.group, spans[-1][1], number)
        else:
            spans.append((column.group, number, number))
    cells = [
        f"\\multicolumn{{{end - start + 1}}}{{c}}{{{escape_latex(group)}}}"
        for group, start, end in spans
    ]
    rules = [f"\\cmidrule(lr){{{start}-{end}}}" for group, start, end in spans if group]
    return [" & ".join(["", *cells]) + r" \\", " ".join(rules)]


def _latex_entry(entry: Entry) -> str:
    value = escape_latex(entry.text)
    value = {1: "\\textbf{{{}}}", 2: "\\underline{{{}}}"}.get(entry.rank, "{}").format(value)
    error = f" {{\\scriptsize $\\pm$ {entry.error}}}" if entry.error else ""
    return value + error + escape_latex(entry.mark)


def _number(value: float) -> str:
    """All digits; nothing for NaN."""
    return "" if math.isnan(value) else repr(value)
