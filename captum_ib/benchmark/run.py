"""Carry out a run: what is missing in its folder is computed, then joined to one table."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from captum_ib.benchmark.arrow import pa
from captum_ib.benchmark.belonging import Belonging
from captum_ib.benchmark.config import RunConfig
from captum_ib.benchmark.progress import Progress
from captum_ib.benchmark.schema import versions
from captum_ib.benchmark.store import PARTS, SAMPLES, DifferentRunError, RunFolder, differences
from captum_ib.benchmark.worker import Evaluated, Through, Worker

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
            ordered = Counter(self.skipped).most_common()
            rest = sum(count for _, count in ordered[5:])
            lines.append(f"{sum(self.skipped.values())} of {self.samples} samples skipped:")
            lines += [f"  {count} x {reason}" for reason, count in ordered[:5]]
            lines += [f"  {rest} x other reasons"] if rest else []
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
        show_progress: a progress bar on stderr, or nothing; default: a bar where that is a
            terminal, else a line for each finished part.

    Returns:
        What was done, skipped, and failed.

    Raises:
        DifferentRunError: the folder, or a file in it, is of another run, or of other data.
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
    from tqdm.auto import tqdm

    from captum_ib.benchmark.whole import evaluate_whole

    bar = sys.stderr.isatty() if show_progress is None else show_progress
    folder, notes = RunFolder(out), []
    with folder.locked():
        record = folder.record
        if record is not None:
            config = _continued(config, record, folder, notes)
        worker = Worker(config)
        _open(folder, record, worker, command, notes)
        own, done = Belonging(folder, worker), folder.finished()
        own.resume(tqdm(sorted(done), "checking", leave=False, unit="chunk", disable=not bar))
        missing = [chunk for chunk in range(worker.chunks) if chunk not in done]
        if missing:
            _evaluate(worker, folder, own, missing, execute, show_progress)
        data = own.data()
        notes += evaluate_whole(worker, folder, own, data, show_progress)
        own.join(data, anew=bool(missing))
        computed = sum(len(worker.indices(chunk)) for chunk in missing)
        return summarise(folder, Summary(folder.path, worker.count, computed, notes=notes))


def locally(worker: Worker, through: Through | None = None) -> Execute:
    """Evaluate in this process, one chunk after the other; ``through`` as :meth:`.evaluate` has."""

    def execute(config: RunConfig, chunks: Sequence[int], write: Write) -> None:
        for chunk in chunks:
            write(worker.evaluate(chunk, through))

    return execute


def summarise(folder: RunFolder, summary: Summary) -> Summary:
    """Count what was skipped and what failed, chunk by chunk."""
    skipped: Counter[str] = Counter()
    rows: Counter[str] = Counter()
    failed: dict[str, list[str]] = {}
    for table in folder.tables(SAMPLES, ["status", "reason"]):
        skipped.update(r["reason"] for r in table.to_pylist() if r["status"] == "skipped")
    for table in folder.tables(PARTS, ["method", "status", "reason"]):
        for row in table.to_pylist():
            rows[row["method"]] += 1
            if row["status"] == "failed":
                failed.setdefault(row["method"], []).append(row["reason"])
    summary.skipped = dict(skipped)
    summary.failed = {name: (len(why), rows[name], why[0]) for name, why in failed.items()}
    return summary


def _evaluate(
    worker: Worker,
    folder: RunFolder,
    own: Belonging,
    missing: Sequence[int],
    execute: Execute | None,
    shown: bool | None,
) -> None:
    """Compute what is missing, counted in maps (sample x method x seed).

    Each method of a chunk is kept until the chunk is whole: an interrupt loses one at most.
    """
    config = worker.config
    each, last = len(config.methods) * len(config.seeds), len(config.methods) - 1
    there = worker.count - sum(len(worker.indices(chunk)) for chunk in missing)
    title = config.title or "benchmark"
    with Progress(title, worker.count * each, there * each, "map", shown) as progress:

        def through(chunk: int, order: int, data: str, rows: Callable[[], pa.Table]) -> pa.Table:
            found = own.method(chunk, order, data)
            if found is None:
                found = rows()
                if order < last:  # the last one's chunk follows at once
                    own.keep(found, chunk, order, data)
            part = f"chunk {chunk + 1} of {worker.chunks}, {config.methods[order].label}"
            progress.add(found.num_rows, part)
            return found

        def write(result: Evaluated) -> None:
            nonlocal there
            folder.write(result.chunk, result.rows, result.samples)
            there += len(worker.indices(result.chunk))
            if execute is not None:
                progress.add(0, f"chunk {result.chunk + 1} of {worker.chunks}")
            progress.reach(there * each)  # unreadable samples count as done, too

        (execute or locally(worker, through))(config, missing, write)


def _continued(
    config: RunConfig, record: dict[str, Any], folder: RunFolder, notes: list[str]
) -> RunConfig:
    """The run, in chunks as the folder has them.

    Raises:
        DifferentRunError: it is another one.
    """
    try:
        old = RunConfig.from_dict(record["config"])
    except ValueError as error:
        raise DifferentRunError(
            f"run.json of {folder.path} describes no run ({error}); put the old one back, or use "
            "another folder"
        ) from error
    if not record["fingerprint"] == old.fingerprint() == config.fingerprint():
        same = {name: getattr(config, name) for name in ("title", "device", "batch_size")}
        what = differences({**old.to_dict(), **same}, config.to_dict())
        raise DifferentRunError(
            f"{folder.path} holds another run, which differs in "
            f"{'; '.join(what) or 'its fingerprint'}. Use another folder, or the same settings to "
            "go on with it"
        )
    if old.batch_size != config.batch_size:
        notes.append(
            f"batch size {old.batch_size} kept: the folder's parts hold so many samples each"
        )
    return RunConfig.from_dict({**config.to_dict(), "batch_size": old.batch_size})


def _open(
    folder: RunFolder,
    record: dict[str, Any] | None,
    worker: Worker,
    command: Sequence[str],
    notes: list[str],
) -> None:
    """Write run.json for a new folder; for an old one compare the samples and the versions."""
    digest = hashlib.sha256()
    for index in range(worker.count):
        digest.update(worker.data.id(index).encode("utf-8") + b"\0")
    data, known = {"samples": worker.count, "ids": digest.hexdigest()}, versions()
    if record is None:
        folder.write_record(
            {
                "config": worker.config.to_dict(),
                "fingerprint": worker.config.fingerprint(),
                "data": data,
                "versions": known,
                "command": list(command),
                "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            }
        )
        return
    if record.get("data") != data:
        raise DifferentRunError(
            f"the data of {folder.path} changed since the run began: {record.get('data')} then, "
            f"{data} now; put the old data back, or use another folder"
        )
    changed = differences(record.get("versions", {}), known)
    if changed:
        notes.append(f"warning: begun with other versions ({'; '.join(changed)})")
