"""Videos and volumes: layers with a third side, told by the operations or said."""

from __future__ import annotations

import pytest
import torch
import torchvision
import transformers
from torch import nn

from captum_ib import IBA, NIB, CoIBA, LayerGradCAM, TokenLayout
from captum_ib.axis import Axis
from captum_ib.bottleneck.grids import area_matrix, gaussian_matrix, smoothing_over
from tests.models.rows import TOWER
from tests.models.test_layout import followed

FEW = {"n_steps": 3, "n_samples": 2, "seed": 0}
SMALL = {**TOWER, "num_labels": 3}


def videomae():
    config = transformers.VideoMAEConfig(
        image_size=32, patch_size=8, num_frames=4, tubelet_size=2, **SMALL
    )
    return transformers.VideoMAEForVideoClassification(config)


def vivit():
    config = transformers.VivitConfig(image_size=32, num_frames=4, tubelet_size=[2, 8, 8], **SMALL)
    return transformers.VivitForVideoClassification(config)


def vjepa2():
    config = transformers.VJEPA2Config(
        crop_size=32,
        patch_size=8,
        frames_per_clip=4,
        tubelet_size=2,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        mlp_ratio=2.0,
        pred_hidden_size=32,
        pred_num_attention_heads=2,
        pred_num_hidden_layers=2,
        num_pooler_layers=1,
        num_labels=3,
    )
    return transformers.VJEPA2ForVideoClassification(config)


def timesformer():
    config = transformers.TimesformerConfig(image_size=32, patch_size=8, num_frames=4, **SMALL)
    return transformers.TimesformerForVideoClassification(config)


def frames():
    return torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def voxels():
    return torch.randn(2, 1, 6, 10, 12, generator=torch.Generator().manual_seed(0))


def seeded(build):
    torch.manual_seed(0)
    return build().eval()


def volumetric():
    return nn.Sequential(
        nn.Conv3d(1, 8, 3, padding=1),
        nn.BatchNorm3d(8),
        nn.ReLU(),
        nn.MaxPool3d(2),
        nn.Conv3d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )


@pytest.mark.parametrize(
    ("layout", "shape"),
    [
        (TokenLayout("ncdhw"), (2, 5, 3, 4, 6)),
        (TokenLayout("ndhwc"), (2, 3, 4, 6, 5)),
        (TokenLayout("tokens", prefix=1, grid=(3, 4, 6), suffix=2), (2, 75, 5)),
    ],
    ids=lambda value: value.kind if isinstance(value, TokenLayout) else "",
)
def test_tokens_and_arrange_are_inverse(layout, shape):
    values = torch.randn(shape)
    assert layout.volume and not layout.spatial
    assert layout.sides(values) == (3, 4, 6)
    torch.testing.assert_close(layout.arrange(layout.tokens(values), (3, 4, 6)), values)
    assert layout.attribution(values).shape == (2, 1, 3, 4, 6)
    inner = layout.tokens(values)[:, layout.prefix : layout.prefix + 72]
    torch.testing.assert_close(layout.attribution(values).flatten(1), inner.sum(dim=-1))
    with pytest.raises(ValueError, match="has no grid of rows and columns"):
        layout.grid_of(values)


def test_axes_of_a_volume_are_a_layout():
    n, c, d, h, w = map(Axis, ("samples", "channels", "depth", "rows", "columns"))
    assert TokenLayout.of_axes((n, c, d, h, w)) == TokenLayout("ncdhw")
    assert TokenLayout.of_axes((n, d, h, w, c)) == TokenLayout("ndhwc")
    tokens = Axis("positions", (2, 4, 4), prefix=1)
    assert TokenLayout.of_axes((n, tokens, c)) == TokenLayout("tokens", 1, (2, 4, 4))


@pytest.mark.parametrize("method", [IBA, NIB, CoIBA, LayerGradCAM])
@pytest.mark.parametrize(
    ("build", "layer", "inputs", "shape"),
    [
        (volumetric, "4", voxels, (3, 5, 6)),
        (videomae, "videomae.layers.2", frames, (2, 4, 4)),
        (vivit, "vivit.layers.2", frames, (2, 4, 4)),
        (vjepa2, "vjepa2.encoder.layer.1", frames, (2, 4, 4)),
    ],
    ids=["Conv3d", "VideoMAE", "ViViT", "V-JEPA 2"],
)
def test_the_operations_show_a_volume(method, build, layer, inputs, shape):
    model = seeded(build)
    names = dict(model.named_modules())
    layer = layer if layer in names else layer.replace(".layers.", ".encoder.layer.")
    explainer = method(model, [layer] if method is CoIBA else layer)
    found = explainer.attribute(inputs(), target=1, **(FEW if method in (IBA, CoIBA) else {}))
    assert found.shape == (2, 1, *shape)
    assert bool((found.flatten(1).std(dim=1) > 0).all())
    alone = explainer.attribute(inputs()[1:], target=1, **(FEW if method in (IBA, CoIBA) else {}))
    torch.testing.assert_close(alone, found[1:], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("build", [videomae, vivit], ids=["VideoMAE", "ViViT"])
def test_a_change_in_one_tubelet_is_found_at_its_place(build):
    """Where the first block is entered, positions are what their own pixels made of them."""
    model, before = seeded(build), frames()[:1]
    after = before.clone()
    after[:, 2:, :, 8:16, 24:] += 1.0  # the second pair of frames, second row, last column
    embeddings = model.get_submodule(f"{model.base_model_prefix}.embeddings")
    (one, axes), (two, _) = (followed(model, embeddings, x) for x in (before, after))
    layout = TokenLayout.of_axes(axes)
    assert layout is not None and layout.grid == (2, 4, 4)
    moved = layout.attribution((two - one).abs())[0, 0]
    assert (moved > 1e-4).nonzero().tolist() == [[1, 1, 3]]


def test_nib_of_a_linear_volume_is_weight_times_value():
    torch.manual_seed(0)
    w = torch.randn(1, 6 * 10 * 12)
    model = nn.Sequential(nn.Conv3d(1, 2, 1), nn.Flatten(), nn.Linear(2 * 720, 1, bias=False))
    with torch.no_grad():
        model[2].weight.copy_(torch.cat([w, 2 * w], dim=1))
        z = model[0](voxels())
    found = NIB(model.eval(), "0").attribute(voxels(), target=0, attribute_to_layer_input=False)
    weights = w.view(1, 1, 6, 10, 12)
    expected = (z[:, :1] + 2 * z[:, 1:]) * weights
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


class Flat(nn.Module):
    """The slice of a volume of depth 1, as a picture."""

    def __init__(self, volume):
        super().__init__()
        first, second = volume[0], volume[2]
        self.net = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()
        )
        self.head = volume[-1]
        with torch.no_grad():
            for mine, theirs in ((self.net[0], first), (self.net[2], second)):
                mine.weight.copy_(theirs.weight.squeeze(2))
                mine.bias.copy_(theirs.bias)

    def forward(self, x):
        return self.head(self.net(x).mean(dim=(2, 3)))


