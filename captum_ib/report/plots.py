"""Figures of a table's runs: curves, scores against confidence, agreement of maps, speed."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from captum_ib.metrics.agreement import layer_agreement
from captum_ib.metrics.difficulty import difficulty_bins, plot_difficulty
from captum_ib.metrics.plots import COLOURS, drawn, paper_style, plot_curves
from captum_ib.report import disagreement
from captum_ib.report.aggregate import Table
from captum_ib.report.layout import shown_rate
from captum_ib.report.libraries import Series, pd
from captum_ib.report.scores import Group

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
    for label, metric in group.metrics.items():
        curves = sample_curves(group, label)
        if curves:
            named = {group.methods[method].title: rows for method, rows in curves.items()}
            figure = plot_curves(named, ylabel="score of the target")
            yield f"curves-{label}", _tidied(figure, metric.title)
    difficulty = _difficulty(table)
    if difficulty is not None:
        yield "difficulty", difficulty
    titles = {label: method.title for label, method in group.methods.items()}
    yield from _agreement(group, "agreement", titles, seed)
    for name, layers in layer_families(group).items():
        yield from _agreement(group, f"agreement-layers-{name}", layers, seed)
    opposed = disagreement.plot(table)
    if opposed is not None:
        yield "metrics", opposed
    speed = _throughput(table)
    if speed is not None:
        yield "throughput", speed


def save_figures(table: Table, folder: Path, prefix: str = "", seed: int = 0) -> None:
    """Write all figures as PNG."""
    for name, figure in figures(table, seed):
        safe = "".join(sign if sign.isalnum() or sign in "-._" else "-" for sign in name)
        with paper_style():
            figure.savefig(folder / f"{prefix}{safe}.png", dpi=200, bbox_inches="tight")


def sample_curves(group: Group, metric: str) -> dict[str, np.ndarray]:
    """Method → ``(N, points)``: each sample's curve in a metric, the mean over its seeds.

    A method that is in several runs is shown as the first has it.

    Raises:
        ValueError: curves of different lengths.
    """
    column = f"curve:{metric}"
    rows = group.read("results", [column]).dropna()
    first = rows["run"] == rows.groupby("method")["run"].transform("min")
    rows = rows[rows["index"].isin(group.index) & first]
    lengths = sorted(rows[column].map(len).unique())
    if len(lengths) > 1:
        raise ValueError(
            f"curves of one metric have {' and '.join(map(str, lengths))} points; report runs "
            "with different numbers of steps one by one"
        )
    if not lengths:
        return {}
    keys = pd.MultiIndex.from_frame(rows[["method", "index"]])
    curves = pd.DataFrame(np.stack(rows[column]), index=keys, dtype=float).dropna()
    curves = dict(list(curves.groupby(level=["method", "index"]).mean().groupby(level="method")))
    return {label: curves[label].to_numpy() for label in group.methods if label in curves}


def picked_maps(group: Group, methods: Collection[str], seed: int = 0) -> dict[str, np.ndarray]:
    """``(N, H, W)`` maps of the same samples for each method, with its first seed, in one size.

    At most :data:`COMPARED` samples on which all the methods have a map; a method that has none at
    all is left out.
    """
    import torch
    from torch.nn.functional import interpolate

    first = {label: group.seeds(label)[0] for label in methods}
    there = pd.DataFrame(
        {label: group.table(label, "ok").loc[seed].eq(True) for label, seed in first.items()}
    )
    there = there.loc[:, there.any()]
    common = there.index[there.all(axis=1)].to_numpy()
    if len(common) > COMPARED:
        common = np.random.default_rng(seed).choice(common, COMPARED, replace=False)
    found: dict[str, dict[int, torch.Tensor]] = {label: {} for label in there}
    rows = group.read("results", ["map", "map_height", "map_width"], common.tolist()).dropna()
    for row in rows[rows["method"].isin(list(there))].itertuples():
        if row.seed == first[row.method]:
            values = torch.from_numpy(np.asarray(row.map, dtype=np.float64))
            grid = values.reshape(1, 1, int(row.map_height), int(row.map_width))
            found[row.method][row.index] = grid
    shapes = [one.shape[2:] for maps in found.values() for one in maps.values()]
    common = sorted(set.intersection(*map(set, found.values()))) if found else []
    if not common:
        return {}
    size = [min(max(_SIDE, *sides), 4 * _SIDE) for sides in zip(*shapes, strict=True)]
    return {
        label: torch.cat([interpolate(maps[index], size, mode="bilinear") for index in common])
        .squeeze(1)
        .numpy()
        for label, maps in found.items()
    }


def layer_families(group: Group) -> dict[str, dict[str, str]]:
    """Method → (label → layer) for methods that the runs explain with at several layers."""
    families: dict[str, dict[str, str]] = {}
    for label, method in group.methods.items():
        layer = method.settings.get("layer", method.settings.get("layers"))
        if layer is not None:
            name = layer if isinstance(layer, str) else " ".join(map(str, layer))
            families.setdefault(method.method, {})[label] = name
    return {name: family for name, family in families.items() if len(set(family.values())) > 1}


def _difficulty(table: Table) -> Figure | None:
    """The metric that says most, against the model's confidence."""
    group = table.group
    named = {metric.metric or metric.label: metric for metric in table.metrics}
    metric = next((named[name] for name in _DIFFICULTY if name in named), None)
    confidence = _confidence(group)
    if metric is None or len(confidence) < 10 or confidence.nunique() == 1:
        return None
    low, high = confidence.min(), confidence.max()
    spread = low >= 0 and high <= 1 and high - low > 0.5
    bins = min(BINS, max(2, len(confidence) // 5))
    results = {}
    for line in table.lines:
        scores = metric.scale * group.scores(line.method.label, metric.label).mean()
        scores = scores.loc[confidence.index].to_numpy()
        if np.isfinite(scores).any():
            results[line.method.title] = difficulty_bins(
                scores,
                confidence.to_numpy(),
                bins=bins,
                binning="width" if spread else "quantile",
            )
    return _tidied(plot_difficulty(results, ylabel=f"{metric.title} {metric.arrow}"), "")


def _confidence(group: Group) -> Series:
    """The model's confidence by the samples' numbers, of those that have one."""
    known = group.read("samples", ["confidence"]).set_index("index")["confidence"]
    confidence = known.astype(float).reindex(group.index)
    return confidence[np.isfinite(confidence)]


def _agreement(
    group: Group, name: str, members: dict[str, str], seed: int
) -> Iterator[tuple[str, Figure]]:
    """A heat map of SSIM between methods, or between the layers of one; none for a single one."""
    maps = picked_maps(group, list(members), seed)
    if len(maps) > 1 and len(next(iter(maps.values()))) > 1:
        result = layer_agreement({members[label]: values for label, values in maps.items()})
        yield name, result.plot()


def _throughput(table: Table) -> Figure | None:
    """Samples per second, one bar per method, on a logarithmic axis."""
    lines = [line for line in table.lines if math.isfinite(line.rate)]
    if not lines:
        return None
    lines.sort(key=lambda line: line.rate)
    with drawn(3.3, 0.7 + 0.2 * len(lines)) as (figure, axes):
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
