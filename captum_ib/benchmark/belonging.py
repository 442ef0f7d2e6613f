"""What each file of a run says it belongs to; a file that says otherwise is refused, never used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captum_ib.benchmark import schema
from captum_ib.benchmark.arrow import pa, pq
from captum_ib.benchmark.data import Sample
from captum_ib.benchmark.store import (
    METHOD,
    PARTS,
    SAMPLES,
    WHOLE,
    DifferentRunError,
    RunFolder,
    differences,
    read_table,
)

if TYPE_CHECKING:
    from captum_ib.benchmark.worker import Worker

STAMP = b"captum_ib.part"
"""Key of the JSON in a file's metadata that says what the file belongs to: the run's fingerprint,
the kind of file, its rows, the digest of the data, and which chunk, or metric, method and seed."""


def stamped(table: pa.Table, **stamp: Any) -> pa.Table:
    """The table with what it belongs to in its metadata, its number of rows included."""
    text = json.dumps({**stamp, "rows": table.num_rows})
    return table.replace_schema_metadata({**(table.schema.metadata or {}), STAMP: text.encode()})


def sample_digest(id: str, sample: Sample | None) -> str:
    """SHA-256 of all that a run takes from a sample; ``None`` stands for one that can't be read."""
    if sample is None:
        return hashlib.sha256(json.dumps([id, "unreadable"]).encode()).hexdigest()
    image, mask = sample.image, sample.mask
    label = sample.label if isinstance(sample.label, str | None) else int(sample.label)
    words = None if sample.words is None else list(sample.words)
    shape = None if mask is None else list(mask.shape)
    facts = [id, label, sample.caption, words, image.mode, list(image.size), shape]
    digest = hashlib.sha256(json.dumps(facts).encode())
    digest.update(image.tobytes())
    if mask is not None:
        digest.update(mask.astype(bool).tobytes())
    return digest.hexdigest()


