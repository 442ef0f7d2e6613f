"""Per-sample scores of one table: read from run folders, joined, and put in order."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from captum_ib.report.reading import MethodInfo, MetricInfo, Run

PREFIX = "metric:"


@dataclass(frozen=True)
class MethodScores:
    """What one method got, per seed and sample.

    Attributes:
        seeds: S seeds.
        index: `(N,)` numbers of the samples in the data, ascending.
        values: metric label → `(S, N)` scores; NaN: failed, undefined or not computed.
        ok: `(S, N)`, whether there is a map.
        seconds: `(S, N)`, time per sample.
        peak: largest memory above the level before, in bytes; None where it can't be told.
        whole: metric → `(S,)` scores over the whole set.
    """

    seeds: tuple[int, ...]
    index: np.ndarray
    values: Mapping[str, np.ndarray]
    ok: np.ndarray
    seconds: np.ndarray
    peak: int | None
    whole: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """Everything about one model on one set of samples: the contents of one table.

    Attributes:
        runs: where it comes from.
        methods: label → description.
        metrics: label → description.
        scores: method label → its scores, all on the same samples.
        index: `(N,)` the samples.
        skipped: samples that could not be read, with the reason.
        notes: what a reader has to know about the joining.
    """

    runs: tuple[Run, ...]
    methods: Mapping[str, MethodInfo]
    metrics: Mapping[str, MetricInfo]
    scores: Mapping[str, MethodScores]
    index: np.ndarray
    skipped: Mapping[str, str]
    notes: tuple[str, ...]

    @property
    def config(self) -> Mapping[str, Any]:
        """Of the first run; model, data, samples and dtype are those of all."""
        return self.runs[0].config


def group_runs(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs that belong in one table: same model, data, number of samples and precision.

    Raises:
        ValueError: two runs give one label to different settings.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        parts = {key: run.config.get(key) for key in ("model", "data", "samples", "dtype")}
        groups.setdefault(json.dumps(parts, sort_keys=True), []).append(run)
    for members in groups.values():
        for what in ("methods", "metrics"):
            _check_labels(members, what)
    return list(groups.values())


def read_group(runs: Sequence[Run]) -> Group:
    """Read and join the scores of runs that :func:`group_runs` put together.

    A method that two runs judged with the same seed is taken from the first. Only samples that all
    runs have reached count, so that every line of the table speaks of the same samples.

    Raises:
        ValueError: no chunk of a run can be read, or the runs have no sample in common.
    """
    methods, metrics, notes = _described(runs)
    pieces: dict[str, list[MethodScores]] = {label: [] for label in methods}
    reached: list[np.ndarray] = []
    skipped: dict[str, str] = {}
    for run in runs:
        scores, index = read_scores(run, list(metrics))
        bad = read_skipped(run)
        skipped.update(bad)
        reached.append(index)
        for label, piece in scores.items():
            pieces[label].append(piece)
    index = reached[0]
    for other in reached[1:]:
        index = np.intersect1d(index, other)
    if not len(index):
        names = ", ".join(str(run.folder) for run in runs)
        raise ValueError(
            f"no sample has been judged in {'all of ' if len(runs) > 1 else ''}{names}"
        )
    if any(len(other) > len(index) for other in reached):
        most = max(len(other) for other in reached)
        notes.append(f"Over the {len(index)} samples that all runs have reached (of {most}).")
    joined = {}
    for label, several in pieces.items():
        if several:
            joined[label], repeated = _join(several, index)
            if repeated:
                notes.append(f"{label}: seed(s) {repeated} are in several runs; the first counts.")
    return Group(tuple(runs), methods, metrics, joined, index, skipped, tuple(notes))


def read_scores(run: Run, metrics: Sequence[str]) -> tuple[dict[str, MethodScores], np.ndarray]:
    """Scores of a run's methods, and the samples that they were computed on."""
    import pyarrow.compute as pc

    fixed = ["index", "method", "seed", "status", "seconds", "peak_bytes"]
    names = [PREFIX + label for label in metrics]
    codes = {label: number for number, label in enumerate(run.methods)}
    columns: dict[str, list[np.ndarray]] = {name: [] for name in [*fixed, *names]}
    for table in run.tables("results", [*fixed, *names]):
        labels = table["method"].to_pylist()
        for label in labels:
            codes.setdefault(label, len(codes))
        columns["method"].append(np.array([codes[label] for label in labels], dtype=np.int16))
        columns["status"].append(pc.equal(table["status"], "ok").to_numpy())  # pyright: ignore
        for name in ("index", "seed", "peak_bytes", "seconds"):
            columns[name].append(_numbers(table, name))
        for name in names:
            columns[name].append(_numbers(table, name))
    if not columns["index"]:
        reason = next(iter(run.broken.values()), "it is empty")
        raise ValueError(f"no chunk of the run in {run.folder} can be read: {reason}")
    flat = {name: np.concatenate(parts) for name, parts in columns.items()}
    index = np.unique(flat["index"]).astype(np.int64)
    whole = _whole(run)
    result = {}
    for label, code in codes.items():
        rows = flat["method"] == code
        if rows.any():
            one = {name: values[rows] for name, values in flat.items()}
            result[label] = _scores(one, metrics, index, whole.get(label, {}))
    return result, index


