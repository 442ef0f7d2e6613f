"""How the figures of this package look: sizes of a paper's column, colours that all readers see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart with any common colour blindness, and in greyscale print.
COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
    "#999933",
)

_STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 2.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.linewidth": 0.4,
    "grid.color": "0.85",
    "pdf.fonttype": 42,  # text stays text; journals refuse Type 3 fonts
    "svg.fonttype": "none",
}


@contextmanager
def paper_style() -> Iterator[None]:
    """This package's style for figures made and saved inside; the user's own comes back after."""
    import matplotlib as mpl

    with mpl.rc_context(_STYLE):
        yield


@contextmanager
def drawn(
    width: float, height: float, path: str | Path | None = None
) -> Iterator[tuple[Figure, Axes]]:
    """A figure of so many inches in this package's style, saved at the end if a path is given."""
    from matplotlib.figure import Figure

    with paper_style():
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.subplots()
        finish(figure, path)


def finish(figure: Figure, path: str | Path | None) -> Figure:
    """Save the figure if a path is given, and hand it back."""
    if path is not None:
        figure.savefig(path, dpi=300, bbox_inches="tight")
    return figure


def plot_curves(
    curves: Mapping[str, np.ndarray],
    path: str | Path | None = None,
    *,
    xlabel: str = "share of pixels changed",
    ylabel: str = "probability of the target",
) -> Figure:
    """Mean insertion or deletion curve per method, with a band of one standard error.

    Args:
        curves: legend entry → ``(N, steps + 1)`` curves, as ``Insertion.curves`` holds them; rows
            of NaN (samples without a score) are left out.
        path: where to save; None: nothing is saved.
        xlabel: label of the abscissa, which runs from 0 to 1.
        ylabel: label of the ordinate.

    Returns:
        The matplotlib figure.

    Raises:
        ValueError: nothing to draw: no curves, a curve array that is not two-dimensional, or only
            NaN.
    """
    if not curves:
        raise ValueError("no curves to plot; give a dictionary of name → (N, steps + 1) arrays")
    with drawn(3.3, 2.4, path) as (figure, axes):
        for number, (label, rows) in enumerate(curves.items()):
            rows = np.asarray(rows, dtype=float)
            if rows.ndim != 2:
                raise ValueError(f"curves[{label!r}] has shape {rows.shape}; expected (N, steps+1)")
            rows = rows[~np.isnan(rows).any(1)]
            if not len(rows):
                raise ValueError(f"curves[{label!r}] holds no sample without NaN")
            colour = COLOURS[number % len(COLOURS)]
            share = np.linspace(0, 1, rows.shape[1])
            mean = rows.mean(0)
            axes.plot(share, mean, color=colour, label=label)
            if len(rows) > 1:
                error = rows.std(0, ddof=1) / np.sqrt(len(rows))
                axes.fill_between(
                    share, mean - error, mean + error, color=colour, alpha=0.2, linewidth=0
                )
        axes.set(xlabel=xlabel, ylabel=ylabel, xlim=(0, 1))
        axes.grid(True)
        axes.legend()
    return figure
