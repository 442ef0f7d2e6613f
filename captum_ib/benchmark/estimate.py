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
class MethodCost:
    """One method's share of a run.

    Attributes:
        label: of the method.
        explain: seconds per sample and seed for the map.
        judge: seconds per sample and seed for the metrics.
        total: seconds for all samples and seeds.
        peak_bytes: most memory that a batch of maps took; ``None``: unknown.
        problem: why the method failed on a sample, where it did.
    """

    label: str
    explain: float
    judge: float
    total: float
    peak_bytes: int | None
    problem: str | None


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Attributes:
        samples: of the run.
        seeds: of the run.
        probed: samples it was measured on.
        methods: one entry per method.
        reading: seconds for reading and preparing all samples.
        unknown: labels of metrics that were not tried.
    """

    samples: int
    seeds: int
    probed: int
    methods: tuple[MethodCost, ...]
    reading: float
    unknown: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """For the whole run."""
        return self.reading + sum(cost.total for cost in self.methods)

    def __str__(self) -> str:
        """A table for a terminal."""
        rows = {
            cost.label: (
                f"{cost.explain:.3g}",
                f"{cost.judge:.3g}",
                duration(cost.total),
                "?" if cost.peak_bytes is None else f"{cost.peak_bytes / 2**20:.0f} MiB",
            )
            for cost in self.methods
        }
        rows["reading"] = ("", "", duration(self.reading), "")
        names = pd.Index(
            ["map s/sample", "metrics s/sample", "total", "peak memory"], name="method"
        )
        table = pd.DataFrame(list(rows.values()), list(rows), names).to_string().splitlines()
        total = f"{self.samples} samples x {self.seeds} seeds: about {duration(self.seconds)}"
        lines = [*map(str.rstrip, table), f"{total} (measured on {self.probed} samples)"]
        lines += [f"{cost.label} failed: {cost.problem}" for cost in self.methods if cost.problem]
        if self.unknown:
            lines.append(f"not counted: {', '.join(self.unknown)}, over the whole set")
        return "\n".join(lines)


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
    >>> found.probed, found.methods[0].label, found.seconds > 0
    (1, 'NIB', True)
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
    costs = tuple(_cost(worker, number, probes) for number in range(len(worker.explainers)))
    unknown = tuple(column.label for column in config.metrics if METRICS[column.metric].whole)
    counted = sum(map(len, probes[-1]))
    return Estimate(
        worker.count, len(config.seeds), counted, costs, reading * worker.count, unknown
    )


def _cost(worker: Worker, number: int, probes: Sequence[Sequence[Subjects]]) -> MethodCost:
    """A method's times on the last probe; its memory, and a failure, on any of them."""
    line, explainer = worker.explainers[number]
    seeds, problem, peaks = worker.config.seeds, None, []
    rows, both = [], 0.0
    for groups in probes:
        started = time.perf_counter()
        rows = [row for group in groups for row in worker.rows(explainer, group, seeds[0])]
        both = time.perf_counter() - started
        peaks += [row["peak_bytes"] for row in rows if row["peak_bytes"] is not None]
        problem = next((row["reason"] for row in rows if row["status"] == "failed"), problem)
    explain = sum(row["seconds"] for row in rows) / len(rows)
    each = both / len(rows)
    return MethodCost(
        line.label,
        explain,
        each - explain,
        each * worker.count * (len(seeds) if explainer.stochastic else 1),
        max(peaks, default=None),
        problem,
    )


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
