"""Axes are followed by what operations do, never by which sizes agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captum_ib import IBA, NIB, GenericAttention, TokenLayout
from captum_ib.axis import Axes, Axis
from captum_ib.baselines import AttentionGradCAM
from captum_ib.hooks import AxisTracker
from captum_ib.hooks.regroup import OTHER, C, H, N, P, W, regrouped
from tests.hooks.axis_scan import (
    CANDIDATES,
    PLACES,
    Candidate,
    Counts,
    changed,
    nearest,
    other_sizes,
    scanned,
    values_of,
    wrong,
)

GRID = Axis("positions", (4, 6))
CLASS_TOKEN = Axis("positions", (4, 6), prefix=1)


def picture() -> Tensor:
    """``(2, 5, 4, 6)``, what a convolution gives."""
    return F.conv2d(torch.ones(2, 3, 4, 6), torch.ones(5, 3, 1, 1))


def tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


def with_class_token(x: Tensor) -> Tensor:
    return torch.cat([torch.zeros(1, 1, 5).expand(len(x), -1, -1), tokens(x)], dim=1)


def joined_heads(x: Tensor, attend: Callable[..., Tensor]) -> Tensor:
    """Self-attention with one head of 5."""
    q, k, v = (x.unflatten(2, (1, 5)).transpose(1, 2) for _ in range(3))
    return attend(q, k, v).transpose(1, 2).reshape(x.shape)


def openly(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.transpose(-2, -1)).softmax(dim=-1) @ v


def windows(x: Tensor) -> Tensor:
    """Windows of 2×3 of ``(N, 4, 6, C)``."""
    return x.view(2, 2, 2, 2, 3, 5).permute(0, 1, 3, 2, 4, 5).reshape(8, 2, 3, 5)


def unwindowed(x: Tensor) -> Tensor:
    return x.view(2, 2, 2, 2, 3, 5).permute(0, 1, 3, 2, 4, 5).reshape(2, 4, 6, 5)


RULES: dict[str, tuple[Callable[[Tensor], Tensor], Axes]] = {
    "convolution": (lambda x: x, (N, C, H, W)),
    "stride": (lambda x: F.conv2d(x, torch.ones(2, 5, 2, 2), stride=2), (N, C, H, W)),
    "channels last": (lambda x: x.permute(0, 2, 3, 1), (N, H, W, C)),
    "channels_last memory": (lambda x: x.contiguous(memory_format=torch.channels_last).relu(),
                             (N, C, H, W)),
    "moved": (lambda x: x.movedim(1, -1), (N, H, W, C)),
    "turned": (lambda x: x.mT, (N, C, W, H)),
    "in place": (lambda x: x.add_(1).relu_(), (N, C, H, W)),
    "turned in place": (lambda x: x[:, :4, :, :4].transpose_(1, 3), (OTHER,) * 4),
    "tokens": (tokens, (N, GRID, C)),
    "columns first": (lambda x: x.transpose(2, 3).flatten(2),
                      (N, C, Axis("joined", parts=((W, 6), (H, 4))))),
    "tokens to a picture": (lambda x: tokens(x).view(2, 4, 6, 5), (N, H, W, C)),
    "class token": (with_class_token, (N, CLASS_TOKEN, C)),
    "class token behind": (lambda x: torch.cat([tokens(x), torch.zeros(2, 1, 5)], 1),
                           (N, Axis("positions", (4, 6), suffix=1), C)),
    "learned positions": (lambda x: tokens(x) + F.embedding(torch.arange(24)[None],
                                                            torch.ones(24, 5)), (N, GRID, C)),
    "registers after the class token": (
        lambda x: torch.cat([with_class_token(x)[:, :1], torch.zeros(2, 3, 5),
                             with_class_token(x)[:, 1:]], dim=1),
        (N, Axis("positions", (4, 6), prefix=4), C)),
    "class token taken off": (lambda x: with_class_token(x)[:, 1:], (N, GRID, C)),
    "class token split off": (lambda x: with_class_token(x).split([1, 24], dim=1)[1], (N, GRID, C)),
    "class token read": (lambda x: with_class_token(x)[:, 0], (N, C)),
    "a part of the patches": (lambda x: tokens(x)[:, 3:], (N, OTHER, C)),
    "two pictures behind each other": (lambda x: torch.cat([tokens(x), tokens(x)], 1),
                                       (N, OTHER, C)),
    "two pictures below each other": (lambda x: torch.cat([x, x], 2), (N, C, OTHER, W)),
    "channels beside each other": (lambda x: torch.cat([x, x], 1), (N, C, H, W)),
    "chunk of channels": (lambda x: x.chunk(5, dim=1)[2], (N, C, H, W)),
    "shuffled channels": (lambda x: torch.cat([x, x], 1).view(2, 2, 5, 4, 6).transpose(1, 2)
                          .reshape(2, 10, 4, 6), (N, C, H, W)),
    "linear": (lambda x: F.linear(tokens(x), torch.ones(7, 5)), (N, GRID, C)),
    "product with weights": (lambda x: tokens(x) @ nn.Parameter(torch.ones(5, 7)), (N, GRID, C)),
    "product with weights and a bias": (
        lambda x: torch.addmm(
            torch.ones(7), tokens(x).reshape(48, 5), nn.Parameter(torch.ones(5, 7))
        ).view(2, 24, 7), (N, GRID, C)),
    "mixed tokens": (lambda x: F.linear(x.flatten(2), torch.ones(24, 24)).transpose(1, 2),
                     (N, OTHER, C)),
    "mixed tokens, added": (
        lambda x: tokens(x) + F.linear(x.flatten(2), torch.ones(24, 24)).transpose(1, 2),
        (N, GRID, C)),
    "conv1d over tokens as channels": (lambda x: F.conv1d(tokens(x), torch.ones(24, 24, 1)),
                                       (N, OTHER, C)),
    "conv2d over tokens": (
        lambda x: F.conv2d(x.flatten(2).unsqueeze(3), torch.ones(5, 5, 1, 1)).squeeze(3),
        (N, C, GRID)),
    "layer norm over the columns": (lambda x: F.layer_norm(x, (6,)), (N, C, H, W)),
    "layer norm over all": (lambda x: F.layer_norm(x, (5, 4, 6)), (N, C, H, W)),
    "fused attention": (lambda x: joined_heads(with_class_token(x), F.scaled_dot_product_attention),
                        (N, CLASS_TOKEN, C)),
    "open attention": (lambda x: joined_heads(with_class_token(x), openly), (N, CLASS_TOKEN, C)),
    "as many queries as patches": (
        lambda x: F.scaled_dot_product_attention(torch.ones(2, 24, 5), tokens(x), tokens(x)),
        (N, None, C)),
    "einsum": (lambda x: torch.einsum("nchw,dc->nhwd", x, torch.ones(5, 5)), (N, H, W, None)),
    "sum over channels, kept": (lambda x: x.sum(1, keepdim=True), (N, None, H, W)),
    "mean over positions": (lambda x: x.mean((2, 3)), (N, C)),
    "norm by its order": (lambda x: x.norm(2, 1), (OTHER,) * 3),
    "gate": (lambda x: x * x.mean((2, 3), keepdim=True), (N, C, H, W)),
    "as another": (lambda x: torch.ones(2, 4, 5, 6).type_as(x), (None,) * 4),
    "sum with its transpose": (lambda x: x[:, :4, :, :4] + x[:, :4, :, :4].transpose(1, 2),
                               (N, OTHER, OTHER, W)),
    "rolled": (lambda x: x.roll((1, 1), dims=(2, 3)), (N, C, OTHER, OTHER)),
    "flipped": (lambda x: tokens(x).flip(1), (N, OTHER, C)),
    "picked": (lambda x: tokens(x)[:, torch.randperm(24)], (OTHER,) * 3),
    "repeated": (lambda x: tokens(x).repeat(1, 2, 1), (N, OTHER, C)),
    "resized": (lambda x: F.interpolate(x, scale_factor=2), (N, C, H, W)),
    "resized tokens": (lambda x: F.interpolate(x.flatten(2), size=48), (N, C, OTHER)),
    "padded": (lambda x: F.pad(x, (1, 1, 1, 1)), (N, C, H, W)),
    "moved by padding": (lambda x: F.pad(x, (1, -1)), (N, C, H, OTHER)),
    "a token put in front by padding": (lambda x: F.pad(tokens(x), (0, 0, 1, 0)),
                                        (N, CLASS_TOKEN, C)),
    "windows and back": (lambda x: unwindowed(windows(x.permute(0, 2, 3, 1))), (N, H, W, C)),
    "flattened for a normalisation": (lambda x: F.batch_norm(
        tokens(x).flatten(0, 1), torch.zeros(5), torch.ones(5)).view(2, 24, 5), (N, GRID, C)),
    "patches merged": (lambda x: x.permute(0, 2, 3, 1).reshape(2, 2, 2, 3, 2, 5)
                       .permute(0, 1, 3, 4, 2, 5).flatten(3), (N, H, W, C)),
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
def test_axes_after(rule: str) -> None:
    function, expected = RULES[rule]
    with AxisTracker() as tracker:
        result = function(picture())
    assert tracker.of(result) == expected


def test_axes_of_a_text_and_a_series() -> None:
    with AxisTracker() as tracker:
        words = F.embedding(torch.tensor([[1, 2, 0]]), torch.ones(4, 5))
        first = words.permute(1, 0, 2)
        series = F.conv1d(torch.ones(2, 3, 8), torch.ones(4, 3, 1)).relu()
        recurrent = nn.GRU(5, 7, batch_first=True)(words)[0]
    assert tracker.of(words) == (N, P, C)
    assert tracker.of(first) == (P, N, C)
    assert tracker.of(series) == (N, C, P)
    assert tracker.of(recurrent) == (N, P, C)


def test_blocks_of_an_image_are_no_layout() -> None:
    """NesT's blocks ``(N, blocks, positions, C)``, and windows put in the place of samples."""
    with AxisTracker() as tracker:
        x = picture().permute(0, 2, 3, 1)
        blocks = x.reshape(2, 2, 2, 2, 3, 5).transpose(2, 3).reshape(2, 4, 6, 5)
        in_windows = windows(x)
    assert TokenLayout.of_axes(tracker.of(blocks)) is None
    assert TokenLayout.of_axes(tracker.of(in_windows)) is None


