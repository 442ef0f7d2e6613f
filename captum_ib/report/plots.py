"""Figures of a table's runs: curves, scores against confidence, agreement of maps, speed."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from captum_ib.report.aggregate import Table, sample_means
from captum_ib.report.layout import shown_rate
from captum_ib.report.reading import Run
from captum_ib.report.scores import Group
from captum_ib.metrics.agreement import layer_agreement
from captum_ib.metrics.difficulty import DifficultyBins, difficulty_bins, plot_difficulty
from captum_ib.metrics.plots import COLOURS, paper_style, plot_curves

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = 20
"""Bins of confidence, as in CoIBA; fewer where that leaves less than five samples to a bin."""
COMPARED = 200
"""Samples, at most, whose maps are compared with each other."""
_SIDE = 28  # pixels to which small maps are brought before they are compared
_DIFFICULTY = ("insdel", "insertion", "iou", "drop_image")
_DASHES = ("-", "--", ":", "-.")


def figures(table: Table, seed: int = 0) -> Iterator[tuple[str, Figure]]:
    """Name and figure, one after another, of all that the runs have data for.

    Args:
        table: whose runs they show.
        seed: of the choice of samples whose maps are compared.
    """
    group = table.group
    for label, per_method in mean_curves(group).items():
        title = group.metrics[label].title if label in group.metrics else label
        curves = {
            group.methods[method].title: _as_rows(*moments)
            for method, moments in per_method.items()
        }
        yield f"curves-{label}", _tidied(plot_curves(curves, ylabel="score of the target"), title)
    difficulty = _difficulty(table)
    if difficulty is not None:
        yield "difficulty", difficulty
    yield from _agreements(group, seed)
    speed = _throughput(table)
    if speed is not None:
        yield "throughput", speed


def save_figures(table: Table, folder: Path, prefix: str = "", seed: int = 0) -> list[Path]:
    """Write all figures as PNG; returns their paths."""
    paths = []
    for name, figure in figures(table, seed):
        safe = "".join(sign if sign.isalnum() or sign in "-._" else "-" for sign in name)
        path = folder / f"{prefix}{safe}.png"
        with paper_style():
            figure.savefig(path, dpi=200, bbox_inches="tight")
        paths.append(path)
    return paths


def mean_curves(group: Group) -> dict[str, dict[str, tuple[int, np.ndarray, np.ndarray]]]:
    """Per metric and method: samples, mean curve and its standard error over samples.

    A sample's curve is the mean over its seeds. One chunk at a time is in memory. A method that is
    in several runs is shown as the first has it.
    """
    sums: dict[str, dict[str, _Moments]] = {}
    taken: set[str] = set()
    wanted = group.index
    for run in group.runs:
        new = [label for label in run.methods if label not in taken]
        taken.update(new)
        columns = {f"curve:{label}": label for label in run.metrics}
        for table in run.tables("results", ["method", "status", *columns]):
            index, methods = table["index"].to_numpy(), np.array(table["method"].to_pylist())
            usable = np.isin(index, wanted)
            for column, label in columns.items():
                if column not in table.column_names:
                    continue
                rows = table[column].to_pylist()
                for method in new:
                    chosen = [
                        number
                        for number in np.flatnonzero(usable & (methods == method))
                        if rows[number] is not None and np.isfinite(rows[number]).all()
                    ]
                    if chosen:
                        curves = np.array([rows[number] for number in chosen])
                        home = sums.setdefault(label, {}).setdefault(method, _Moments())
                        home.add(_per_sample(curves, index[chosen]))
    order = list(group.methods)
    return {
        label: {method: found[method].result() for method in order if method in found}
        for label, found in sums.items()
    }


def picked_maps(group: Group, methods: Collection[str], seed: int = 0) -> dict[str, np.ndarray]:
    """`(N, H, W)` maps of the same samples for each method, with its first seed, in one size.

    At most :data:`COMPARED` samples on which all the methods have a map; a method that has none at
    all is left out.
    """
    import torch
    from torch.nn.functional import interpolate

    scores = {label: group.scores[label] for label in methods if group.scores[label].ok[0].any()}
    if not scores:
        return {}
    common = group.index[np.logical_and.reduce([one.ok[0] for one in scores.values()])]
    if len(common) > COMPARED:
        common = np.random.default_rng(seed).choice(common, COMPARED, replace=False)
    only = {int(index) for index in common}
    found: dict[str, dict[int, np.ndarray]] = {label: {} for label in scores}
    for run in group.runs:
        for row in _rows(run, ["method", "seed", "map", "map_height", "map_width"], only):
            label = row["method"]
            if label in found and row["seed"] == scores[label].seeds[0] and row["map"]:
                values = np.array(row["map"], dtype=np.float64)
                found[label][row["index"]] = values.reshape(row["map_height"], row["map_width"])
    shapes = [one.shape for maps in found.values() for one in maps.values()]
    if not shapes:
        return {}
    there = sorted(set.intersection(*(set(maps) for maps in found.values())))
    size = [max(_SIDE, max(shape[axis] for shape in shapes)) for axis in (0, 1)]
    size = [min(side, 4 * _SIDE) for side in size]
    result = {}
    for label, maps in found.items():
        rows = [
            interpolate(torch.from_numpy(maps[index])[None, None], size=size, mode="bilinear")[0, 0]
            for index in there
        ]
        if rows:
            result[label] = torch.stack(rows).numpy()
    return result


def layer_families(group: Group) -> dict[str, dict[str, str]]:
    """Method → (label → layer) for methods that the runs explain with at several layers."""
    families: dict[str, dict[str, str]] = {}
    for label, method in group.methods.items():
        layer = method.settings.get("layer", method.settings.get("layers"))
        if layer is not None and label in group.scores:
            families.setdefault(method.method, {})[label] = _layer(layer)
    return {name: family for name, family in families.items() if len(set(family.values())) > 1}


class _Moments:
    """Running mean and sum of squares of curves (Chan et al., 1979)."""

    def __init__(self) -> None:
        self.n, self.mean, self.squares = 0, np.zeros(0), np.zeros(0)

    def add(self, rows: np.ndarray) -> None:
        n, mean = len(rows), rows.mean(0)
        squares = ((rows - mean) ** 2).sum(0)
        if not self.n:
            self.n, self.mean, self.squares = n, mean, squares
            return
        if mean.shape != self.mean.shape:
            raise ValueError(
                f"curves of one metric have {len(self.mean)} and {len(mean)} points; report runs "
                "with different numbers of steps one by one"
            )
        total, gap = self.n + n, mean - self.mean
        self.squares = self.squares + squares + gap**2 * self.n * n / total
        self.mean = self.mean + gap * n / total
        self.n = total

    def result(self) -> tuple[int, np.ndarray, np.ndarray]:
        if self.n < 2:
            return self.n, self.mean, np.zeros_like(self.mean)
        return self.n, self.mean, np.sqrt(self.squares / (self.n - 1) / self.n)


def _per_sample(curves: np.ndarray, index: np.ndarray) -> np.ndarray:
    """The mean curve of each sample."""
    samples, place = np.unique(index, return_inverse=True)
    sums = np.zeros((len(samples), curves.shape[1]))
    np.add.at(sums, place, curves)
    return sums / np.bincount(place)[:, None]


def _as_rows(n: int, mean: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Two curves with this mean and standard error, which is all that the plot asks of them."""
    return mean[None] if n < 2 else np.stack([mean - error, mean + error])


