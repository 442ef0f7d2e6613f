"""One table of several runs on the same samples: who leads each metric, and who is level with it.

python -m benchmarks.leaders results/a results/b --metrics insertion deletion insdel

Bold: the best mean. =: the paired difference to it is within two standard errors. Methods are in
the order of the first metric; a run that is not finished counts as far as it came.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from captum_ib.benchmark.catalogue import METRICS


def rows_of(folder: Path) -> pd.DataFrame:
    """The rows of a run, joined or in parts."""
    whole = folder / "results.parquet"
    files = [whole] if whole.is_file() else sorted((folder / "parts").glob("*.parquet"))
    if not files:
        raise SystemExit(f"{folder} holds no results")
    return pd.concat([pd.read_parquet(file) for file in files])


def cell(scores: pd.Series, best: pd.Series | None) -> str:
    """Mean ± standard error, and how it stands to the best."""
    shown = f"{scores.mean():.3g} ± {scores.sem():.2g}"
    if best is None:
        return f"**{shown}**"
    gap = (scores - best).dropna()
    return f"{shown} =" if abs(gap.mean()) < 2 * gap.sem() else shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--metrics", nargs="+", required=True)
    args = parser.parse_args()
    rows = pd.concat([rows_of(folder) for folder in args.folders])
    by_metric = {
        name: rows.pivot_table(index="index", columns="method", values=f"metric:{name}")
        for name in args.metrics
    }
    first = by_metric[args.metrics[0]].mean()
    order = first.sort_values(ascending=METRICS[args.metrics[0]].direction == "down").index
    print(f"| method | n | {' | '.join(args.metrics)} |\n{'|---' * (len(args.metrics) + 2)}|")
    for method in order:
        cells = [str((rows["method"] == method).sum())]
        for name, table in by_metric.items():
            means = table.mean()
            lead = means.idxmin() if METRICS[name].direction == "down" else means.idxmax()
            cells.append(cell(table[method], None if method == lead else table[lead]))
        print(f"| {method} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
