"""Run folders as ``captum-ib benchmark`` leaves them, finished or not."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from captum_ib.benchmark.checks import pydantic
from captum_ib.benchmark.schema import facts_of
from captum_ib.benchmark.strangers import read_plain_json, strange
from captum_ib.report.libraries import pa, pq

Part = Literal["results", "samples", "whole"]
_FOLDERS: dict[Part, str] = {"results": "parts", "samples": "samples", "whole": "whole"}
_NEEDED: dict[Part, tuple[str, ...]] = {
    "results": ("index", "method", "seed", "status", "seconds", "peak_bytes"),
    "samples": ("index", "sample", "status", "reason"),
    "whole": ("method", "seed", "metric", "value"),
}
# Without what a terminal takes as commands.
_Text = Annotated[str, pydantic.Field(strict=True, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]


@pydantic.dataclasses.dataclass(frozen=True)
class MethodInfo:
    """A method as a run describes it; ``signed`` and ``unit`` are those of its maps."""

    label: _Text
    title: _Text
    unit: _Text = ""
    signed: Annotated[bool, pydantic.Strict()] = False
    paper: _Text = ""
    method: _Text = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


@pydantic.dataclasses.dataclass(frozen=True)
class MetricInfo:
    """A metric as a run describes it; a score times ``scale`` is what a table shows."""

    label: _Text
    title: _Text
    up: bool = True
    scale: Annotated[float, pydantic.Strict()] = 1.0
    applies: _Text = ""
    metric: _Text = ""

    @property
    def arrow(self) -> str:
        """The direction of better scores."""
        return "↑" if self.up else "↓"


@dataclass(frozen=True)
class Run:
    """One run folder.

    Attributes:
        folder: where it lies.
        record: its ``run.json``.
        methods: label → description, in the run's order.
        metrics: label → description, in the run's order.
        finished: all chunks are there and joined.
        broken: files that could not be read, with the reason; grows while a run is read.
    """

    folder: Path
    record: Mapping[str, Any]
    methods: Mapping[str, MethodInfo]
    metrics: Mapping[str, MetricInfo]
    finished: bool
    broken: dict[Path, str]

    @property
    def config(self) -> Mapping[str, Any]:
        """What was run, as ``RunConfig.to_dict`` writes it."""
        return self.record["config"]

    @property
    def versions(self) -> Mapping[str, str]:
        """Of the packages that made it."""
        return self.record.get("versions", {})

    @property
    def fingerprint(self) -> str:
        """Of what determines its numbers."""
        return str(self.record.get("fingerprint", ""))

    @property
    def chunks(self) -> int | None:
        """How many there are to be; None where the run does not say."""
        data, size = self.record.get("data"), self.config.get("batch_size")
        # what the run found in its data counts more than what was asked for
        samples = (data if isinstance(data, dict) else self.config).get("samples")
        if not (isinstance(samples, int) and isinstance(size, int)):
            return None
        return math.ceil(samples / size)

    @property
    def missing(self) -> int | None:
        """Chunks that can't be read yet; None where the run does not say how many there are."""
        if self.finished or self.chunks is None:
            return 0 if self.finished else None
        there = [file for file in _parts(self.folder, "results") if file not in self.broken]
        return max(0, self.chunks - len(there))

    def read(
        self,
        part: Part,
        columns: Sequence[str] | None = None,
        only: Collection[int] | None = None,
    ) -> pa.Table:
        """The rows of one part; what stands in a broken chunk is left out and told in ``broken``.

        Args:
            part: ``"results"``, ``"samples"`` or ``"whole"``.
            columns: those to read, where they exist (default: all).
            only: numbers of the samples that are wanted (default: all); what holds none of them is
                not decompressed.

        Raises:
            ValueError: the joined file of a finished run is broken.
        """
        joined = self.folder / f"{part}.parquet"
        whole = joined.is_file() and joined not in self.broken
        names = [name for name in _NEEDED[part] if columns is None or name in columns]
        tables = [pa.table({name: pa.nulls(0) for name in names})]
        for file in [joined] if whole else _parts(self.folder, part):
            if file in self.broken:
                continue
            try:
                tables += list(_row_groups(file, part, self.fingerprint, columns, only))
            except (OSError, ValueError) as error:
                if file == joined:
                    raise ValueError(
                        f"{file} can't be read ({_reason(error)}); remove it and start captum-ib "
                        "benchmark on the folder again, which joins the chunks anew"
                    ) from error
                self.broken[file] = _reason(error)
        return pa.concat_tables(tables, promote_options="default")


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
        records = [*path.glob("run.json")] or sorted(path.glob("*/run.json"))
        if not records:
            raise ValueError(
                f"{path} holds no run: neither it nor a folder in it has a run.json; "
                "give the folder that was --out of captum-ib benchmark"
            )
        folders.update({file.parent.resolve(): file.parent for file in records})
    return [open_run(folder) for folder in folders.values()]


