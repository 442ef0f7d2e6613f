"""The columns of a run's Parquet files and what stands in their headers; see docs/benchmark.md."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from captum_ib import methods
from captum_ib.benchmark.arrow import pa
from captum_ib.benchmark.catalogue import METRICS
from captum_ib.benchmark.config import MethodConfig, MetricConfig, RunConfig
from captum_ib.benchmark.settings import FLOOR
from captum_ib.benchmark.strangers import read_plain_json

KEY = b"captum_ib"
"""Key of the JSON in a file's metadata."""

PACKAGES = "captum_ib captum torch torchvision transformers timm quantus numpy".split()
"""Those that a number depends on."""


def versions() -> dict[str, str]:
    """Versions of Python and of :data:`PACKAGES`; those not installed are left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def header(config: RunConfig, versions: Mapping[str, str]) -> dict[bytes, bytes]:
    """What makes a file speak for itself: the run, its methods and metrics, the versions."""
    facts = {
        "config": config.to_dict(),
        "fingerprint": config.fingerprint(),
        "versions": dict(versions),
        "metrics": {column.label: metric_facts(column) for column in config.metrics},
        "methods": {line.label: method_facts(line) for line in config.methods},
    }
    return {KEY: json.dumps(facts, ensure_ascii=False).encode("utf-8")}


def facts_of(schema: pa.Schema, key: bytes = KEY) -> dict[str, Any]:
    """The JSON in a file's header. It is data: nothing that it holds is looked up, or run.

    Raises:
        ValueError: the file is none of a run's.
    """
    why = ""
    try:
        facts = read_plain_json((schema.metadata or {}).get(key, "null"))
    except ValueError as error:
        facts, why = None, f" that can be read ({error})"
    if not isinstance(facts, dict):
        header = f"no {key.decode()} header{why}"
        raise ValueError(f"the Parquet file has {header}, so it is no part of a run")
    return facts


def metric_facts(column: MetricConfig) -> dict[str, Any]:
    """What a reader of the results has to know of a metric.

    >>> metric_facts(MetricConfig(metric="iou", label="IoU"))["direction"]
    'up'
    """
    row = METRICS[column.metric]
    return {
        "metric": row.name,
        "title": row.title if column.label == row.name else column.label,
        "direction": row.direction,
        "scale": row.scale,
        "applies": row.applies,
        "settings": dict(column.settings),
        "whole": row.whole,
    }


def method_facts(line: MethodConfig) -> dict[str, Any]:
    """What a reader of the results has to know of a method.

    >>> method_facts(MethodConfig(method="nib", label="NIB"))["signed"]
    True
    """
    unit, signed, paper, stochastic = "noise", True, "", True
    if line.method != FLOOR:
        row = methods.get(line.method)
        unit, signed, paper, stochastic = row.unit, row.signed, row.paper, "seed" in row.options
    return {
        "title": line.label,
        "unit": unit,
        "signed": signed,
        "paper": paper,
        "stochastic": stochastic,
        "method": line.method,
        "settings": dict(line.settings),
    }


_FLOATS = pa.list_(pa.float32())
_NAMED = {"index": pa.int64(), "sample": pa.string()}
_STATUS = {"status": pa.string(), "reason": pa.string()}
_MEASURED = {"seconds": pa.float64(), "peak_bytes": pa.int64()}
_MAPS = {
    "map": _FLOATS,
    "map_height": pa.int32(),
    "map_width": pa.int32(),
    "text_map": _FLOATS,
    "tokens": pa.list_(pa.string()),
}


def rows_schema(config: RunConfig, facts: Mapping[bytes, bytes]) -> pa.Schema:
    """One row per sample, method and seed."""
    asked = [(METRICS[column.metric], column.label) for column in config.metrics]
    scores = {f"metric:{label}": pa.float64() for row, label in asked if not row.whole}
    curves = {f"curve:{label}": _FLOATS for row, label in asked if row.curve}
    named = {**_NAMED, "method": pa.string(), "seed": pa.int64()}
    return pa.schema({**named, **_STATUS, **_MEASURED, **_MAPS, **scores, **curves}, dict(facts))


def samples_schema(facts: Mapping[bytes, bytes]) -> pa.Schema:
    """One row per sample."""
    seen = {
        "thumbnail": pa.binary(),
        "caption": pa.string(),
        "label": pa.string(),
        "confidence": pa.float64(),
        "mask": pa.binary(),
    }
    return pa.schema({**_NAMED, **_STATUS, **seen}, dict(facts))


def whole_schema(facts: Mapping[bytes, bytes]) -> pa.Schema:
    """One row per method, seed and score over the whole set."""
    score = {
        "method": pa.string(),
        "seed": pa.int64(),
        "metric": pa.string(),
        "value": pa.float64(),
    }
    return pa.schema(score, dict(facts))


def table(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as a table; what a row lacks is null."""
    return pa.Table.from_pylist(list(rows), schema)