def combined(digests: Iterable[str]) -> str:
    """One digest of several, in order."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


class Belonging:
    """Holds the files of a folder against the run that they should belong to.

    What checks raises :class:`.DifferentRunError` in one line: what a file says, what was expected,
    and the mend.

    Args:
        folder: of the run.
        worker: of the run.
    """

    def __init__(self, folder: RunFolder, worker: Worker) -> None:
        self._folder, self._worker = folder, worker
        self._run = worker.config.fingerprint()
        rows, samples = worker.rows_schema, worker.samples_schema
        self._schemas: dict[str, Any] = dict.fromkeys((PARTS, METHOD, "results"), rows)
        self._schemas |= {SAMPLES: samples, WHOLE: worker.whole_schema}

    def resume(self, chunks: Iterable[int]) -> None:
        """Check all that is there: files one by one, then finished chunks with the data of now."""
        for name in ("results", "samples"):
            path = self._folder.path / f"{name}.parquet"
            if self._folder.readable(path):
                self.file(path, name)
        last = self._worker.chunks - 1
        for kind in (SAMPLES, PARTS):
            for chunk, path in self._folder.chunks(kind):
                if chunk > last:
                    raise refusal(path, f"its chunk is {chunk}, expected 0 to {last}")
                self.file(path, kind, chunk=chunk)
        labels = dict(enumerate(line.label for line in self._worker.config.methods))
        for chunk, order, path in self._folder.under_way():
            if chunk > last or order not in labels:
                raise refusal(path, "the run has no such chunk or method")
            if self._folder.readable(path):
                self.file(path, METHOD, chunk=chunk, method=labels[order])
        for chunk in chunks:
            self.chunk(chunk, self._worker.digest(chunk))
            for _, _, path in self._folder.under_way(chunk):
                path.unlink()

    def method(self, chunk: int, order: int, data: str) -> pa.Table | None:
        """The rows of one method of a chunk under way, if they are there."""
        path, line = self._folder.part(PARTS, chunk, order), self._worker.config.methods[order]
        if not self._folder.readable(path):
            return None
        self.file(path, METHOD, chunk=chunk, method=line.label, data=data)
        return read_table(path)

    def keep(self, rows: pa.Table, chunk: int, order: int, data: str) -> None:
        """Write the rows of one method of a chunk under way."""
        label = self._worker.config.methods[order].label
        table = stamped(rows, **self.stamp(METHOD, chunk=chunk, method=label, data=data))
        self._folder.write_table(self._folder.part(PARTS, chunk, order), table)

    def chunk(self, chunk: int, data: str | None = None) -> str:
        """Check the files of a chunk; returns the digest of its data.

        Args:
            chunk: its number.
            data: the digest of the data as they are now; default: that of the samples' file.
        """
        samples, parts = (self._folder.part(kind, chunk) for kind in (SAMPLES, PARTS))
        for path, kind in ((samples, SAMPLES), (parts, PARTS)):
            given = self.file(path, kind, chunk=chunk).get("data")
            data = data or given
            if given != data:
                raise DifferentRunError(
                    f"the data changed since {path} was computed: the digest of its samples is "
                    f"{_short(given)} there, {_short(data)} now; put the old data back, or use "
                    "another folder"
                )
        rows = read_table(samples, ["index", "status"]).to_pylist()
        _same_rows(samples, [row["index"] for row in rows], list(self._worker.indices(chunk)))
        keys = [tuple(row.values()) for row in read_table(parts, _KEYS).to_pylist()]
        good = [row["index"] for row in rows if row["status"] == "ok"]
        lines, seeds = self._worker.config.methods, sorted(self._worker.config.seeds)
        _same_rows(parts, keys, [(i, line.label, s) for i in good for line in lines for s in seeds])
        return str(data)

    def data(self) -> str:
        """The digest of all data, from the chunks, each of which is checked."""
        return combined(self.chunk(chunk) for chunk in range(self._worker.chunks))

    def file(self, path: Path, kind: str, **stamp: Any) -> dict[str, Any]:
        """Check a file's columns and what it says it belongs to; returns all that it says."""
        found, rows = pq.read_schema(path), pq.read_metadata(path).num_rows
        try:
            given, facts = schema.facts_of(found, STAMP), schema.facts_of(found)
        except ValueError as error:
            raise refusal(path, str(error)) from None
        if given.get("run") != self._run:
            what = differences(facts.get("config"), self._worker.config.to_dict())
            what = what or [f"the fingerprint {_short(given.get('run'))}"]
            raise refusal(path, f"it is of a run that differs in {'; '.join(what)}")
        for key, value in {"kind": kind, **stamp}.items():
            if given.get(key) != value:
                says = f"its {key} is {_short(given.get(key))}, expected {_short(value)}"
                raise refusal(path, says)
        if given.get("rows") != rows:
            raise refusal(path, f"it has {rows} rows, expected {given.get('rows')}")
        if not found.equals(self._schemas[kind]):
            other = ", ".join(str(field) for field in found if field not in self._schemas[kind])
            raise refusal(path, f"its columns are not those of the run ({other or 'some lack'})")
        return given

    def stamp(self, kind: str, **more: Any) -> dict[str, Any]:
        """What a file of this run says."""
        return {"run": self._run, "kind": kind, **more}

    def join(self, data: str, anew: bool) -> None:
        """Join the chunks, results last: with them the run is complete.

        Args:
            data: the digest of all data.
            anew: also where joined files are there already.
        """
        for kind, name in ((SAMPLES, "samples"), (PARTS, "results")):
            chunks = (self._folder.part(kind, chunk) for chunk in range(self._worker.chunks))
            rows = sum(pq.read_metadata(path).num_rows for path in chunks)
            path = self._folder.path / f"{name}.parquet"
            if anew or not self._folder.readable(path):
                text = json.dumps({**self.stamp(name, data=data), "rows": rows})
                target = self._schemas[kind]
                target = target.with_metadata({**target.metadata, STAMP: text})
                self._folder.collect(kind, path.name, target)
            self.file(path, name, rows=rows, data=data)


_KEYS = ("index", "method", "seed")


def _same_rows(path: Path, found: Sequence[Any], wanted: Sequence[Any]) -> None:
    if found != wanted:
        pairs = (pair for pair in zip(found, wanted, strict=False) if pair[0] != pair[1])
        where = "".join(f" ({one}, expected {other})" for one, other in islice(pairs, 1))
        raise refusal(path, f"it has {len(found)} rows{where}, expected {len(wanted)}")


def refusal(path: Path, what: str) -> DifferentRunError:
    """The error for a file that is not the run's."""
    return DifferentRunError(
        f"{path} does not belong to this run: {what}; move it out of the folder and give the same "
        "command again, which makes it anew, or use another folder"
    )


def _short(value: Any) -> str:
    """A value, a digest by its first twelve digits."""
    return value[:12] if isinstance(value, str) and len(value) == 64 else repr(value)
