"""CoIBA across stages of different resolution: λ on the finest grid, averaged for the others."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from captum_ib import CoIBA, TokenLayout
from captum_ib.bottleneck import Damping
from tests.models.classifiers import IMAGE_CLASSIFIERS
from tests.models.rows import Row

STAGED = {
    ("Swin", "timm"): ["layers.0.blocks.0", "layers.1.blocks.0", "layers.2.blocks.1"],
    ("Swin", "transformers"): [
        "swin.encoder.layers.0.blocks.0",
        "swin.encoder.layers.1.blocks.0",
        "swin.encoder.layers.2.blocks.1",
    ],
    ("Swin", "torchvision"): ["features.1.0", "features.3.0", "features.5.1"],
    ("ConvNeXt", "timm"): ["stages.0.blocks.0", "stages.1.blocks.0", "stages.2.blocks.1"],
    ("ResNet", "timm"): ["layer1.0", "layer2.0", "layer3.0"],
}
"""Three stages of each, at 1/4, 1/8 and 1/16 of the image's 64 x 96."""


def row_of(name: str, library: str) -> Row:
    return next(row for row in IMAGE_CLASSIFIERS if (row.name, row.library) == (name, library))


@pytest.mark.parametrize("key", STAGED, ids="-".join)
def test_the_map_has_the_finest_grid_whatever_the_order(key: tuple[str, str]) -> None:
    row = row_of(*key)
    model, inputs = row.model(), row.inputs()
    maps = [
        CoIBA(model, layers).attribute(inputs, target=1, n_steps=3, n_samples=2, seed=0)
        for layers in (STAGED[key], STAGED[key][::-1])
    ]
    assert maps[0].shape == (2, 1, 16, 24)
    torch.testing.assert_close(maps[1], maps[0])


def test_coarser_layers_take_the_area_average() -> None:
    """NCHW, NHWC and tokens at three resolutions, against torch's own pooling of 1 − λ."""
    shapes = [(2, 5, 8, 12), (2, 4, 6, 7), (2, 2 * 3, 9)]
    layouts = [TokenLayout("nchw"), TokenLayout("nhwc"), TokenLayout("tokens", grid=(2, 3))]
    damping = Damping.shared([torch.zeros(shape) for shape in shapes], layouts, uniform=True)
    (alpha,) = damping.alphas
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        alpha.copy_(torch.randn(alpha.shape, generator=generator))
        finest, *coarser = (1 - damping(index).lam for index in range(3))
    assert finest.shape == (2, 1, 8, 12)
    torch.testing.assert_close(finest.flatten(), torch.sigmoid(-alpha).flatten())
    torch.testing.assert_close(
        coarser[0], functional.avg_pool2d(finest, 2).movedim(1, -1), rtol=1e-5, atol=1e-6
    )
    pooled = functional.avg_pool2d(finest, 4).flatten(2).transpose(1, 2)
    torch.testing.assert_close(coarser[1], pooled, rtol=1e-5, atol=1e-6)