def test_channels_before_the_patches_of_an_image_are_no_series() -> None:
    """A map ``(N, T)`` of an image would have lost its grid."""
    assert TokenLayout.of_axes((N, C, GRID)) is None
    assert TokenLayout.of_axes((N, C, P)) == TokenLayout("ncl")


def test_a_sequence_in_front_is_no_batch_of_samples() -> None:
    """``(T, N, C)`` with T = N: sizes could not tell."""
    assert TokenLayout.of_axes((P, N, C)) is None
    assert TokenLayout.of_axes((N, P, C)) == TokenLayout("sequence")


def test_what_comes_later_is_followed_back() -> None:
    """The output itself was unknown; the sum behind a linear map shows where its tokens are."""
    with AxisTracker() as tracker:
        patches = tokens(picture())
        layer = torch.ones(2, 24, 5)
        F.linear(layer.relu(), torch.ones(5, 5)) + patches  # pyright: ignore
    assert tracker.of(layer) == (N, GRID, C)


def test_a_convolution_behind_tells_the_channels() -> None:
    with AxisTracker() as tracker:
        layer = torch.ones(2, 4, 6, 5)
        F.conv2d(layer.permute(0, 3, 1, 2).relu(), torch.ones(1, 5, 1, 1))
    assert tracker.of(layer) == (N, H, W, C)


