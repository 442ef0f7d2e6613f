"""Layouts: which position of a map belongs to which part of the input."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn

from captum_ib import IBA, NIB, TokenLayout
from captum_ib.axis import Axes
from captum_ib.hooks import AxisTracker, CompositeHook
from captum_ib.models.layers import blocks
from captum_ib.zoo import load
from tests.models.classifiers import IMAGE_CLASSIFIERS, TEXT_CLASSIFIERS
from tests.models.rows import Row, images


def activation_of(model: nn.Module, layer: nn.Module, inputs: Tensor) -> Tensor:
    found: list[Tensor] = []
    with torch.no_grad(), CompositeHook([layer], lambda _, value: found.append(value)):
        model(inputs)
    return found[0]


def followed(model: nn.Module, layer: nn.Module, inputs: Tensor) -> tuple[Tensor, Axes]:
    """A layer's activation, and what a pass shows of its axes."""
    found: list[Tensor] = []

    def keep(_: int, value: Tensor) -> Tensor:
        found.append(value.clone())
        return found[0]

    tracker = AxisTracker()
    with torch.no_grad(), CompositeHook([layer], keep), tracker:
        model(inputs)
    return found[0], tracker.settled(tracker.of(found[0]))


@pytest.mark.parametrize(
    "row",
    [row for row in IMAGE_CLASSIFIERS if "XCiT" not in row.name],  # its patches overlap
    ids=lambda row: f"{row.library}-{row.name}",
)
def test_a_change_in_the_image_is_found_at_its_place(row: Row) -> None:
    """Where a patch of the image changes, the map of the first block's change is largest."""
    if row.missing():
        pytest.skip(str(row.missing()))
    model, inputs = row.model(), row.inputs()
    name, layer = blocks(model)[0]
    before, axes = followed(model, layer, inputs)
    layout = TokenLayout.infer(model, layer, before, (inputs,), name, axes)
    rows, columns = layout.grid_of(before)
    if layout.kind == "nchw":  # cells overlap, and the axes are the tensor's own
        assert inputs.shape[2] * columns == inputs.shape[3] * rows
        return
    height, width = inputs.shape[2] // rows, inputs.shape[3] // columns
    # Not on the diagonal: rows and columns must not be confused.
    row_index, column_index = 1, columns - 1
    changed = inputs.clone()
    changed[
        :,
        :,
        row_index * height : (row_index + 1) * height,
        column_index * width : (column_index + 1) * width,
    ] += 5.0
    change = layout.attribution((activation_of(model, layer, changed) - before).abs())
    expected = row_index * columns + column_index
    assert change.flatten(1).argmax(dim=1).tolist() == [expected] * len(inputs)


@pytest.mark.parametrize("row", TEXT_CLASSIFIERS, ids=lambda row: row.name)
def test_padding_of_a_text_gets_nothing(row: Row) -> None:
    model, mask = row.forward(row.model()), row.additional()
    attribution = IBA(model).attribute(
        row.inputs(), target=1, additional_forward_args=mask, n_steps=2, n_samples=2, seed=0
    )
    assert (attribution[mask == 0] == 0).all()
    assert (attribution[mask == 1] > 0).all()


def test_one_sample_gives_what_it_gives_in_a_batch() -> None:
    row = IMAGE_CLASSIFIERS[0]
    model = row.model()
    method, batch = IBA(model), images(3)
    together = method.attribute(batch, target=1, n_steps=3, seed=1)
    alone = method.attribute(batch[2:], target=1, n_steps=3, seed=1)
    torch.testing.assert_close(alone, together[2:], rtol=1e-4, atol=1e-4)


def test_tokens_behind_the_patches_are_left_out() -> None:
    layout = TokenLayout("tokens", prefix=1, grid=(2, 3), suffix=2)
    values = torch.arange(9.0).view(1, 9, 1)
    assert layout.attribution(values).tolist() == [[[[1, 2, 3], [4, 5, 6]]]]
    with pytest.raises(ValueError, match="layer l has 8 tokens; the layout has 1 prefix tokens"):
        layout.check(torch.zeros(1, 8, 4), "l")


