"""Per-sample scores of one table: read from run folders, joined, and put in order."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from captum_ib.report.libraries import DataFrame, pd
from captum_ib.report.reading import MethodInfo, MetricInfo, Part, Run

PREFIX = "metric:"


@dataclass(frozen=True)
class Group:
    """Everything about one model on one set of samples: the contents of one table.

    Attributes:
        runs: where it comes from.
        methods: label → description, of all methods with results.
        metrics: label → description.
        rows: one per method, seed and sample, with these as its index; columns ``"ok"`` (there is a
            map), ``"seconds"``, ``"peak_bytes"`` and ``"metric:LABEL"``, NaN where there is no
            score.
        whole: scores over the whole set: columns ``"method"``, ``"seed"``, ``"metric"``,
            ``"value"``.
        index: the samples' numbers in the data, ascending.
        skipped: samples that could not be read, with the reason.
        notes: what a reader has to know about the joining.
    """

    runs: tuple[Run, ...]
    methods: Mapping[str, MethodInfo]
    metrics: Mapping[str, MetricInfo]
    rows: DataFrame
    whole: DataFrame
    index: np.ndarray
    skipped: Mapping[str, str]
    notes: tuple[str, ...]

    @property
    def config(self) -> Mapping[str, Any]:
        """Of the first run; model, data, samples and dtype are those of all."""
        return self.runs[0].config

    def seeds(self, method: str) -> list[int]:
        """A method's seeds, ascending."""
        return self.rows.loc[method].index.unique("seed").sort_values().tolist()

    def scores(self, method: str, metric: str) -> DataFrame:
        """A method's scores in a metric, seeds × samples."""
        return self.table(method, PREFIX + metric)

    def table(self, method: str, column: str) -> DataFrame:
        """A column of one method's rows, seeds × samples; NaN where there is no row."""
        return self.rows.loc[method][column].unstack("index").reindex(columns=self.index)

    def read(self, part: Part, columns: Sequence[str], only: Collection[int] | None = None) -> Any:
        """Rows of all runs with some columns and the run's place; what is missing is ``None``.

        Of a sample (with the results: of a sample, method and seed) that several runs have, the
        first run's counts.
        """
        keys = ["index", "method", "seed"] if part == "results" else ["index"]
        columns = [*keys, *columns]
        found = [
            run.read(part, columns, only).to_pandas().astype(object).assign(run=place)
            for place, run in enumerate(self.runs)
        ]
        rows = pd.concat(found).drop_duplicates(keys).reindex(columns=[*columns, "run"])
        return rows.where(rows.notna(), None)


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
    metrics = _first_of([run.metrics for run in runs])
    rows = pd.concat(
        [_rows(run, list(metrics)).assign(run=number) for number, run in enumerate(runs)],
        ignore_index=True,
    )
    notes = _versions(runs)
    rows, several = _common(rows, runs)
    rows, again = _first(rows)
    found = {label: MethodInfo(label, label) for label in rows["method"].unique()}
    known = _first_of([*(run.methods for run in runs), found])
    whole = pd.concat([_whole(run).assign(run=number) for number, run in enumerate(runs)])
    owner = rows.groupby(["method", "seed"])["run"].first().rename("owner")
    whole = whole.merge(owner, left_on=["method", "seed"], right_index=True)
    return Group(
        runs=tuple(runs),
        methods={label: method for label, method in known.items() if label in found},
        metrics=metrics,
        rows=rows.drop(columns="run").set_index(["method", "seed", "index"]),
        whole=whole[whole["run"] == whole["owner"]],
        index=np.sort(rows["index"].unique()),
        skipped={name: reason for run in runs for name, reason in read_skipped(run).items()},
        notes=(*notes, *several, *again),
    )


def _rows(run: Run, metrics: Sequence[str]) -> DataFrame:
    """A run's rows with the columns that a table needs."""
    names = [PREFIX + label for label in metrics]
    columns = ["index", "method", "seed", "status", "seconds", "peak_bytes"]
    table = run.read("results", [*columns, *names])
    if not len(table):
        reason = next(iter(run.broken.values()), "it is empty")
        raise ValueError(f"no chunk of the run in {run.folder} can be read: {reason}")
    rows = table.to_pandas().reindex(columns=[*columns, *names])
    rows["ok"] = rows.pop("status") == "ok"
    rows.loc[~rows["ok"], ["seconds", *names]] = np.nan
    return rows.drop_duplicates(["method", "seed", "index"])


def _common(rows: DataFrame, runs: Sequence[Run]) -> tuple[DataFrame, list[str]]:
    """The rows of samples that every run has reached, and a note where that leaves some out."""
    reached = rows.groupby("index")["run"].nunique()
    index = reached.index[reached == len(runs)]
    if index.empty:
        names = ", ".join(str(run.folder) for run in runs)
        raise ValueError(
            f"no sample has been judged in {'all of ' if len(runs) > 1 else ''}{names}"
        )
    most = rows.groupby("run")["index"].nunique().max()
    note = f"Over the {len(index)} samples that all runs have reached (of {most})."
    return rows[rows["index"].isin(index)], [note] if most > len(index) else []


def _first(rows: DataFrame) -> tuple[DataFrame, list[str]]:
    """Of a method and seed that several runs have, the first run's rows; and a note on each."""
    late = rows["run"] > rows.groupby(["method", "seed"])["run"].transform("min")
    seeds = rows[late].groupby("method", sort=False)["seed"].unique()
    notes = [
        f"{label}: seed(s) {sorted(map(int, twice))} are in several runs; the first counts."
        for label, twice in seeds.items()
    ]
    return rows[~late], notes


def read_skipped(run: Run) -> dict[str, str]:
    """Samples that could not be read, with the reason."""
    rows = run.read("samples", ["sample", "status", "reason"]).to_pylist()
    bad = [row for row in rows if row["status"] != "ok"]
    return {row["sample"]: row["reason"] or "no reason given" for row in bad}


def _whole(run: Run) -> DataFrame:
    """A run's scores over the whole set, the last of those that are there twice."""
    rows = run.read("whole", ["method", "seed", "metric", "value"]).to_pandas()
    rows = rows.astype({"seed": "int64", "value": "float64"})  # without rows they have no type
    return rows.drop_duplicates(["method", "seed", "metric"], keep="last")


def _first_of(maps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All entries in order; of those with one key, the first."""
    result: dict[str, Any] = {}
    for one in maps:
        result.update({key: value for key, value in one.items() if key not in result})
    return result


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


def _versions(runs: Sequence[Run]) -> list[str]:
    """A note where different versions of packages made the runs."""
    names = sorted({name for run in runs for name in run.versions})
    differ = [name for name in names if len({run.versions.get(name) for run in runs}) > 1]
    return [f"The runs were made with different versions of {', '.join(differ)}."] if differ else []