def read_skipped(run: Run) -> dict[str, str]:
    """Samples that could not be read, with the reason."""
    import pyarrow.compute as pc

    result = {}
    for table in run.tables("samples", ["index", "sample", "status", "reason"]):
        bad = table.filter(pc.not_equal(table["status"], "ok"))  # pyright: ignore
        for row in bad.select(["sample", "reason"]).to_pylist():
            result[row["sample"]] = row["reason"] or "no reason given"
    return result


def _numbers(table: Any, name: str) -> np.ndarray:
    """A column as float64, NaN for nulls and for a column that is not there; counts stay whole."""
    if name not in table.column_names:
        return np.full(len(table), np.nan)
    values = table[name].to_numpy()
    return values.astype(np.int64 if name in ("index", "seed") else np.float64)


def _scores(
    flat: Mapping[str, np.ndarray],
    metrics: Sequence[str],
    index: np.ndarray,
    whole: Mapping[str, Mapping[int, float]],
) -> MethodScores:
    """One method's rows as `(S, N)` arrays; a row that comes twice counts once."""
    seeds, row = np.unique(flat["seed"], return_inverse=True)
    column = np.searchsorted(index, flat["index"])
    shape = (len(seeds), len(index))

    def arranged(values: np.ndarray, empty: Any) -> np.ndarray:
        result = np.full(shape, empty, dtype=np.result_type(values, type(empty)))
        result[row[::-1], column[::-1]] = values[::-1]  # the first of two rows is written last
        return result

    values = {label: arranged(flat[PREFIX + label], np.nan) for label in metrics}
    ok = arranged(flat["status"].astype(bool), False)
    for scores in values.values():
        scores[~ok] = np.nan
    peaks = flat["peak_bytes"][np.isfinite(flat["peak_bytes"])]
    return MethodScores(
        seeds=tuple(int(seed) for seed in seeds),
        index=index,
        values=values,
        ok=ok,
        seconds=np.where(ok, arranged(flat["seconds"], np.nan), np.nan),
        peak=int(peaks.max()) if len(peaks) else None,
        whole={
            metric: np.array([per_seed.get(int(seed), np.nan) for seed in seeds])
            for metric, per_seed in whole.items()
        },
    )


def _whole(run: Run) -> dict[str, dict[str, dict[int, float]]]:
    """Method → metric → seed → score over the whole set."""
    result: dict[str, dict[str, dict[int, float]]] = {}
    for table in run.tables("whole"):
        for row in table.to_pylist():
            value = float("nan") if row["value"] is None else float(row["value"])
            result.setdefault(row["method"], {}).setdefault(row["metric"], {})[row["seed"]] = value
    return result


def _join(pieces: Sequence[MethodScores], index: np.ndarray) -> tuple[MethodScores, list[int]]:
    """One method's scores of several runs on common samples; also the seeds that came twice."""
    taken: list[tuple[int, int, int]] = []  # seed, piece, row
    repeated: list[int] = []
    for number, piece in enumerate(pieces):
        for row, seed in enumerate(piece.seeds):
            if any(seed == other for other, _, _ in taken):
                repeated.append(seed)
            else:
                taken.append((seed, number, row))
    taken.sort()
    where = [np.searchsorted(piece.index, index) for piece in pieces]

    def stacked(pick: Any) -> np.ndarray:
        return np.stack([pick(pieces[number])[row][where[number]] for _, number, row in taken])

    whole = {}
    for metric in dict.fromkeys(name for piece in pieces for name in piece.whole):
        rows = [pieces[number].whole.get(metric) for _, number, _ in taken]
        scores = [
            np.nan if one is None else one[row]
            for one, (_, _, row) in zip(rows, taken, strict=True)
        ]
        whole[metric] = np.array(scores, dtype=float)
    joined = MethodScores(
        seeds=tuple(seed for seed, _, _ in taken),
        index=index,
        values={
            label: stacked(lambda piece, label=label: piece.values[label])
            for label in pieces[0].values
        },
        ok=stacked(lambda piece: piece.ok),
        seconds=stacked(lambda piece: piece.seconds),
        peak=max((piece.peak for piece in pieces if piece.peak is not None), default=None),
        whole=whole,
    )
    return joined, repeated


def _check_labels(runs: Sequence[Run], what: str) -> None:
    seen: dict[str, tuple[Any, Run]] = {}
    for run in runs:
        for entry in run.config.get(what, []):
            label = entry["label"]
            first, home = seen.setdefault(label, (entry, run))
            if first != entry:
                raise ValueError(
                    f"{label!r} means two things: {_said(first)} in {home.folder} and "
                    f"{_said(entry)} in {run.folder}; report the runs one by one, or run one of "
                    "them again with another label"
                )


def _said(entry: Mapping[str, Any]) -> str:
    return json.dumps({key: value for key, value in entry.items() if key != "label"})


def _described(
    runs: Sequence[Run],
) -> tuple[dict[str, MethodInfo], dict[str, MetricInfo], list[str]]:
    """All methods and metrics of the runs, and a note where other versions made them."""
    methods: dict[str, MethodInfo] = {}
    metrics: dict[str, MetricInfo] = {}
    for run in runs:
        for label, method in run.methods.items():
            methods.setdefault(label, method)
        for label, metric in run.metrics.items():
            metrics.setdefault(label, metric)
    differ = [
        name
        for name in sorted({name for run in runs for name in run.versions})
        if len({run.versions.get(name) for run in runs}) > 1
    ]
    notes = (
        [f"The runs were made with different versions of {', '.join(differ)}."] if differ else []
    )
    return methods, metrics, notes
