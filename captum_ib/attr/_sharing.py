"""One damping ratio for layers of one or of several resolutions, or one for each layer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from captum_ib.attr._settings import BottleneckSettings
from captum_ib.bottleneck import Damping, GridOperator, Site
from captum_ib.bottleneck.damping import area_matrix, gaussian_matrix
from captum_ib.layout import TokenLayout


def build_dampings(
    activations: Sequence[Tensor], layouts: Sequence[TokenLayout], settings: BottleneckSettings
) -> list[Damping]:
    """One damping ratio for all layers, or one for each.

    Layers of different resolution share one on the finest grid, averaged over areas for the
    coarser ones.

    Raises:
        ValueError: when the layers can't share one: different prefixes, no grid, or (per element)
            different channels.
    """
    if settings.damping == "individual" and len(layouts) > 1:
        return [
            build_dampings([activation], [layout], settings)[0]
            for activation, layout in zip(activations, layouts, strict=True)
        ]
    uniform = settings.channel == "uniform"
    shapes = [
        layout.uniform_shape(activation) if uniform else tuple(activation.shape)
        for activation, layout in zip(activations, layouts, strict=True)
    ]
    kinds = {(layout.kind, layout.prefix) for layout in layouts}
    device = activations[0].device
    if len(set(shapes)) == 1 and len(kinds) == 1:
        smoothing = _smoothing(layouts[0], activations[0], settings.smoothing)
        return [Damping(shapes[0], [Site()] * len(layouts), smoothing, device)]
    return [_multi_resolution(activations, layouts, settings)]


def _smoothing(
    layout: TokenLayout, activation: Tensor, sigma: float | str | None
) -> GridOperator | None:
    if sigma is None or isinstance(sigma, str):
        return None
    if not layout.spatial:
        raise ValueError(f"smoothing needs a layer with a grid, its layout is {layout.kind!r}")
    rows, columns = layout.grid_of(activation)
    matrices = gaussian_matrix(rows, sigma), gaussian_matrix(columns, sigma)
    if layout.kind == "tokens":
        return GridOperator(*matrices, prefix=layout.prefix, grid=(rows, columns))
    return GridOperator(*matrices, axes=(2, 3) if layout.kind == "nchw" else (1, 2))


def _multi_resolution(
    activations: Sequence[Tensor], layouts: Sequence[TokenLayout], settings: BottleneckSettings
) -> Damping:
    if not all(layout.spatial for layout in layouts):
        raise ValueError(
            "layers of different shapes can share a damping ratio only where each has a grid; "
            f"given layouts {[layout.kind for layout in layouts]}; use damping='individual'"
        )
    prefixes = {layout.prefix for layout in layouts}
    channels = {
        activation.shape[layout.channel_axis]
        for activation, layout in zip(activations, layouts, strict=True)
    }
    if len(prefixes) > 1 or (settings.channel == "elementwise" and len(channels) > 1):
        raise ValueError(
            f"can't share one damping ratio over layers with {sorted(prefixes)} prefix tokens and "
            f"{sorted(channels)} channels; use channel='uniform', other layers, or "
            "damping='individual'"
        )
    grids = [
        layout.grid_of(activation) for activation, layout in zip(activations, layouts, strict=True)
    ]
    prefix = prefixes.pop()
    rows, columns = max(h for h, _ in grids), max(w for _, w in grids)
    sites = []
    for layout, (h, w) in zip(layouts, grids, strict=True):
        pool = GridOperator(
            area_matrix(rows, h), area_matrix(columns, w), prefix=prefix, grid=(rows, columns)
        )
        coarser = (h, w) != (rows, columns)
        sites.append(Site(pool if coarser else None, partial(layout.arrange, grid=(h, w))))
    smoothing = _smoothing(
        TokenLayout("tokens", prefix, (rows, columns)), activations[0], settings.smoothing
    )
    width = 1 if settings.channel == "uniform" else channels.pop()
    shape = (activations[0].shape[0], prefix + rows * columns, width)
    return Damping(shape, sites, smoothing, activations[0].device)