def _difficulty(table: Table) -> Figure | None:
    """The metric that says most, against the model's confidence."""
    group = table.group
    named = {metric.metric or metric.label: metric for metric in table.metrics}
    metric = next((named[name] for name in _DIFFICULTY if name in named), None)
    confidence = _confidence(group)
    known = np.isfinite(confidence)
    if metric is None or known.sum() < 10 or np.ptp(confidence[known]) == 0:
        return None
    bins = min(BINS, max(2, int(known.sum()) // 5))
    low, high = confidence[known].min(), confidence[known].max()
    spread = low >= 0 and high <= 1 and high - low > 0.5
    results: dict[str, DifficultyBins] = {}
    for line in table.lines:
        scores = metric.scale * sample_means(group.scores[line.method.label].values[metric.label])
        if np.isfinite(scores[known]).any():
            results[line.method.title] = difficulty_bins(
                scores[known],
                confidence[known],
                bins=bins,
                binning="width" if spread else "quantile",
            )
    return _tidied(plot_difficulty(results, ylabel=f"{metric.title} {metric.arrow}"), "")


def _confidence(group: Group) -> np.ndarray:
    """`(N,)` the model's confidence in each sample, NaN where there is none."""
    values = np.full(len(group.index), np.nan)
    for run in group.runs:
        for table in run.tables("samples", ["confidence"]):
            if "confidence" not in table.column_names:
                continue
            index, given = table["index"].to_numpy(), table["confidence"].to_numpy()
            place = np.searchsorted(group.index, index)
            there = (place < len(values)) & np.isin(index, group.index)
            values[place[there]] = given[there]
    return values


def _agreements(group: Group, seed: int) -> Iterator[tuple[str, Figure]]:
    """Heat maps of SSIM: between the methods, and between the layers of one method."""
    titles = {label: group.methods[label].title for label in group.methods}
    sets = {"agreement": {label: titles[label] for label in group.scores}}
    for name, family in layer_families(group).items():
        sets[f"agreement-layers-{name}"] = family
    for name, members in sets.items():
        maps = picked_maps(group, list(members), seed)
        if len(maps) > 1 and len(next(iter(maps.values()))) > 1:
            result = layer_agreement({members[label]: values for label, values in maps.items()})
            yield name, result.plot()


def _throughput(table: Table) -> Figure | None:
    """Samples per second, one bar per method, on a logarithmic axis."""
    from matplotlib.figure import Figure

    lines = [line for line in table.lines if math.isfinite(line.rate)]
    if not lines:
        return None
    lines.sort(key=lambda line: line.rate)
    with paper_style():
        figure = Figure(figsize=(3.3, 0.7 + 0.2 * len(lines)), layout="constrained")
        axes = figure.subplots()
        rates = [line.rate for line in lines]
        bars = axes.barh([line.method.title for line in lines], rates, color=COLOURS[0], height=0.7)
        axes.bar_label(bars, [shown_rate(rate) for rate in rates], padding=2, fontsize=7)
        axes.set(xscale="log", xlabel=f"samples per second ({table.group.config['device']})")
        axes.set_xlim(10 ** math.floor(math.log10(min(rates) * 0.9)), max(rates) * 4)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        axes.grid(True, axis="x")
        axes.set_axisbelow(True)
    return figure


def _tidied(figure: Figure, title: str) -> Figure:
    """A title, other dashes where colours repeat, and a legend that covers no curve."""
    with paper_style():
        axes = figure.axes[0]
        axes.set_title(title)
        handles, labels = axes.get_legend_handles_labels()
        for number, handle in enumerate(handles):
            line: Any = handle[0] if isinstance(handle, tuple) else handle
            line.set_linestyle(_DASHES[number // len(COLOURS) % len(_DASHES)])
        legend = axes.get_legend()
        if legend is not None:
            legend.remove()
        width, height = figure.get_size_inches()
        longest = max(map(len, labels))
        figure.set_size_inches(
            width + 0.35 + 0.055 * longest, max(height, 0.3 + 0.145 * len(labels))
        )
        figure.legend(handles, labels, loc="outside right upper")
    return figure


def _rows(run: Run, columns: list[str], only: Collection[int]) -> Iterator[Mapping[str, Any]]:
    for table in run.tables("results", columns, only):
        yield from table.to_pylist()


def _layer(layer: Any) -> str:
    return layer if isinstance(layer, str) else " ".join(str(part) for part in layer)
