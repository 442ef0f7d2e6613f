"""The Parquet files of a run: whole chunks, or a joined file piece by piece."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from captum_ib.benchmark.arrow import pa

Part = Literal["results", "samples", "whole"]
_NEEDED: dict[Part, tuple[str, ...]] = {
    "results": ("index", "method", "seed", "status", "seconds", "peak_bytes"),
    "samples": ("index", "sample", "status", "reason"),
    "whole": ("method", "seed", "metric", "value"),
}


def header(file: Path) -> dict[str, Any]:
    """The header of a file, see :mod:`captum_ib.benchmark.schema`."""
    from captum_ib.benchmark.arrow import pq
    from captum_ib.benchmark.schema import facts_of

    return facts_of(pq.read_schema(file))


def read_chunk(
    file: Path,
    columns: Sequence[str] | None,
    part: Part,
    fingerprint: str,
    only: Collection[int] | None,
) -> pa.Table:
    """A chunk; its checksums, where it has them, are verified."""
    from captum_ib.benchmark.arrow import pa, pq
    from captum_ib.benchmark.schema import facts_of

    with pq.ParquetFile(file, page_checksum_verification=True) as opened:
        schema = opened.schema_arrow
        _check_columns(schema.names, part)
        if facts_of(schema).get("fingerprint") != fingerprint:
            raise ValueError("it belongs to another run")
        groups = list(_row_groups(opened, columns, only))
        return pa.concat_tables(groups) if groups else schema.empty_table()


def read_joined(
    file: Path, columns: Sequence[str] | None, part: Part, only: Collection[int] | None
) -> Iterator[pa.Table]:
    """A joined file, chunk by chunk; a chunk's last sample waits in case more rows of it come."""
    import pyarrow.compute as pc

    from captum_ib.benchmark.arrow import pa, pq

    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as opened:
            _check_columns(opened.schema_arrow.names, part)
            rest: pa.Table | None = None
            for table in _row_groups(opened, columns, only):
                if rest is not None:
                    table = pa.concat_tables([rest, table])
                if part == "results" and len(table):
                    last = pc.equal(table["index"], table["index"][-1])  # pyright: ignore
                    rest, table = table.filter(last), table.filter(pc.invert(last))  # pyright: ignore
                yield table
            if rest is not None:
                yield rest
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{file} can't be read ({reason_of(error)}); remove it and start captum-ib benchmark "
            "on the folder again, which joins the chunks anew"
        ) from error


def _row_groups(
    opened: Any, columns: Sequence[str] | None, only: Collection[int] | None
) -> Iterator[pa.Table]:
    """The parts of a Parquet file that can hold wanted samples, one in memory at a time."""
    names = opened.schema_arrow.names
    chosen = None if columns is None else [name for name in columns if name in names]
    for number in range(opened.num_row_groups):
        place = names.index("index") if "index" in names else 0
        statistics = opened.metadata.row_group(number).column(place).statistics
        if only is not None and not _may_hold(statistics, only):
            continue
        yield opened.read_row_group(number, columns=chosen)


def _may_hold(statistics: Any, only: Collection[int]) -> bool:
    if statistics is None or not statistics.has_min_max:
        return True
    return any(statistics.min <= index <= statistics.max for index in only)


def among(table: pa.Table, only: Collection[int]) -> pa.Table:
    """The rows of the wanted samples."""
    import pyarrow.compute as pc

    from captum_ib.benchmark.arrow import pa

    wanted = pa.array(sorted(only), pa.int64())
    return table.filter(pc.is_in(table["index"], value_set=wanted))  # pyright: ignore


def _check_columns(names: Sequence[str], part: Part) -> None:
    lacking = [name for name in _NEEDED[part] if name not in names]
    if lacking:
        raise ValueError(f"it lacks the column(s) {', '.join(lacking)}")


def reason_of(error: Exception) -> str:
    """An error in one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
