"""Carry out a run: what is missing in its folder is computed, then joined to one table."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from captum_ib.benchmark.config import RunConfig
from captum_ib.benchmark.metrics import over_all
from captum_ib.benchmark.store import (
    PARTS,
    SAMPLES,
    DifferentRunError,
    RunFolder,
    differences,
)
from captum_ib.benchmark.versions import versions
from captum_ib.benchmark.worker import Evaluated, Worker

Write = Callable[[Evaluated], None]
Execute = Callable[[RunConfig, Sequence[int], Write], None]
"""``execute(config, chunks, write)``: evaluate the chunks, in any order, anywhere, and hand each
result to ``write``, which is called by one thread at a time."""


@dataclass
class Summary:
    """How a run went.

    Attributes:
        folder: where its results are.
        samples: of the run.
        computed: samples computed now; the others were there already.
        skipped: reason → samples that could not be read.
        failed: method → (rows that failed, rows in all, one of the reasons).
        notes: what else the user should know, one line each.
    """

    folder: Path
    samples: int = 0
    computed: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    failed: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """A few lines for a terminal."""
        before = self.samples - self.computed
        there = f" ({before} were there already)" if before else ""
        lines = [f"{self.folder}: {self.samples} samples{there}", *self.notes]
        if self.skipped:
            lines.append(f"{sum(self.skipped.values())} of {self.samples} samples skipped:")
            lines += [f"  {count} x {reason}" for reason, count in _commonest(self.skipped)]
        for method, (count, rows, reason) in self.failed.items():
            lines.append(f"{method} failed on {count} of {rows} rows, e.g.: {reason}")
        return "\n".join(lines)


def run(
    config: RunConfig,
    out: str | Path,
    *,
    execute: Execute | None = None,
    command: Sequence[str] = (),
    show_progress: bool | None = None,
) -> Summary:
    """Carry out a run, or go on with one that was interrupted.

    Args:
        config: the run.
        out: its folder; made when it is not there. Results that are in it are kept.
        execute: who evaluates the chunks; default: this process, one after the other.
        command: the command line, for the record.
        show_progress: a progress bar on stderr; default: where that is a terminal.

    Returns:
        What was done, skipped, and failed.

    Raises:
        DifferentRunError: the folder holds another run, or one on other data.
        FolderInUseError: another process is writing to the folder.
        OSError: the disk is full; what was there before stays.
        ValueError, RuntimeError: the model, the data or a setting does not work.

    >>> import tempfile
    >>> config = RunConfig.from_dict({
    ...     "model": "zoo:vit-scenes", "data": "scenes", "samples": 2,
    ...     "methods": ["nib"], "metrics": ["iou"],
    ... })
    >>> summary = run(config, Path(tempfile.mkdtemp()) / "first")
    >>> summary.samples, summary.computed, sorted(path.name for path in summary.folder.iterdir())
    (2, 2, ['lock', 'parts', 'results.parquet', 'run.json', 'samples', 'samples.parquet', 'whole'])
    """
    from captum_ib.benchmark.whole import evaluate_whole

    folder = RunFolder(out)
    with folder.locked():
        notes: list[str] = []
        record = folder.record
        if record is not None:
            config = _continued(config, record, folder, notes)
        worker = Worker(config)
        _open(folder, record, worker, command, notes)
        done = folder.finished()
        missing = [chunk for chunk in range(worker.chunks) if chunk not in done]
        if any(chunk >= worker.chunks for chunk in done):
            raise DifferentRunError(
                f"{folder.path} holds parts beyond the run's {worker.chunks}; use another folder"
            )
        with _Progress(worker, missing, show_progress) as progress:

            def write(result: Evaluated) -> None:
                folder.write(result.chunk, result.rows, result.samples)
                progress.finished(result.chunk)

            if missing:
                (execute or locally(worker, progress.tick))(config, missing, write)
        if over_all(config.metrics):
            notes += evaluate_whole(worker, folder, show_progress=progress.shown)
        joined = [folder.path / f"{name}.parquet" for name in ("samples", "results")]
        if missing or not all(folder.readable(path) for path in joined):
            folder.collect(SAMPLES, "samples.parquet", worker.samples_schema)
            folder.collect(PARTS, "results.parquet", worker.rows_schema)  # last: now it is complete
        computed = sum(len(worker.indices(chunk)) for chunk in missing)
        return summarise(folder, Summary(folder.path, worker.count, computed, notes=notes))


def locally(worker: Worker, tick: Callable[[int], object] | None = None) -> Execute:
    """Evaluate in this process, one chunk after the other."""

    def execute(config: RunConfig, chunks: Sequence[int], write: Write) -> None:
        for chunk in chunks:
            write(worker.evaluate(chunk, tick))

    return execute


def summarise(folder: RunFolder, summary: Summary) -> Summary:
    """Count what was skipped and what failed, chunk by chunk."""
    for table in folder.tables(SAMPLES):
        reasons = Counter(
            row["reason"]
            for row in table.select(["status", "reason"]).to_pylist()
            if row["status"] == "skipped"
        )
        for reason, count in reasons.items():
            summary.skipped[reason] = summary.skipped.get(reason, 0) + count
    rows: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    first: dict[str, str] = {}
    for table in folder.tables(PARTS):
        for row in table.select(["method", "status", "reason"]).to_pylist():
            rows[row["method"]] += 1
            if row["status"] == "failed":
                failed[row["method"]] += 1
                first.setdefault(row["method"], row["reason"])
    summary.failed = {name: (failed[name], rows[name], first[name]) for name in failed}
    return summary


def _continued(
    config: RunConfig, record: dict[str, Any], folder: RunFolder, notes: list[str]
) -> RunConfig:
    """The run, in chunks as the folder has them.

    Raises:
        DifferentRunError: it is another one.
    """
    old = record["config"]
    if record["fingerprint"] != config.fingerprint():
        ignored = ("title", "device", "batch_size")
        one, other = (
            {key: value for key, value in given.items() if key not in ignored}
            for given in (old, config.to_dict())
        )
        what = "; ".join(differences(one, other)) or "the way it is described"
        raise DifferentRunError(
            f"{folder.path} holds another run, which differs in {what}. Use another folder, or "
            "the same settings to go on with it"
        )
    size = int(old["batch_size"])
    if size != config.batch_size:
        notes.append(f"batch size {size} kept: the folder's parts hold so many samples each")
    return replace(config, batch_size=size)


def _open(
    folder: RunFolder,
    record: dict[str, Any] | None,
    worker: Worker,
    command: Sequence[str],
    notes: list[str],
) -> None:
    """Write run.json for a new folder; for an old one compare the data and the versions."""
    data = {"samples": worker.count, "ids": _digest(worker)}
    if record is None:
        folder.write_record(
            {
                "config": worker.config.to_dict(),
                "fingerprint": worker.config.fingerprint(),
                "data": data,
                "versions": versions(),
                "command": list(command),
                "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            }
        )
        return
    if record.get("data") != data:
        was = record.get("data", {}).get("samples")
        raise DifferentRunError(
            f"the data of {folder.path} changed since the run began ({was} samples then, "
            f"{data['samples']} now, or other ids); use another folder"
        )
    changed = differences(record.get("versions", {}), versions())
    if changed:
        notes.append(f"warning: begun with other versions ({'; '.join(changed)})")


def _digest(worker: Worker) -> str:
    """SHA-256 of the samples' ids, in order."""
    digest = hashlib.sha256()
    for index in range(worker.count):
        digest.update(worker.data.id(index).encode("utf-8") + b"\0")
    return digest.hexdigest()