@pytest.mark.parametrize("method", [IBA, CoIBA])
@pytest.mark.parametrize("smoothing", [None, 1.0])
def test_a_volume_of_one_slice_gives_the_map_of_the_picture(method, smoothing):
    torch.manual_seed(0)
    kernel = {"kernel_size": (1, 3, 3), "padding": (0, 1, 1)}
    volume = nn.Sequential(
        nn.Conv3d(1, 4, **kernel),
        nn.ReLU(),
        nn.Conv3d(4, 4, **kernel),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    ).eval()
    x, settings = torch.randn(2, 1, 8, 9), {**FEW, "smoothing": smoothing}
    of_picture = method(Flat(volume).eval(), ["net.2"] if method is CoIBA else "net.2").attribute(
        x, target=1, **settings
    )
    of_volume = method(volume, ["2"] if method is CoIBA else "2").attribute(
        x.unsqueeze(2), target=1, **settings
    )
    assert of_volume.shape == (2, 1, 1, 8, 9)
    torch.testing.assert_close(of_volume[:, :, 0], of_picture, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["ncdhw", "ndhwc", "tokens"])
def test_smoothing_is_one_matrix_along_each_side(kind):
    torch.manual_seed(0)
    values = torch.randn(2, 3, 4, 5, 6)
    sides = [gaussian_matrix(size, 1.0) for size in (4, 5, 6)]
    expected = torch.einsum("ncdhw,xd,yh,zw->ncxyz", values, *sides)
    layout = TokenLayout(kind, grid=(4, 5, 6) if kind == "tokens" else None)
    tokens = values.flatten(2).transpose(1, 2)
    R = layout.arrange(tokens, (4, 5, 6))
    found = layout.tokens(smoothing_over(layout, R, 1.0)(R))
    torch.testing.assert_close(found, expected.flatten(2).transpose(1, 2), rtol=1e-4, atol=1e-5)


def test_layers_of_several_resolutions_share_one_ratio():
    model = seeded(volumetric)
    found, trace = CoIBA(model, ["0", "4"]).attribute(voxels(), target=1, return_trace=True, **FEW)
    assert found.shape == (2, 1, 6, 10, 12)
    fine = torch.rand(6, 10, 12)
    pooled = torch.einsum(
        "dhw,xd,yh,zw->xyz", fine, *(area_matrix(a, b) for a, b in ((6, 3), (10, 5), (12, 6)))
    )
    expected = nn.functional.avg_pool3d(fine[None, None], 2)[0, 0]
    torch.testing.assert_close(pooled, expected)
    assert len(trace.loss) == FEW["n_steps"]


@pytest.mark.parametrize("method", [IBA, NIB, CoIBA])
def test_videos_of_torchvision_at_the_default_layers(method):
    model = seeded(lambda: torchvision.models.video.r3d_18(num_classes=4))
    video = torch.randn(1, 3, 8, 32, 32, generator=torch.Generator().manual_seed(0))
    found = method(model).attribute(video, target=1, **({} if method is NIB else FEW))
    assert found.ndim == 5 and found.shape[:2] == (1, 1)
    assert float(found.std()) > 0


def test_frames_folded_into_the_positions_are_asked_for():
    model = seeded(timesformer)
    with pytest.raises(ValueError, match=r"of a video TokenLayout\('tokens', grid=\(frames"):
        IBA(model).attribute(frames(), target=1, **FEW)
    layout = TokenLayout("tokens", prefix=1, grid=(4, 4, 4))
    assert IBA(model).attribute(frames(), target=1, layout=layout, **FEW).shape == (2, 1, 4, 4, 4)


def test_what_does_not_fit_is_said():
    with pytest.raises(ValueError, match=r"\(rows, columns\) or \(frames, rows, columns\)"):
        TokenLayout("tokens", grid=(2, 2, 2, 2))
    model = seeded(volumetric)
    with pytest.raises(ValueError, match=r"on axis 4, but .*samples, channels, depth, rows"):
        IBA(model, "4").attribute(voxels(), target=1, layout=TokenLayout("ndhwc"), **FEW)
    with pytest.raises(ValueError, match="share a damping ratio only where each has a grid"):
        CoIBA(model, ["4", "7"]).attribute(voxels(), target=1, **FEW)
