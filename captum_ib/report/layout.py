"""What a table says, before any format: columns, texts of the cells, ranks, caption and notes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from captum_ib.report.aggregate import Cell, Line, Table, paired_cell, ranks
from captum_ib.report.disagreement import sentences
from captum_ib.report.libraries import DataFrame, pd
from captum_ib.report.reading import MetricInfo, Run

NONE = "–"
DAGGER = "†"
BEST = "Best bold, second underlined."


@dataclass(frozen=True)
class Entry:
    """A cell as text; ``rank`` 1 is the best of its column, 2 the second, 0 neither."""

    text: str
    error: str = ""
    mark: str = ""
    rank: int = 0


@dataclass(frozen=True)
class Layout:
    """One table, ready to be written in any format.

    Attributes:
        entries: an :class:`Entry` per method and column, under the methods' and columns' titles.
        groups: what the metric of each column judges, where the columns differ in that; else "".
        caption: sentences that explain it.
        notes: what is missing or was left out, one sentence each.
    """

    entries: DataFrame
    groups: tuple[str, ...]
    caption: str
    notes: tuple[str, ...] = ()


Column = tuple[str, Sequence[Entry]]


def layouts(table: Table, paired: bool = False) -> list[Layout]:
    """The tables of one group: scores per sample, scores over the whole set, paired differences.

    Args:
        table: the numbers.
        paired: add a table of paired differences to the best method of each metric.
    """
    result = []
    if table.metrics or not table.whole:
        result.append(_per_sample(table))
    if table.whole:
        columns = [_column(table, metric) for metric in table.whole]
        result.append(_layout(table, columns, _whole_caption(table)))
    if paired and table.metrics and len(table.lines) > 1:
        columns = [_differences(table, metric) for metric in table.metrics]
        caption = (
            f"{heading(table)}: mean difference to the best method of each metric, ± standard "
            "error over samples. Differences are taken per sample (means over seeds), where both "
            "methods have a score."
        )
        result.append(_layout(table, [column for column in columns if column], caption))
    result[0] = replace(result[0], notes=notes(table))
    return result


def heading(table: Table) -> str:
    """The group's name: the run's title, else model and data."""
    titles = dict.fromkeys(run.config.get("title") or "" for run in table.group.runs)
    return ", ".join(filter(None, titles)) or _subject(table)


def decimals(cells: Iterable[Cell]) -> int:
    """Decimals that show three to four digits of the column's largest number.

    >>> decimals([Cell(53.21, 0.4, "seeds", 9)]), decimals([Cell(0.532, 0.4, "seeds", 9)])
    (2, 3)
    """
    top = max((abs(cell.mean) for cell in cells if math.isfinite(cell.mean)), default=0.0)
    if 0 < top < 0.01:
        return 4
    return 3 - sum(top >= step for step in (1, 100, 1000))


def notes(table: Table) -> tuple[str, ...]:
    """What a reader has to know about what is not in the table."""
    group = table.group
    result = [note for run in group.runs for note in _unfinished(run)]
    if group.skipped:
        name, reason = next(iter(group.skipped.items()))
        some = "1 sample was" if len(group.skipped) == 1 else f"{len(group.skipped)} samples were"
        result.append(f"{some} skipped as unreadable, e.g. {name}: {reason.rstrip('.')}.")
    failed = ", ".join(f"{line.method.title} {line.failed}" for line in table.lines if line.failed)
    if failed:
        result.append(f"Samples on which a method failed, left out of its means: {failed}.")
    lacking: dict[str, list[str]] = {}  # metrics that lack the same share a sentence
    for metric in table.metrics:
        lacks = ((line, line.samples - line.cells[metric.label].n) for line in table.lines)
        counts = ", ".join(
            f"{line.method.title} {lack}" for line, lack in lacks if 0 < lack < line.samples
        )
        if counts:
            lacking.setdefault(counts, []).append(metric.title)
    result += [
        f"Samples without {', '.join(names)}: {counts}." for counts, names in lacking.items()
    ]
    return (*result, *sentences(table), *group.notes)


def shown_rate(rate: float) -> str:
    """Samples per second, three digits."""
    if math.isnan(rate):
        return NONE
    return f"{rate:.0f}" if rate >= 100 else f"{rate:.3g}"


def _layout(
    table: Table, columns: Sequence[Column], caption: str, groups: Sequence[str] = ()
) -> Layout:
    methods = [line.method.title for line in table.lines]
    rows = list(zip(*(entries for _, entries in columns), strict=True))
    frame = pd.DataFrame(rows, index=methods, columns=[head for head, _ in columns], dtype=object)
    return Layout(frame, tuple(groups) or ("",) * len(columns), caption)


def _per_sample(table: Table) -> Layout:
    order = list(dict.fromkeys(metric.applies for metric in table.metrics))
    metrics = sorted(table.metrics, key=lambda metric: order.index(metric.applies))
    groups = [metric.applies.capitalize() if len(order) > 1 else "" for metric in metrics]
    columns = [
        ("n", [Entry(_count(line)) for line in table.lines]),
        *(_column(table, metric) for metric in metrics),
        ("samples/s ↑", [Entry(shown_rate(line.rate)) for line in table.lines]),
        ("peak MB ↓", [Entry(_megabytes(line.peak)) for line in table.lines]),
    ]
    return _layout(table, columns, _caption(table), ["", *groups, "", ""])


def _column(table: Table, metric: MetricInfo) -> Column:
    cells = [line.cells[metric.label] for line in table.lines]
    digits = decimals(cells)
    over_seeds = any(line.seeds > 1 for line in table.lines)
    entries = [
        _entry(cell, digits, rank, DAGGER if over_seeds and cell.over == "samples" else "")
        for cell, rank in zip(cells, ranks(cells, metric.up, digits), strict=True)
    ]
    return f"{metric.title} {metric.arrow}", entries


def _differences(table: Table, metric: MetricInfo) -> Column | None:
    """Each method against the best; nothing where no method has a score."""
    cells = [line.cells[metric.label] for line in table.lines]
    places = ranks(cells, metric.up, decimals(cells))
    if 1 not in places:
        return None
    best = places.index(1)
    scores = [table.group.scores(line.method.label, metric.label) for line in table.lines]
    differences = [paired_cell(one, scores[best], metric.scale) for one in scores]
    digits = decimals(differences)
    entries = [_entry(cell, digits, signed=True) for cell in differences]
    entries[best] = Entry("best", rank=1)
    return f"{metric.title} {metric.arrow}", entries


def _entry(cell: Cell, digits: int, rank: int = 0, mark: str = "", signed: bool = False) -> Entry:
    if math.isnan(cell.mean):
        return Entry(NONE)
    text = f"{cell.mean:{'+' if signed else ''}.{digits}f}".replace("-", "−")
    error = "" if math.isnan(cell.error) else f"{cell.error:.{digits}f}"
    return Entry(text, error, mark if error else "", rank)


def _caption(table: Table) -> str:
    group, lines = table.group, table.lines
    subject = _subject(table)
    if heading(table) != subject:
        subject = f"{heading(table)}: {subject}"
    counts = sorted({line.seeds for line in lines})
    if counts[-1] > 1:
        count = " to ".join(map(str, dict.fromkeys([counts[0], counts[-1]])))
        error = f"Mean ± standard error over {count} seeds of the means over samples."
    else:
        seeds = {seed for label in group.methods for seed in group.seeds(label)}
        which = f", {seeds.pop()}" if len(seeds) == 1 else ""
        error = f"Mean ± standard error over samples (one seed{which})."
    cells = [cell for line in lines for cell in line.cells.values()]
    marked = any(cell.over == "samples" and not math.isnan(cell.error) for cell in cells)
    left_out = " (−: samples that failed)" if any(line.failed for line in lines) else ""
    sentences = [
        f"{subject}, {len(group.index)} samples, {group.config.get('dtype', 'float32')}.",
        error,
        f"{DAGGER}: the same scores with every seed; ± over samples."
        if counts[-1] > 1 and marked
        else "",
        BEST,
        f"n: samples with a map{left_out}.",
        f"Time and peak memory of the maps alone, on {group.config.get('device', 'cpu')}.",
    ]
    return " ".join(filter(None, sentences))


def _whole_caption(table: Table) -> str:
    seeds = max(line.seeds for line in table.lines)
    error = f"Mean ± standard error over {seeds} seeds." if seeds > 1 else "One seed."
    count = len(table.group.index)
    return f"{heading(table)}: scores over the whole set of {count} samples. {error} {BEST}"


def _subject(table: Table) -> str:
    """Model and data."""
    data = table.group.config["data"]
    options = ", ".join(f"{name} {value}" for name, value in (data.get("options") or {}).items())
    path = f" {data['path']}" if data.get("path") else ""
    shown = f"{data['kind']}{path}" + (f" ({options})" if options else "")
    return f"{table.group.config['model']} on {shown}"


def _unfinished(run: Run) -> list[str]:
    result = []
    if not run.finished:
        missing = run.missing
        if missing is None:
            far = "how many chunks are missing is not recorded"
        elif missing:
            far = f"{missing} of {run.chunks} chunks {'is' if missing == 1 else 'are'} missing"
        else:
            far = "all chunks are there, but not joined yet"
        result.append(f"Unfinished: in {run.folder}, {far}.")
    for file, reason in run.broken.items():
        result.append(f"Left out as unreadable: {file.relative_to(run.folder)} ({reason}).")
    return result


def _count(line: Line) -> str:
    return f"{line.samples}" + (f" (−{line.failed})" if line.failed else "")


def _megabytes(peak: int | None) -> str:
    if peak is None:
        return NONE
    return f"{peak / 1e6:.0f}" if peak >= 1e7 else f"{peak / 1e6:.1f}"
