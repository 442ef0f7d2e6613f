"""The columns of a run's Parquet files and what stands in their headers; see docs/benchmark.md."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from captum_ib.benchmark.arrow import pa
from captum_ib.benchmark.config import RunConfig
from captum_ib.benchmark.metrics import SPECS, method_facts, metric_facts, per_sample

KEY = b"captum_ib"
"""Key of the JSON in a file's metadata."""


def header(config: RunConfig, versions: Mapping[str, str]) -> dict[bytes, bytes]:
    """What makes a file speak for itself: the run, its methods and metrics, the versions."""
    facts = {
        "config": config.to_dict(),
        "fingerprint": config.fingerprint(),
        "versions": dict(versions),
        "metrics": {column.label: metric_facts(column) for column in config.metrics},
        "methods": {line.label: method_facts(line) for line in config.methods},
    }
    return {KEY: json.dumps(facts, ensure_ascii=False, sort_keys=False).encode("utf-8")}


def rows_schema(config: RunConfig, facts: Mapping[bytes, bytes]) -> pa.Schema:
    """One row per sample, method and seed."""
    floats = pa.list_(pa.float32())
    fields = [
        ("index", pa.int64()),
        ("sample", pa.string()),
        ("method", pa.string()),
        ("seed", pa.int64()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("seconds", pa.float64()),
        ("peak_bytes", pa.int64()),
        ("map", floats),
        ("map_height", pa.int32()),
        ("map_width", pa.int32()),
        ("text_map", floats),
        ("tokens", pa.list_(pa.string())),
    ]
    wanted = per_sample(config.metrics)
    fields += [(f"metric:{column.label}", pa.float64()) for column in wanted]
    fields += [(f"curve:{column.label}", floats) for column in wanted if SPECS[column.metric].curve]
    return pa.schema(fields, metadata=dict(facts))


def samples_schema(facts: Mapping[bytes, bytes]) -> pa.Schema:
    """One row per sample."""
    fields = [
        ("index", pa.int64()),
        ("sample", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("thumbnail", pa.binary()),
        ("caption", pa.string()),
        ("label", pa.string()),
        ("confidence", pa.float64()),
        ("mask", pa.binary()),
    ]
    return pa.schema(fields, metadata=dict(facts))


def whole_schema(facts: Mapping[bytes, bytes]) -> pa.Schema:
    """One row per method, seed and score over the whole set."""
    fields = [
        ("method", pa.string()),
        ("seed", pa.int64()),
        ("metric", pa.string()),
        ("value", pa.float64()),
    ]
    return pa.schema(fields, metadata=dict(facts))


def table(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as a table; what a row lacks is null."""
    columns = [
        pa.array([row.get(name) for row in rows], schema.field(name).type) for name in schema.names
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def facts_of(schema: pa.Schema) -> dict[str, Any]:
    """The JSON in a file's header.

    Raises:
        ValueError: the file is none of a run's.
    """
    given = (schema.metadata or {}).get(KEY)
    if given is None:
        raise ValueError("the Parquet file has no captum_ib header, so it is no part of a run")
    return json.loads(given)
