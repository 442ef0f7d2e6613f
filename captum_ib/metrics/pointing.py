"""Where the positive attribution lies: the energy-based and the grid pointing game."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from quantus.helpers.enums import EvaluationCategory, ScoreDirection

from captum_ib.metrics.base import Samples, TorchMetric, check_array, pixel_maps
from captum_ib.metrics.selection import united_masks


class EnergyPointingGame(TorchMetric):
    """The share of the positive attribution that lies on the mask, in [0, 1]; higher is better.

    Σ_mask max(a, 0) / Σ max(a, 0) (Wang et al., Score-CAM, CVPR Workshops 2020; what is negative
    does not count, as in Böhle et al., CVPR 2021). A constant positive map scores the mask's share
    of the picture, the chance level. ``s_batch`` holds the mask(s), ``(N, H, W)`` or
    ``(N, K, H, W)``, nonzero on the object; K masks of a sample are united. ``model`` may be None
    where ``a_batch`` is given. With grids of :func:`pointing_grids` this is the Grid Pointing Game.

    Raises:
        ValueError: no masks or masks of another size; an empty mask, or a map that is positive
            nowhere (see ``undefined``).

    >>> mask = np.zeros((1, 1, 4, 4)); mask[..., :1, :] = 1
    >>> game, given = EnergyPointingGame(), (None, np.zeros((1, 3, 4, 4)), np.array([0]))
    >>> game(*given, mask, mask), game(*given, 1 - mask, mask), game(*given, mask + 1, mask)
    ([1.0], [0.0], [0.4])
    """

    name = "Energy Pointing Game"
    score_direction = ScoreDirection.HIGHER
    evaluation_category = EvaluationCategory.LOCALISATION

    def _evaluate(self, samples: Samples) -> list[float]:
        maps = pixel_maps(samples.a, samples.x, self.name)
        masks = united_masks(samples.s, maps, self.name)
        positive = maps.flatten(1).clamp(min=0)
        empty, none = ~masks.any(1), positive.sum(1) == 0
        self._undefined(empty, "an empty mask")
        self._undefined(none, "a map that is positive nowhere")
        shares = (positive * masks).sum(1) / positive.sum(1)
        return shares.masked_fill(empty | none, torch.nan).tolist()


class PointingGrids(NamedTuple):
    """Grids of pictures, one row for each cell: n² rows of a grid hold the same picture.

    Attributes:
        images: ``(M·n², C, H, W)``, each grid repeated.
        targets: ``(M·n², …)``, what is asked about the cell: its class, or its caption's ids.
        masks: ``(M·n², 1, H, W)`` of int, 1 on the cell.
        samples: ``(M, n²)``, which of the given pictures stand where, in reading order.
    """

    images: np.ndarray
    targets: np.ndarray
    masks: np.ndarray
    samples: np.ndarray


def pointing_grids(
    images: np.ndarray,
    targets: np.ndarray,
    confidence: np.ndarray,
    *,
    side: int = 2,
    least: float = 0.5,
) -> PointingGrids:
    """Grids of confident samples of different classes (Böhle et al., CVPR 2021).

    Samples are taken by falling confidence; a grid takes the first ones of classes that it does not
    hold yet, until too few classes are left. Each picture is shrunk to a cell, antialiased, so a
    grid is as large as a picture and any model takes it (the paper's grids are n times as large,
    which needs a model that takes any size).

    Args:
        images: ``(N, C, H, W)``, as the model takes them; H and W of at least ``side`` pixels.
        targets: ``(N,)`` classes, or ``(N, T)`` ids of captions.
        confidence: ``(N,)``, e.g. the target's probability where it is the prediction, else 0.
        side: n, cells along a side.
        least: samples below this confidence stay out.

    Raises:
        ValueError: fewer than n² confident samples of different classes; a side below 2; arrays
            that don't belong together.

    >>> x, y = np.random.rand(8, 3, 4, 4), np.array([0, 1, 2, 3, 0, 1, 2, 3])
    >>> grids = pointing_grids(x, y, np.linspace(1, 0.6, 8))
    >>> grids.images.shape, grids.samples.tolist()
    ((8, 3, 4, 4), [[0, 1, 2, 3], [4, 5, 6, 7]])
    """
    check_array("images", images)
    if side < 2:
        raise ValueError(f"a grid has at least 2 cells along a side, given {side}")
    if images.ndim != 4 or not len(images) == len(targets) == len(confidence):
        raise ValueError(
            f"give images (N, C, H, W) with a target and a confidence each, given "
            f"{images.shape}, {np.shape(targets)} and {np.shape(confidence)}"
        )
    places = chosen_cells(list(targets), np.asarray(confidence), side**2, least)
    grids = np.stack([grid_picture(images[row], side) for row in places])
    masks = np.tile(cell_masks(images.shape[2:], side), (len(places), 1, 1, 1))
    asked = np.asarray(targets)[places.flatten()]
    return PointingGrids(np.repeat(grids, side**2, axis=0), asked, masks, places)


def grid_picture(images: np.ndarray, side: int) -> np.ndarray:
    """n² pictures ``(n², C, H, W)``, each shrunk to its cell, as one ``(C, H, W)``."""
    grid = np.zeros_like(images[0])
    for picture, cell in zip(images, cell_masks(images.shape[2:], side), strict=True):
        rows, columns = (np.flatnonzero(cell[0].any(axis)) for axis in (1, 0))
        grid[:, rows[:, None], columns] = shrunk(picture, (len(rows), len(columns)))
    return grid


def cell_masks(size: Sequence[int], side: int) -> np.ndarray:
    """``(n², 1, H, W)`` of int, 1 on each cell of a grid in reading order."""
    rows, columns = ((np.arange(length) * side) // length for length in size)
    cells = rows[:, None] * side + columns
    return (cells == np.arange(side**2)[:, None, None]).astype(int)[:, None]


def shrunk(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture ``(C, H, W)`` at another size, bilinear and antialiased."""
    pixels = torch.from_numpy(np.ascontiguousarray(picture))[None].double()
    small = F.interpolate(pixels, size, mode="bilinear", antialias=True, align_corners=False)
    return small[0].numpy()


def chosen_cells(
    targets: Sequence[Any], confidence: np.ndarray, count: int, least: float
) -> np.ndarray:
    """``(M, count)`` places of confident samples, of different targets in each row.

    Args:
        targets: N classes, or arrays of a caption's ids.
        confidence: ``(N,)``.
        count: of samples in a row.
        least: samples below this confidence stay out.

    Raises:
        ValueError: not even one row can be filled.
    """
    names = [np.asarray(target).tobytes() for target in targets]
    left = [int(place) for place in np.argsort(-confidence, kind="stable")]
    left = [place for place in left if confidence[place] >= least]
    rows: list[list[int]] = []
    while True:
        row: dict[bytes, int] = {}
        for place in left:
            if len(row) < count:
                row.setdefault(names[place], place)
        if len(row) < count:
            break
        rows.append(list(row.values()))
        left = [place for place in left if place not in rows[-1]]
    if not rows:
        known = len({names[place] for place in left})
        raise ValueError(
            f"a grid of {count} cells needs {count} samples of different classes or captions with "
            f"a confidence of at least {least:g}; there are {known} among {len(names)} samples: "
            "give more samples, a smaller grid, or a lower least confidence"
        )
    return np.array(rows)
