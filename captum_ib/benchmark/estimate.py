"""What a run will take, from a few of its samples: ``--dry-run``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from captum_ib.benchmark.config import RunConfig
from captum_ib.benchmark.metrics import over_all
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
        rows = [("method", "map s/sample", "metrics s/sample", "total", "peak memory")]
        for cost in self.methods:
            memory = "?" if cost.peak_bytes is None else f"{cost.peak_bytes / 2**20:.0f} MiB"
            rows.append(
                (
                    cost.label,
                    f"{cost.explain:.3g}",
                    f"{cost.judge:.3g}",
                    duration(cost.total),
                    memory,
                )
            )
        rows.append(("reading", "", "", duration(self.reading), ""))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if place == 0 else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        total = f"{self.samples} samples x {self.seeds} seeds: about {duration(self.seconds)}"
        lines.append(f"{total} (measured on {self.probed} samples)")
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
    started = time.perf_counter()
    probes = [worker.read(worker.indices(chunk))[0] for chunk in range(min(PROBES, worker.chunks))]
    reading = (time.perf_counter() - started) / sum(
        len(worker.indices(chunk)) for chunk in range(len(probes))
    )
    probes = [groups for groups in probes if groups]
    if not probes:
        raise ValueError(
            "none of the first samples could be read, so nothing could be measured; check the data"
        )
    counted = sum(len(group) for group in probes[-1])
    costs = tuple(
        _cost(worker, number, probes, counted) for number in range(len(worker.explainers))
    )
    unknown = tuple(column.label for column in over_all(config.metrics))
    seeds = len(config.seeds)
    return Estimate(worker.count, seeds, counted, costs, reading * worker.count, unknown)


def _cost(worker: Worker, number: int, probes: Sequence, counted: int) -> MethodCost:
    line, explainer = worker.explainers[number]
    explain, judge, peaks, problem = 0.0, 0.0, [], None
    for groups in probes:  # what the last chunk took counts
        explain, judge, peaks = 0.0, 0.0, []
        for group in groups:
            started = time.perf_counter()
            rows = worker.rows(explainer, group, worker.config.seeds[0])
            maps = sum(row["seconds"] for row in rows)
            explain += maps
            judge += time.perf_counter() - started - maps
            peaks += [row["peak_bytes"] for row in rows if row["peak_bytes"] is not None]
            problem = next((row["reason"] for row in rows if row["status"] == "failed"), problem)
    seeds = len(worker.config.seeds) if explainer.stochastic else 1
    each = (explain + judge) / counted
    return MethodCost(
        line.label,
        explain / counted,
        judge / counted,
        each * seeds * worker.count,
        max(peaks) if peaks else None,
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
