"""What a run will take, from a few of its samples: ``--dry-run``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from captum_ib.benchmark.catalogue import METRICS
from captum_ib.benchmark.config import RunConfig
from captum_ib.benchmark.subjects import Subjects
from captum_ib.benchmark.worker import Worker

PROBES = 2
"""Chunks that are tried; the first also pays for warming up and is not counted."""


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Attributes:
        samples: of the run.
        seeds: of the run.
        probed: samples it was measured on.
        methods: a line per method: ``explain`` and ``judge``, seconds per sample and seed for map
            and metrics; ``total``, seconds for all samples and seeds; ``peak``, the most bytes that
            a batch of maps took, NaN: unknown; ``problem``, why it failed on a sample, if it did.
        reading: seconds for reading and preparing all samples.
        unknown: labels of metrics that were not tried.
    """

    samples: int
    seeds: int
    probed: int
    methods: pd.DataFrame
    reading: float
    unknown: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """For the whole run."""
        return self.reading + float(self.methods["total"].sum())

    def __str__(self) -> str:
        """A table for a terminal."""
        costs = self.methods.astype(object)
        shown = pd.DataFrame(
            {
                "map s/sample": costs["explain"].map("{:.3g}".format),
                "metrics s/sample": costs["judge"].map("{:.3g}".format),
                "total": costs["total"].map(duration),
                "peak memory": [
                    "?" if pd.isna(peak) else f"{peak / 2**20:.0f} MiB" for peak in costs["peak"]
                ],
            }
        ).rename_axis(columns="method")
        shown.loc["reading"] = ["", "", duration(self.reading), ""]
        total = f"{self.samples} samples x {self.seeds} seeds: about {duration(self.seconds)}"
        failed = costs["problem"].dropna().items()
        return "\n".join(
            [
                *map(str.rstrip, shown.to_string().splitlines()),
                f"{total} (measured on {self.probed} samples)",
                *(f"{label} failed: {problem}" for label, problem in failed),
                *(
                    [f"not counted: {', '.join(self.unknown)}, over the whole set"]
                    * bool(self.unknown)
                ),
            ]
        )


def estimate(config: RunConfig, worker: Worker | None = None) -> Estimate:
    """Time and memory of a run, from its first two chunks; nothing is written.

    Args:
        config: the run.
        worker: of that run, if there is one.

    Raises:
        ValueError: none of the samples could be read.

    >>> config = RunConfig.from_dict({
    ...     "model": "zoo:vit-scenes", "data": "scenes", "samples": 1000,
    ...     "methods": ["nib"], "metrics": ["iou"], "batch_size": 1,
    ... })
    >>> found = estimate(config)
    >>> found.probed, list(found.methods.index), found.seconds > 0
    (1, ['NIB'], True)
    """
    worker = worker or Worker(config)
    started, chunks = time.perf_counter(), range(min(PROBES, worker.chunks))
    probes = [worker.read(worker.indices(chunk))[0] for chunk in chunks]
    reading = time.perf_counter() - started
    reading /= sum(len(worker.indices(chunk)) for chunk in chunks)
    probes = [groups for groups in probes if groups]
    if not probes:
        raise ValueError(
            "none of the first samples could be read, so nothing could be measured; check the data"
        )
    costs = {
        line.label: _cost(worker, number, probes) for number, line in enumerate(config.methods)
    }
    return Estimate(
        worker.count,
        len(config.seeds),
        sum(map(len, probes[-1])),
        pd.DataFrame.from_dict(costs, orient="index"),
        reading * worker.count,
        tuple(column.label for column in config.metrics if METRICS[column.metric].whole),
    )


def _cost(
    worker: Worker, number: int, probes: Sequence[Sequence[Subjects]]
) -> dict[str, float | str | None]:
    """A method's times on the last probe; its memory, and a failure, on any of them."""
    explainer, seeds = worker.explainers[number][1], worker.config.seeds
    found, last, both = [], [], 0.0
    for groups in probes:
        started = time.perf_counter()
        last = [row for group in groups for row in worker.rows(explainer, group, seeds[0])]
        both = time.perf_counter() - started
        found += last
    rows, explain = pd.DataFrame(found), sum(row["seconds"] for row in last) / len(last)
    problems = rows.loc[rows["status"] == "failed", "reason"]
    each = both / len(last)
    return {
        "explain": explain,
        "judge": each - explain,
        "total": each * worker.count * (len(seeds) if explainer.stochastic else 1),
        "peak": rows["peak_bytes"].astype(float).max(),
        "problem": None if problems.empty else problems.iloc[-1],
    }


def duration(seconds: float) -> str:
    """Seconds for people.

    >>> duration(0.4), duration(75), duration(7300)
    ('0.4 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 9.5 else f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"