class _Progress:
    """A bar over maps (sample x method x seed): done, rate, time left."""

    def __init__(self, worker: Worker, missing: Sequence[int], show: bool | None) -> None:
        self.shown = sys.stderr.isatty() if show is None else show
        self._worker = worker
        self._each = len(worker.config.methods) * len(worker.config.seeds)
        self._samples = worker.count - sum(len(worker.indices(chunk)) for chunk in missing)
        self._bar: Any = None

    def __enter__(self) -> _Progress:
        from tqdm.auto import tqdm

        total, done = self._worker.count * self._each, self._samples * self._each
        name = self._worker.config.title or "benchmark"
        self._bar = tqdm(
            total=total, initial=done, desc=name, unit="map", disable=not self.shown, smoothing=0.1
        )
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def tick(self, rows: int) -> None:
        """So many maps more."""
        self._bar.update(rows)

    def finished(self, chunk: int) -> None:
        """A chunk is on the disk: unreadable samples count as done too."""
        self._samples += len(self._worker.indices(chunk))
        behind = self._samples * self._each - self._bar.n
        if behind > 0:
            self._bar.update(behind)


def _commonest(reasons: dict[str, int], most: int = 5) -> list[tuple[str, int]]:
    ordered = Counter(reasons).most_common()
    rest = sum(count for _, count in ordered[most:])
    return [*ordered[:most], *([("other reasons", rest)] if rest else [])]


__all__ = ["Execute", "Summary", "Write", "locally", "run", "summarise"]