def test_as_many_tokens_as_patches_are_not_the_patches() -> None:
    """Unknown tokens beside a grid of that size stay unknown; in a text they are a sequence."""
    with AxisTracker() as tracker:
        tokens(picture())
        queries = F.linear(torch.ones(2, 24, 5), torch.ones(5, 5))
    assert tracker.settled(tracker.of(queries)) == (None, OTHER, C)
    with AxisTracker() as text:
        queries = F.linear(torch.ones(2, 24, 5), torch.ones(5, 5))
    assert text.settled(text.of(queries)) == (None, None, C)


@pytest.mark.filterwarnings("ignore:.*jit.* is deprecated")
def test_nothing_is_known_of_a_scripted_model() -> None:
    scripted = torch.jit.script(nn.Sequential(nn.Conv2d(3, 5, 1), nn.ReLU()))
    with AxisTracker() as tracker:
        result = scripted(torch.ones(2, 3, 4, 6))
    assert tracker.of(result) == (None,) * 4


def test_reshapes_that_cut_through_axes_are_no_layout() -> None:
    with pytest.raises(ValueError, match="the new axes cut through the old ones"):
        regrouped((N, C, P), (2, 6, 4), (2, 4, 6))
    assert regrouped((N, H, W, C), (1, 4, 6, 5), (4, 6, 5)) == (H, W, C)
    assert regrouped((H, W, C), (4, 6, 5), (1, 24, 1, 5)) == (None, GRID, None, C)


