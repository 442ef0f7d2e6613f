"""What a table says, before any format: columns, texts of the cells, ranks, caption and notes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from captum_ib.report.aggregate import Cell, Table, paired_cell, ranks
from captum_ib.report.reading import MetricInfo, Run

NONE = "–"
DAGGER = "†"
_APPLIES = {"image": "Image", "text": "Text", "pair": "Pair"}


@dataclass(frozen=True)
class Entry:
    """A cell as text; ``rank`` 1 is the best of its column, 2 the second, 0 neither."""

    text: str
    error: str = ""
    mark: str = ""
    rank: int = 0


@dataclass(frozen=True)
class Column:
    """A column: what stands above it, the group it belongs to, and its cells."""

    head: str
    arrow: str
    group: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Layout:
    """One table, ready to be written in any format.

    Attributes:
        title: short name of the table.
        methods: first column.
        columns: the others.
        caption: sentences that explain it.
        notes: what is missing or was left out, one sentence each.
    """

    title: str
    methods: tuple[str, ...]
    columns: tuple[Column, ...]
    caption: str
    notes: tuple[str, ...] = ()


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
        result.append(_whole(table))
    if paired and table.metrics and len(table.lines) > 1:
        result.append(_paired(table))
    first = result[0]
    result[0] = Layout(first.title, first.methods, first.columns, first.caption, notes(table))
    return result


def heading(table: Table) -> str:
    """The group's name: the run's title, else model and data."""
    titles = dict.fromkeys(run.config.get("title") or "" for run in table.group.runs)
    named = [title for title in titles if title]
    return ", ".join(named) or f"{table.group.config['model']} on {_data(table)}"


def decimals(cells: Iterable[Cell]) -> int:
    """Decimals that show three to four digits of the column's largest number.

    >>> decimals([Cell(53.21, 0.4, "seeds", 9)]), decimals([Cell(0.532, 0.4, "seeds", 9)])
    (2, 3)
    """
    top = max((abs(cell.mean) for cell in cells if math.isfinite(cell.mean)), default=0.0)
    if top >= 1000:
        return 0
    if top >= 100:
        return 1
    if top >= 1:
        return 2
    return 4 if 0 < top < 0.01 else 3


def notes(table: Table) -> tuple[str, ...]:
    """What a reader has to know about what is not in the table."""
    group = table.group
    result = [note for run in group.runs for note in _unfinished(run)]
    if group.skipped:
        name, reason = next(iter(group.skipped.items()))
        some = "1 sample was" if len(group.skipped) == 1 else f"{len(group.skipped)} samples were"
        result.append(f"{some} skipped as unreadable, e.g. {name}: {reason.rstrip('.')}.")
    failed = [f"{line.method.title} {line.failed}" for line in table.lines if line.failed]
    if failed:
        result.append(
            f"Samples on which a method failed, left out of its means: {_listed(failed)}."
        )
    result += _undefined(table)
    return (*result, *group.notes)


def _undefined(table: Table) -> list[str]:
    """Which methods lack scores in which metrics; metrics that lack the same share a sentence."""
    lacking: dict[str, list[str]] = {}
    for metric in table.metrics:
        counts = [
            f"{line.method.title} {line.samples - line.cells[metric.label].n}"
            for line in table.lines
            if 0 < line.cells[metric.label].n < line.samples
        ]
        if counts:
            lacking.setdefault(_listed(counts), []).append(metric.title)
    return [f"Samples without {_listed(names)}: {counts}." for counts, names in lacking.items()]


def _per_sample(table: Table) -> Layout:
    order = list(dict.fromkeys(metric.applies for metric in table.metrics))
    metrics = sorted(table.metrics, key=lambda metric: order.index(metric.applies))
    lines = table.lines
    several = len({metric.applies for metric in metrics}) > 1
    counts = [
        Entry(f"{line.samples}") if not line.failed else Entry(f"{line.samples} (−{line.failed})")
        for line in lines
    ]
    columns = [Column("n", "", "", tuple(counts))]
    columns += [_column(table, metric, several) for metric in metrics]
    columns.append(
        Column("samples/s", "↑", "", tuple(Entry(shown_rate(line.rate)) for line in lines))
    )
    columns.append(
        Column("peak MB", "↓", "", tuple(Entry(_megabytes(line.peak)) for line in lines))
    )
    methods = tuple(line.method.title for line in lines)
    return Layout("Scores per sample", methods, tuple(columns), _caption(table))


def _whole(table: Table) -> Layout:
    columns = tuple(_column(table, metric, False) for metric in table.whole)
    seeds = max(line.seeds for line in table.lines)
    caption = (
        f"{heading(table)}: scores over the whole set of {len(table.group.index)} samples. "
        + (f"Mean ± standard error over {seeds} seeds. " if seeds > 1 else "One seed. ")
        + "Best bold, second underlined."
    )
    methods = tuple(line.method.title for line in table.lines)
    return Layout("Scores over the whole set", methods, columns, caption)


def _paired(table: Table) -> Layout:
    columns = []
    for metric in table.metrics:
        cells = [line.cells[metric.label] for line in table.lines]
        places = ranks(cells, metric.up, decimals(cells))
        if 1 not in places:
            continue
        best = places.index(1)
        values = [
            table.group.scores[line.method.label].values[metric.label] for line in table.lines
        ]
        differences = [paired_cell(one, values[best], metric.scale) for one in values]
        digits = decimals(differences)
        entries = [
            Entry("best", rank=1) if number == best else _entry(cell, digits, signed=True)
            for number, cell in enumerate(differences)
        ]
        columns.append(Column(metric.title, metric.arrow, "", tuple(entries)))
    caption = (
        f"{heading(table)}: mean difference to the best method of each metric, ± standard error "
        "over samples. Differences are taken per sample (means over seeds), where both methods "
        "have a score."
    )
    methods = tuple(line.method.title for line in table.lines)
    return Layout("Paired differences to the best", methods, tuple(columns), caption)


def _column(table: Table, metric: MetricInfo, grouped: bool) -> Column:
    cells = [line.cells[metric.label] for line in table.lines]
    digits = decimals(cells)
    over_seeds = any(line.seeds > 1 for line in table.lines)
    entries = [
        _entry(cell, digits, rank, DAGGER if over_seeds and cell.over == "samples" else "")
        for cell, rank in zip(cells, ranks(cells, metric.up, digits), strict=True)
    ]
    group = _APPLIES.get(metric.applies, metric.applies) if grouped else ""
    return Column(metric.title, metric.arrow, group, tuple(entries))


def _entry(cell: Cell, digits: int, rank: int = 0, mark: str = "", signed: bool = False) -> Entry:
    if math.isnan(cell.mean):
        return Entry(NONE)
    text = f"{cell.mean:{'+' if signed else ''}.{digits}f}".replace("-", "−")
    error = "" if math.isnan(cell.error) else f"{cell.error:.{digits}f}"
    return Entry(text, error, mark if error else "", rank)


def _caption(table: Table) -> str:
    group = table.group
    seeds = sorted({line.seeds for line in table.lines})
    over_seeds = seeds[-1] > 1
    count = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    subject = f"{group.config['model']} on {_data(table)}"
    if heading(table) != subject:
        subject = f"{heading(table)}: {subject}"
    dtype = group.config.get("dtype", "float32")
    sentences = [
        f"{subject}, {len(group.index)} samples, {dtype}.",
        f"Mean ± standard error over {count} seeds of the means over samples."
        if over_seeds
        else f"Mean ± standard error over samples (one seed{_seed(table)}).",
    ]
    marked = any(
        cell.over == "samples" and not math.isnan(cell.error)
        for line in table.lines
        for cell in line.cells.values()
    )
    if over_seeds and marked:
        sentences.append(f"{DAGGER}: the same scores with every seed; ± over samples.")
    sentences.append("Best bold, second underlined.")
    if any(line.failed for line in table.lines):
        sentences.append("n: samples with a map (−: samples that failed).")
    else:
        sentences.append("n: samples with a map.")
    device = group.config.get("device", "cpu")
    sentences.append(f"Time and peak memory of the maps alone, on {device}.")
    return " ".join(sentences)


def _data(table: Table) -> str:
    data = table.group.config["data"]
    options = ", ".join(f"{name} {value}" for name, value in (data.get("options") or {}).items())
    path = f" {data['path']}" if data.get("path") else ""
    return f"{data['kind']}{path}" + (f" ({options})" if options else "")


def _seed(table: Table) -> str:
    seeds = {seed for scores in table.group.scores.values() for seed in scores.seeds}
    return f", {seeds.pop()}" if len(seeds) == 1 else ""


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


def _listed(parts: Sequence[str]) -> str:
    return ", ".join(parts)


def _megabytes(peak: int | None) -> str:
    if peak is None:
        return NONE
    return f"{peak / 1e6:.0f}" if peak >= 1e7 else f"{peak / 1e6:.1f}"


def shown_rate(rate: float) -> str:
    """Samples per second, three digits."""
    if math.isnan(rate):
        return NONE
    return f"{rate:.0f}" if rate >= 100 else f"{rate:.3g}"
