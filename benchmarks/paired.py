"""Paired differences between methods of a benchmark run, mean ± standard error over the samples.

    python -m benchmarks.paired results/vit-scenes "CoIBA" "IBA*"

A sample's score is the mean over the seeds; samples that either method lacks are left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq


def scores(folder: Path, method: str) -> dict[str, dict[int, float]]:
    """Metric → sample → mean over the seeds."""
    file = pq.ParquetFile(folder / "results.parquet")
    metrics = [name for name in file.schema_arrow.names if name.startswith("metric:")]
    rows = file.read(["index", "method", *metrics]).to_pylist()
    rows = [row for row in rows if row["method"] == method]
    if not rows:
        raise SystemExit(f"{folder} has no method {method!r}")
    found: dict[str, dict[int, float]] = {}
    for metric in metrics:
        by_sample: dict[int, list[float]] = {}
        for row in rows:
            if row[metric] is not None:
                by_sample.setdefault(row["index"], []).append(row[metric])
        found[metric.removeprefix("metric:")] = {
            index: float(np.mean(values)) for index, values in by_sample.items()
        }
    return found


def main() -> None:
    """Print a line per metric."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("method")
    parser.add_argument("other")
    arguments = parser.parse_args()
    ours, theirs = (scores(arguments.folder, name) for name in (arguments.method, arguments.other))
    for metric in ours:
        both = sorted(ours[metric].keys() & theirs[metric].keys())
        gaps = np.array([ours[metric][index] - theirs[metric][index] for index in both])
        error = gaps.std(ddof=1) / np.sqrt(len(gaps))
        print(f"{metric:>20}  {gaps.mean():+8.3f} ± {error:.3f}  (n = {len(gaps)})")


if __name__ == "__main__":
    main()