FAST = {"n_steps": 2, "n_samples": 2, "seed": 0}


@pytest.mark.parametrize(
    ("kind", "name", "size", "expected"),
    [
        (IBA, "tv:resnet18 maxpool", (256, 192), (64, 48)),
        (NIB, "tv:resnet18 conv1", (64, 64), (64, 64)),
        (IBA, "tv:densenet121 features.denseblock1", (128, 128), (32, 32)),
        (NIB, "regnety_002 s2.b1", (224, 224), (56, 56)),
    ],
)
def test_channels_as_many_as_rows(
    kind: type, name: str, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    """64 channels beside 64 rows, 56 beside 56: maps have rows and columns all the same."""
    model, layer = name.split()
    settings = FAST if kind is IBA else {"n_steps": 2}
    method = kind(Candidate(model).model(), layer)
    result = method.attribute(torch.rand(1, 3, *size), target=1, **settings)
    assert result.shape == (1, 1, *expected)


@pytest.mark.parametrize(("kind", "layer", "expected"), [(IBA, "1", 40), (NIB, "3", 20)])
def test_a_series_has_a_value_per_point_in_time(kind: type, layer: str, expected: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv1d(2, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(6, 8, 3, padding=1),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )
    settings = FAST if kind is IBA else {"n_steps": 2}
    result = kind(model, layer).attribute(torch.rand(1, 2, 40), target=1, **settings)
    assert result.shape == (1, expected)


class OfBytes(nn.Module):
    """A ViT that takes pictures as bytes."""

    def __init__(self) -> None:
        super().__init__()
        import timm

        settings = {"img_size": (32, 48), "patch_size": 8, "embed_dim": 16, "num_heads": 2}
        self.vit = timm.create_model("vit_tiny_patch16_224", depth=2, num_classes=5, **settings)

    def forward(self, x: Tensor) -> Tensor:
        return self.vit(x.float() / 255)


@pytest.mark.parametrize("kind", [IBA, GenericAttention, AttentionGradCAM])
def test_pictures_of_bytes_have_a_grid(kind: type) -> None:
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (1, 3, 32, 48), dtype=torch.uint8)
    settings = FAST if kind is IBA else {}
    result = kind(OfBytes().eval()).attribute(pixels, target=1, **settings)
    assert result.shape == (1, 1, 4, 6)


QUICK = (
    "resnet18",
    "regnety_002",
    "mobilenetv3_small_050",
    "vit_tiny_patch16_224",
    "mixer_s32_224",
)


@pytest.mark.parametrize("candidate", CANDIDATES, ids=lambda candidate: candidate.name)
@pytest.mark.slow
def test_no_layer_has_a_wrong_axis(candidate: Candidate) -> None:
    counts = scanned(candidate)
    assert counts.wrong == []
    assert counts.right + counts.asked > 0  # TNT, which unfolds the image, is asked for


@pytest.mark.parametrize("name", QUICK)
def test_no_layer_of_some_models_has_a_wrong_axis(name: str) -> None:
    (candidate,) = (one for one in CANDIDATES if one.name == name)
    counts: Counts = scanned(replace(candidate, sizes=candidate.sizes[:2]))
    assert counts.wrong == []
    assert counts.right > 100


def test_the_scan_sees_a_wrong_layout() -> None:
    model, pixels = Candidate("resnet18").model(), torch.rand(1, 3, 96, 160)
    before = values_of(model, pixels)[0]["layer1"]
    after = [values_of(model, changed(pixels, place))[0]["layer1"] for place in PLACES]
    others = [values["layer1"] for values in other_sizes(model, (96, 160))]
    assert wrong(TokenLayout("nchw"), before, after, others) is None
    assert "nhwc, but" in str(wrong(TokenLayout("nhwc"), before, after, others))
    assert "of 3 places" in str(wrong(TokenLayout("nhwc"), before, after, []))
    turned = [one.transpose(2, 3) for one in after]
    assert "of 3 places" in str(wrong(TokenLayout("nchw"), before.transpose(2, 3), turned, []))
    assert wrong(TokenLayout("ncl"), before, after, others) == "ncl of an image"


def test_attention_at_its_own_place_sees_the_nearest_key() -> None:
    assert torch.equal(nearest(3, 3), torch.eye(3))
    assert nearest(4, 16).argmax(dim=1).tolist() == [0, 2, 8, 10]
    assert torch.equal(nearest(2, 3), torch.full((2, 3), 1 / 3))
