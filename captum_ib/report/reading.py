"""Run folders as `captum-ib benchmark` leaves them, finished or not: read chunk by chunk."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captum_ib.report.parquet import (
    Part,
    among,
    header,
    read_chunk,
    read_joined,
    reason_of,
)

if TYPE_CHECKING:
    from captum_ib.benchmark.arrow import pa

_FOLDERS: dict[Part, str] = {"results": "parts", "samples": "samples", "whole": "whole"}


@dataclass(frozen=True)
class MethodInfo:
    """A method as a run describes it; ``signed`` and ``unit`` are those of its maps."""

    label: str
    title: str
    unit: str = ""
    signed: bool = False
    paper: str = ""
    method: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MetricInfo:
    """A metric as a run describes it; a score times ``scale`` is what a table shows."""

    label: str
    title: str
    up: bool = True
    scale: float = 1.0
    applies: str = ""
    metric: str = ""

    @property
    def arrow(self) -> str:
        """The direction of better scores."""
        return "↑" if self.up else "↓"


@dataclass(frozen=True)
class Run:
    """One run folder.

    Attributes:
        folder: where it lies.
        config: what was run, as ``RunConfig.to_dict`` writes it.
        fingerprint: of what determines its numbers.
        versions: of the packages that made it.
        methods: label → description, in the run's order.
        metrics: label → description, in the run's order.
        finished: all chunks are there and joined.
        chunks: how many there are to be, None where the run does not say.
        broken: files that could not be read, with the reason; grows while a run is read.
    """

    folder: Path
    config: Mapping[str, Any]
    fingerprint: str
    versions: Mapping[str, str]
    methods: Mapping[str, MethodInfo]
    metrics: Mapping[str, MetricInfo]
    finished: bool
    chunks: int | None
    broken: dict[Path, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The run's own title, or its folder's name."""
        return self.config.get("title") or self.folder.name

    @property
    def missing(self) -> int | None:
        """Chunks that can't be read yet; None where the run does not say how many there are."""
        if self.finished:
            return 0
        there = [file for file in _parts(self.folder, "results") if file not in self.broken]
        return None if self.chunks is None else max(0, self.chunks - len(there))

    def tables(
        self,
        part: Part,
        columns: Sequence[str] | None = None,
        only: Collection[int] | None = None,
    ) -> Iterator[pa.Table]:
        """The rows of one part, some samples at a time; a sample's rows always come together.

        Args:
            part: ``"results"``, ``"samples"`` or ``"whole"``.
            columns: those to read, where they exist (default: all); of results and samples,
                ``"index"`` is always read.
            only: numbers of the samples that are wanted (default: all); what holds none of them is
                not decompressed.

        Raises:
            ValueError: the joined file of a finished run is broken.
        """
        if columns is not None and part != "whole":
            columns = list(dict.fromkeys(["index", *columns]))
        joined = self.folder / f"{part}.parquet"
        if joined.is_file() and joined not in self.broken:
            tables = read_joined(joined, columns, part, only)
        else:
            tables = self._chunks_of(part, columns, only)
        for table in tables:
            table = table if only is None else among(table, only)
            if len(table):
                yield table

    def _chunks_of(
        self, part: Part, columns: Sequence[str] | None, only: Collection[int] | None
    ) -> Iterator[pa.Table]:
        for file in _parts(self.folder, part):
            if file in self.broken:
                continue
            try:
                table = read_chunk(file, columns, part, self.fingerprint, only)
            except (OSError, ValueError) as error:
                self.broken[file] = reason_of(error)
                continue
            yield table


def find_runs(paths: Iterable[Path]) -> list[Run]:
    """The runs in the given folders, each once; a folder of runs stands for all of them.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError: a folder holds no run, a ``run.json`` can't be read, or a run has no finished
            chunk yet.
    """
    folders: dict[Path, Path] = {}
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(
                f"there is no folder {path}; give folders of captum-ib benchmark"
            )
        inside = [path] if (path / "run.json").is_file() else _children(path)
        if not inside:
            raise ValueError(
                f"{path} holds no run: neither it nor a folder in it has a run.json; "
                "give what captum-ib benchmark got as --out"
            )
        folders.update({folder.resolve(): folder for folder in inside})
    return [open_run(folder) for folder in folders.values()]


def open_run(folder: Path) -> Run:
    """What a folder's run was to do and how far it came; reads no scores.

    Raises:
        ValueError: ``run.json`` can't be read, or no chunk is there yet.
    """
    record = _record(folder / "run.json")
    broken: dict[Path, str] = {}
    about = None
    joined = folder / "results.parquet"
    for file in (joined, *_parts(folder, "results")):
        if about is None and file.exists():
            try:
                about = header(file)
            except (OSError, ValueError) as error:
                broken[file] = reason_of(error)
    if about is None:
        detail = f" ({len(broken)} can't be read: {next(iter(broken.values()))})" if broken else ""
        raise ValueError(
            f"the run in {folder} has no finished chunk yet{detail}; "
            "let captum-ib benchmark go on with it first"
        )
    config = record["config"]
    return Run(
        folder=folder,
        config=config,
        fingerprint=str(record.get("fingerprint", "")),
        versions=record.get("versions", {}),
        methods=_methods(about, config),
        metrics=_metrics(about),
        finished=joined.is_file() and joined not in broken,
        chunks=_chunks(record),
        broken=broken,
    )


def _children(path: Path) -> list[Path]:
    return sorted(file.parent for file in path.glob("*/run.json")) if path.is_dir() else []


def _record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record["config"], dict):
            raise ValueError("its config is no table")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} can't be read as the record of a run: {error}") from error
    return record


def _parts(folder: Path, part: Part) -> list[Path]:
    """A part's chunks in order; files under way (``.tmp-…``) and set aside are none."""
    home = folder / _FOLDERS[part]
    return sorted(file for file in home.glob("*.parquet") if not file.name.startswith("."))


def _methods(about: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, MethodInfo]:
    known = about.get("methods", {})
    keys = ("title", "unit", "signed", "paper")
    result = {}
    for line in config.get("methods", []):
        label = line["label"]
        entry = known.get(label, {})
        given = {key: entry[key] for key in keys if entry.get(key) is not None}
        more = {"method": line.get("method", label), "settings": line.get("settings") or {}}
        result[label] = MethodInfo(**{"title": label, **given, "label": label, **more})
    return result


def _metrics(about: Mapping[str, Any]) -> dict[str, MetricInfo]:
    return {
        label: MetricInfo(
            label=label,
            title=entry.get("title") or label,
            up=entry.get("direction", "up") == "up",
            scale=float(entry.get("scale", 1.0)),
            applies=entry.get("applies", ""),
            metric=entry.get("metric", label),
        )
        for label, entry in about.get("metrics", {}).items()
    }


def _chunks(record: Mapping[str, Any]) -> int | None:
    """Chunks of the run; what it recorded of its data counts more than what was asked for."""
    config, data = record["config"], record.get("data")
    samples = data.get("samples") if isinstance(data, dict) else config.get("samples")
    size = config.get("batch_size")
    return math.ceil(samples / size) if isinstance(samples, int) and isinstance(size, int) else None