def test_a_folded_spectrogram_is_unfolded_to_time_and_frequency() -> None:
    """Two stretches of 3 points in time with 2 frequencies each: cell = 10 · time + frequency."""
    time, frequency = torch.meshgrid(torch.arange(6), torch.arange(2), indexing="ij")
    spectrogram = 10.0 * time + frequency
    folded = torch.cat([spectrogram[:3].T, spectrogram[3:].T]).view(1, 12, 1)
    layout = TokenLayout("tokens", grid=(4, 3), fold=2)
    torch.testing.assert_close(layout.attribution(folded), spectrogram[None, None])
    with pytest.raises(ValueError, match=r"the grid \(3, 4\) of layer l does not hold 2 stretches"):
        TokenLayout("tokens", grid=(3, 4), fold=2).check(torch.zeros(1, 12, 1), "l")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "grid"}, "unknown layout 'grid', expected one of tokens, sequence"),
        ({"kind": "tokens"}, r"layout 'tokens' needs grid=\(rows, columns\)"),
        ({"kind": "nchw", "prefix": 1}, "layout 'nchw' can't have 1 prefix tokens"),
        ({"kind": "nhwc", "suffix": 1}, "layout 'nhwc' can't have 1 suffix tokens"),
        ({"kind": "flat", "fold": 2}, "layout 'flat' can't hold 2 stretches of time"),
    ],
)
def test_layouts_that_can_not_be(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TokenLayout(**settings)


class Patches(nn.Module):
    """Patches of 8 pixels as tokens, and nothing that says so."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Unfold(8, stride=8)
        self.mix = nn.Linear(192, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.mix(self.embed(pixels).transpose(1, 2)).mean(dim=1))


def test_a_layout_that_can_not_be_told_says_what_to_pass() -> None:
    torch.manual_seed(0)
    model = Patches()
    with pytest.raises(ValueError, match=r"layer mix: .*: \?, \?, channels; pass layout=, for"):
        IBA(model, "mix").attribute(images(), target=0, n_steps=2, seed=0)
    given = TokenLayout("tokens", grid=(4, 6))
    result = IBA(model, "mix").attribute(images(), target=0, n_steps=2, seed=0, layout=given)
    assert result.shape == (2, 1, 4, 6)


def test_tokens_behind_a_batch_norm_are_followed() -> None:
    """LeViT's tokens pass a BatchNorm1d, flattened; its convolutional stem states no patch size."""
    model = timm.create_model("levit_128s", pretrained=False, num_classes=5).eval()
    result = NIB(model, "stages.0.blocks.1").attribute(images(1, 224, 224), target=1, n_steps=2)
    assert result.shape == (1, 1, 14, 14)


def kind_of(model: nn.Module, layer: nn.Module, inputs: Tensor) -> str:
    activation, axes = followed(model, layer, inputs)
    return TokenLayout.infer(model, layer, activation, (inputs,), "block", axes).kind


def test_channels_before_positions_are_told_by_the_operation() -> None:
    convolution, norm = nn.Conv1d(3, 8, 1), nn.BatchNorm1d(8).eval()
    assert kind_of(convolution, convolution, torch.zeros(2, 3, 5)) == "ncl"
    assert kind_of(norm, norm, torch.zeros(2, 8, 5)) == "ncl"
    linear = nn.Linear(8, 8)
    assert kind_of(linear, linear, torch.zeros(2, 5, 8)) == "sequence"


def test_equal_sides_do_not_hide_the_channels() -> None:
    """`(N, 8, 8, 8)`: only what is done with it tells where the channels are."""
    layer = nn.Identity()
    first = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), layer)
    assert kind_of(first, layer, torch.zeros(1, 3, 32, 32)) == "nchw"
    with pytest.raises(
        ValueError, match=r"can't tell .* block: .* show of its axes: \?, \?, \?, \?"
    ):
        kind_of(layer, layer, torch.zeros(1, 8, 8, 8))
    with pytest.raises(ValueError, match=r"show of its axes: \?, \?, \?, channels; pass layout="):
        kind_of(nn.Sequential(layer, nn.Linear(8, 8)), layer, torch.zeros(1, 8, 8, 8))


@pytest.mark.parametrize(
    ("name", "layer", "layout", "message"),
    [
        ("vit", "blocks.1", TokenLayout("tokens", prefix=1, grid=(4, 16)), r"grid=\(8, 8\)"),
        ("vit", "blocks.1", TokenLayout("ncl"), "channels of layer blocks.1 on axis 1, but .*show"),
        ("cnn", "0", TokenLayout("nhwc"), r"pass TokenLayout\(kind='nchw'"),
    ],
)
def test_a_layout_against_the_evidence_is_refused(name, layer, layout, message) -> None:
    vit = load("vit-scenes").model
    cnn = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)).eval()
    model = {"vit": vit, "cnn": cnn}[name]
    x = torch.rand(2, 3, 64, 64)
    model(x)
    with pytest.raises(ValueError, match=message):
        IBA(model, layer).attribute(x, target=0, layout=layout, n_steps=2)


def test_tokens_in_another_order_are_no_grid() -> None:
    hiera = timm.create_model("hiera_tiny_224", img_size=64, num_classes=3).eval()
    nn.init.normal_(hiera.head.fc.weight)
    x = torch.rand(1, 3, 64, 64)
    with pytest.raises(ValueError, match="row by row, but the operations around it show another"):
        NIB(hiera, "blocks.0").attribute(x, target=0, layout=TokenLayout("tokens", grid=(16, 16)))
    by_order = NIB(hiera, "blocks.0").attribute(x, target=0, layout=TokenLayout("sequence"))
    assert by_order.shape == (1, 256)
