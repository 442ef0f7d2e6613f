"""A run's folder: Parquet parts that are whole or not there, one writer at a time, resumable."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from captum_ib.benchmark.arrow import pa, pq
from captum_ib.benchmark.strangers import read_plain_json, strange
from captum_ib.extras import need

PARTS, SAMPLES, WHOLE, METHOD = "parts", "samples", "whole", "method"
_TEMPORARY = ".tmp-"
_BROKEN = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OSError)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class FolderInUseError(RuntimeError):
    """Another process writes to the folder."""


class DifferentRunError(ValueError):
    """The folder, or a file in it, belongs to another run than the one that was asked for."""


class RunFolder:
    """The folder of one run; see docs/benchmark.md for what lies in it.

    Args:
        path: made when :meth:`locked` is entered.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process; the system lets go of it when the process dies.

        Raises:
            FolderInUseError: another process holds it.
            NotADirectoryError: the path, or a part of it, is a file.
            DifferentRunError: a link lies in it, or something that is no file.
        """
        filelock = need("filelock", "the benchmark")
        for path, what in strange(self.path):
            raise DifferentRunError(
                f"{path} is {what}, and a run leaves folders and files only; move it out of the "
                "folder and give the same command again, or use another folder"
            )
        folders = [self.path / name for name in (PARTS, SAMPLES, WHOLE)]
        try:
            for folder in folders:
                folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            message = f"can't write to {self.path}: {error.filename} is a file"
            raise NotADirectoryError(message) from error
        file, owner = self.path / "lock", ""
        with suppress(OSError):  # none yet; read first, as older versions of filelock empty it
            owner = file.read_text(encoding="ascii").strip()
        lock = filelock.FileLock(file)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            who = f" (process {owner})" if owner else ""
            raise FolderInUseError(
                f"another process{who} is writing to {self.path}; wait for it, or use another "
                "folder"
            ) from None
        try:
            with suppress(OSError):  # a full disk shows where it matters
                file.write_text(str(os.getpid()), encoding="ascii")
            for folder in (self.path, *folders):
                for left in folder.glob(f"{_TEMPORARY}*"):
                    left.unlink()
            yield
        finally:
            lock.release()

    @property
    def record(self) -> dict[str, Any] | None:
        """What run.json says; ``None`` for a new folder.

        Raises:
            DifferentRunError: there is a run.json, but not that of a run, or none beside results.
        """
        path = self.path / "run.json"
        try:
            record = read_plain_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            for found in self.files():
                raise DifferentRunError(
                    f"{self.path} holds {found.relative_to(self.path)} but no run.json, which says "
                    "what it belongs to; put run.json back, or use another folder"
                ) from None
            return None
        except (ValueError, OSError) as error:
            problem = f"{path} can't be read ({error}); use another folder"
            raise DifferentRunError(problem) from error
        if not isinstance(record, dict) or not {"config", "fingerprint"} <= set(record):
            raise DifferentRunError(f"{path} does not describe a run; use another folder")
        return record

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Write run.json."""
        with self._replacing(self.path / "run.json") as file:
            file.write((json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode("utf-8"))

    def finished(self) -> set[int]:
        """Chunks of which both files are there and read without error; broken ones are set aside.

        A file that does not read becomes ``NAME.broken``, and its chunk is to be computed again.
        """
        good = [
            {chunk for chunk, path in self.chunks(kind) if self.readable(path)}
            for kind in (PARTS, SAMPLES)
        ]
        return good[0] & good[1]

    def files(self) -> Iterator[Path]:
        """All Parquet files that a run leaves, the joined ones first."""
        for pattern in ("results.parquet", "samples.parquet", "*/*.parquet"):
            yield from sorted(self.path.glob(pattern))

    def part(self, kind: str, chunk: int, order: int | None = None) -> Path:
        """Where a chunk's file is, or will be; or that of one method's rows while it is made."""
        name = f"{chunk:06d}" if order is None else f"{chunk:06d}-{order:03d}"
        return self.path / kind / f"{name}.parquet"

    def write(self, chunk: int, rows: pa.Table, samples: pa.Table) -> None:
        """Write a chunk: first its samples, then its rows; what was under way of it goes."""
        self.write_table(self.part(SAMPLES, chunk), samples)
        self.write_table(self.part(PARTS, chunk), rows)
        for _, _, path in self.under_way(chunk):
            path.unlink()

    def write_table(self, path: Path, table: pa.Table) -> None:
        """Write a Parquet file that is whole or not there.

        Raises:
            OSError: the disk is full, or can't be written; nothing is left behind.
        """
        with self._replacing(path) as file:
            pq.write_table(table, file, compression="zstd", write_page_checksum=True)

    def readable(self, path: Path) -> bool:
        """Whether a Parquet file is there and reads; a broken one is set aside."""
        if not path.exists():
            return False
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                for group in range(file.num_row_groups):  # never more of it in memory than a chunk
                    file.read_row_group(group)
        except _BROKEN:
            os.replace(path, path.with_name(path.name + ".broken"))
            return False
        return True

    def collect(self, kind: str, name: str, schema: pa.Schema) -> None:
        """Join all chunks of a kind to one file, in order, one chunk in memory at a time."""
        with self._replacing(self.path / name) as file:
            writer = pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True)
            with writer:
                for table in self.tables(kind):
                    if table.num_rows:
                        writer.write_table(table.cast(schema))

    def tables(self, kind: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The chunks of a kind in order, one at a time, with some columns or all."""
        for _, path in self.chunks(kind):
            yield read_table(path, columns)

    def chunks(self, kind: str) -> list[tuple[int, Path]]:
        """The chunks of a kind that are there and their files, in order."""
        found = (self.path / kind).glob("*.parquet")
        return sorted((int(p.stem), p) for p in found if re.fullmatch(r"\d{6,}", p.stem))

    def under_way(self, chunk: int | None = None) -> list[tuple[int, int, Path]]:
        """Rows of single methods: chunk, method and file, of one chunk or of all."""
        pattern = "*-*.parquet" if chunk is None else f"{chunk:06d}-*.parquet"
        found = [(path.stem.split("-"), path) for path in (self.path / PARTS).glob(pattern)]
        numbered = [(parts, path) for parts, path in found if all(map(str.isdecimal, parts))]
        return sorted((int(one), int(other), path) for (one, other), path in numbered)

    @contextmanager
    def _replacing(self, path: Path) -> Iterator[IO[bytes]]:
        """A file that takes its name when it is complete and on the disk."""
        scratch = path.with_name(f"{_TEMPORARY}{os.getpid()}-{path.name}")
        try:
            with open(scratch, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(scratch, path)
            _sync_folder(path.parent)
        except BaseException as error:
            scratch.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.errno in _FULL:
                raise OSError(
                    error.errno,
                    f"no room left for {path.name} in {path.parent}: nothing of it was kept, all "
                    "earlier parts were; make room and give the same command again",
                ) from error
            raise


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A Parquet file with its checksums tested, read by its name alone.

    Raises:
        pyarrow.ArrowInvalid, OSError: it is broken, or not there.
    """
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        return file.read(columns)


def differences(old: Any, new: Any) -> list[str]:
    """What differs between two configurations, one line per value.

    >>> differences({"seeds": [0], "model": "a"}, {"seeds": [0, 1], "model": "a"})
    ['seeds[1]: nothing in the folder, 1 now']
    """
    was, now = _leaves(old), _leaves(new)
    return [
        f"{name}: {was.get(name, 'nothing')} in the folder, {now.get(name, 'nothing')} now"
        for name in {**was, **now}
        if was.get(name) != now.get(name)
    ]


def _leaves(value: Any, name: str = "") -> dict[str, str]:
    """Values that hold no others, as they are written, by the way to each."""
    if isinstance(value, Mapping):
        inner = {f"{name}.{key}".lstrip("."): entry for key, entry in value.items()}
    elif isinstance(value, (list, tuple)):
        inner = {f"{name}[{index}]": entry for index, entry in enumerate(value)}
    else:
        return {name: repr(value)}
    return {key: leaf for way, entry in inner.items() for key, leaf in _leaves(entry, way).items()}


def _sync_folder(folder: Path) -> None:
    """Make a new name last: it belongs to the folder, not to the file."""
    if os.name == "nt":  # Windows opens no folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