def open_run(folder: Path) -> Run:
    """What a folder's run was to do and how far it came; reads no scores.

    Raises:
        ValueError: ``run.json`` can't be read, no chunk is there yet, or a link lies in the folder.
    """
    for path, what in strange(folder):
        raise ValueError(
            f"{path} is {what}, and a run leaves folders and files only; move it out of the folder"
        )
    record = _record(folder / "run.json")
    broken: dict[Path, str] = {}
    joined = folder / "results.parquet"
    for file in [*folder.glob(joined.name), *_parts(folder, "results")]:
        try:
            about = facts_of(pq.read_schema(file))
            break
        except (OSError, ValueError) as error:
            broken[file] = _reason(error)
    else:
        detail = f" ({len(broken)} can't be read: {next(iter(broken.values()))})" if broken else ""
        raise ValueError(
            f"the run in {folder} has no finished chunk yet{detail}; "
            "let captum-ib benchmark go on with it first"
        )
    finished = joined.is_file() and joined not in broken
    try:
        described = _methods(about, record), _metrics(about)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{folder} describes its methods or metrics as no run does ({_reason(error)}); give a "
            "folder as captum-ib benchmark left it"
        ) from error
    return Run(folder, record, *described, finished, broken)


def _record(path: Path) -> dict[str, Any]:
    try:
        record = read_plain_json(path.read_text(encoding="utf-8"))
        if not isinstance(record["config"], dict):
            raise ValueError("its config is no table")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} can't be read as the record of a run: {error}") from error
    return record


def _parts(folder: Path, part: Part) -> list[Path]:
    """A part's chunks in order; files under way (``.tmp-…``, single methods) are none."""
    found = sorted((folder / _FOLDERS[part]).glob("[!.]*.parquet"))
    return [file for file in found if part != "results" or "-" not in file.stem]


def _methods(about: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, MethodInfo]:
    result = {}
    for line in record["config"].get("methods", []):
        label = line["label"]
        own = {"label": label, "method": line.get("method"), "settings": line.get("settings")}
        known = {"title": label, **about.get("methods", {}).get(label, {}), **own}
        result[label] = MethodInfo(**_said(known))
    return result


def _metrics(about: Mapping[str, Any]) -> dict[str, MetricInfo]:
    result = {}
    for label, entry in about.get("metrics", {}).items():
        known = {"title": label, "metric": label, **entry, "label": label}
        result[label] = MetricInfo(**_said(known), up=entry.get("direction", "up") == "up")
    return result


def _said(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if value is not None}


def _row_groups(
    file: Path,
    part: Part,
    fingerprint: str,
    columns: Sequence[str] | None,
    only: Collection[int] | None,
) -> Iterator[pa.Table]:
    """The wanted rows of a file, one row group in memory at a time, checksums tested."""
    import pyarrow.compute as pc

    with pq.ParquetFile(file, page_checksum_verification=True) as opened:
        names = opened.schema_arrow.names
        lacking = [name for name in _NEEDED[part] if name not in names]
        if lacking:
            raise ValueError(f"it lacks the column(s) {', '.join(lacking)}")
        if facts_of(opened.schema_arrow).get("fingerprint") != fingerprint:
            raise ValueError("it belongs to another run")
        chosen = [name for name in names if columns is None or name in columns]
        for number in range(opened.num_row_groups):
            if only is None:
                yield opened.read_row_group(number, columns=chosen)
            elif _may_hold(opened.metadata.row_group(number), names.index("index"), only):
                rows = opened.read_row_group(number, columns=[*{"index", *chosen}])
                wanted = pa.array(sorted(only), pa.int64())
                yield rows.filter(pc.is_in(rows["index"], value_set=wanted))  # pyright: ignore


def _may_hold(group: Any, column: int, only: Collection[int]) -> bool:
    """Whether a row group has wanted samples, by the smallest and the largest number in it."""
    known = group.column(column).statistics
    if known is None or not known.has_min_max:
        return True
    return any(known.min <= index <= known.max for index in only)


def _reason(error: Exception) -> str:
    """An error in one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
