"""Mistakes that would pass silently get a word, and what is right gets none."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from torch import nn

from captum_ib import (
    IBA,
    M2IB,
    NIB,
    RISE,
    AttentionRollout,
    CoIBA,
    DualEncoder,
    InputWarning,
    LayerGradCAM,
)
from captum_ib.forward.mistakes import padding_in
from captum_ib.zoo import load

FEW = {"n_steps": 1, "n_samples": 2}


class Small(nn.Module):
    """A classifier of pictures of 8 × 8 pixels, normalised as its configuration says."""

    pretrained_cfg: ClassVar = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}

    def __init__(self, dropout=0.0):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(4 * 6 * 6, 5)

    def forward(self, x):
        return self.head(self.drop(self.layer(x).relu()).flatten(1))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Small().eval()


def ramp():
    """A picture in [0, 1] whose neighbours are alike."""
    return torch.linspace(0, 1, 8).expand(1, 3, 8, 8).clone()


def explain(model, inputs, **options):
    return IBA(model, "layer").attribute(inputs, target=1, seed=0, **FEW, **options)


@pytest.mark.parametrize(("dropout", "warns"), [(0.2, True), (0.0, False)])
def test_a_model_in_training_mode(dropout, warns):
    torch.manual_seed(0)
    model, inputs = Small(dropout).train(), torch.randn(1, 3, 8, 8)
    if warns:
        with pytest.warns(InputWarning, match="training mode, in which its Dropout answers other"):
            found = explain(model, inputs)
    else:
        found = explain(model, inputs)
    assert torch.equal(found, explain(model.eval(), inputs))


def test_a_part_in_training_mode():
    model = Small(0.5).eval()
    model.drop.train()
    mend = r'model\.get_submodule\("drop"\)\.eval\(\)'
    with pytest.warns(InputWarning, match=f"the model's drop is in training mode.* call {mend} to"):
        explain(model, torch.rand(1, 3, 8, 8) - 0.5)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (
            ramp(),
            r"0 to 1 look like a picture before normalisation: .* mean \(0.5, .*, std \(0.25",
        ),
        (255 * ramp(), "from 0 to 255 look like bytes: divide by 255, then normalise"),
    ],
)
def test_pixels_that_are_not_normalised(model, pixels, message):
    with pytest.warns(InputWarning, match=message) as caught:
        explain(model, pixels)
    assert caught[0].filename == __file__


def test_pixels_that_are_right_or_of_which_nothing_is_known(model):
    explain(model, (ramp() - 0.5) / 0.25)
    explain(model, torch.rand(1, 3, 8, 8))  # noise is no picture
    explain(model, torch.full((1, 3, 8, 8), 0.5))
    plain = nn.Sequential(*model.children())[:1].append(nn.Flatten()).append(model.head)
    IBA(plain, "0").attribute(255 * ramp(), target=1, **FEW)


def test_pictures_of_another_size():
    vit = load("vit-scenes").model
    with pytest.raises(ValueError, match="takes pictures of 64 × 64, given 32 × 32: resize them"):
        CoIBA(vit).attribute(torch.rand(1, 3, 32, 32), target=1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((1, 3, 8, 8)), "given ndarray at position 0; pass torch.from_numpy"),
        (Image.new("RGB", (8, 8)), r"given Image at position 0; pass .*captum_ib\.explain\(model"),
        ([torch.zeros(1, 3, 8, 8)], "given list at position 0; pass a tuple for several inputs"),
        (
            {"pixel_values": torch.zeros(1, 3, 8, 8)},
            r'given dict at position 0; pass its entries: inputs=batch\["pixel_values"\]',
        ),
        ("a cat", "given str at position 0; pass the tokenizer's ids"),
    ],
)
def test_things_that_are_no_tensors(model, given, message):
    with pytest.raises(TypeError, match=message):
        explain(model, given)


def test_a_mask_by_its_name(model):
    with pytest.raises(TypeError, match="pass the mask as additional_forward_args=attention_mask"):
        explain(model, torch.rand(1, 3, 8, 8), attention_mask=torch.ones(1, 4))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda m, x: IBA(m, "layer").attribute(x, steps=3),
            r"IBA\.attribute .* steps; did you mean n_st",
        ),
        (lambda m, x: RISE(m).attribute(x, n_mask=3), "no argument n_mask; did you mean n_masks"),
        (lambda m, x: IBA(m, "layer", beta=3), r"IBA: beta is an argument of attribute\(\)"),
        (lambda m, x: IBA(m, "layer", bta=3), "IBA has no argument bta; it has forward_func, la"),
        (lambda m, x: IBA(m, 2), r"layers must be a module, its dotted name.*'auto'\], given int"),
    ],
)
def test_names_that_are_almost_right(model, call, message):
    with pytest.raises(TypeError, match=message):
        call(model, torch.rand(1, 3, 8, 8))


def test_a_choice_of_layers_that_is_almost_right():
    with pytest.raises(ValueError, match="no layer 'papers'; nearest names: paper"):
        CoIBA(load("vit-scenes").model, "papers")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (torch.zeros(2, 8, 8, 3), r"channels on axis 1.*inputs\.permute\(0, 3, 1, 2\)"),
        (torch.zeros(3, 8, 8), r"samples on axis 0.*pass inputs\[None\]"),
        (torch.zeros(2, 1, 8, 8), r"a grey picture: pass inputs\.expand\(-1, 3, -1, -1\)"),
        (torch.zeros(2, 5, 8, 8), r"takes 3 channels, \(N, channels, height, width\), given"),
    ],
)
def test_pictures_with_other_axes(model, inputs, message):
    with pytest.raises((ValueError, RuntimeError), match=message):
        explain(model, inputs)


class Rounded(nn.Module):
    """Its output is a step function of the layer."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 64, 5)

    def forward(self, x):
        return self.head(self.layer(x).round(decimals=1).flatten(1))


class NoHead(Rounded):
    """Its output does not depend on the layer."""

    def forward(self, x):
        return self.head(self.layer(x).flatten(1) * 0)


@pytest.mark.parametrize("method", [LayerGradCAM, NIB])
@pytest.mark.parametrize("kind", [Rounded, NoHead])
def test_a_map_of_zeros_has_a_warning(kind, method):
    torch.manual_seed(0)
    model, inputs = kind().eval(), torch.rand(2, 3, 8, 8)
    with pytest.warns(InputWarning, match="the map is 0 everywhere, for every sample"):
        found = method(model, "layer").attribute(inputs, target=1)
    assert not found.any()


@pytest.mark.parametrize("rectified", [(True,), {"relu_attributions": True}])
def test_where_nothing_is_positive_a_map_of_zeros_has_none(rectified):
    torch.manual_seed(0)
    model, inputs = NoHead().eval(), torch.rand(2, 3, 8, 8)
    method = LayerGradCAM(model, "layer")
    if isinstance(rectified, tuple):
        found = method.attribute(inputs, 1, None, False, *rectified)
    else:
        found = method.attribute(inputs, target=1, **rectified)
    assert not found.any()


def test_a_name_that_is_short_is_not_guessed(model):
    method = RISE(model)
    with pytest.raises(TypeError, match=r"argument steps; it has inputs, baselines"):
        method.attribute(torch.rand(1, 3, 8, 8), target=1, steps=4)


def test_a_single_number_is_no_output(model):
    with pytest.raises(TypeError, match=r'tensor\(s\) \["loss"\] \(\): a single number, as a loss'):
        IBA(lambda x: {"loss": model(x).mean()}, model.layer).attribute(torch.rand(2, 3, 8, 8))


def test_an_argument_that_is_missing():
    class Two(Small):
        def forward(self, x, mask):
            return super().forward(x) * mask

    with pytest.raises(TypeError, match="'mask'; what .* behind the inputs goes into additional_f"):
        explain(Two().eval(), torch.randn(1, 3, 8, 8))


@pytest.fixture(scope="module")
def clip():
    return load("clip-scenes")


def test_a_forgotten_mask():
    torch.manual_seed(0)
    parts = {"num_hidden_layers": 1, "hidden_size": 8, "intermediate_size": 8}
    parts |= {"num_attention_heads": 1}
    config = transformers.ChineseCLIPConfig(
        text_config={**parts, "vocab_size": 9, "max_position_embeddings": 8},
        vision_config={**parts, "image_size": 8, "patch_size": 4},
        projection_dim=8,
    )
    model = transformers.ChineseCLIPModel(config).eval()
    method = M2IB(
        DualEncoder.from_model(model),
        ("vision_model.encoder.layers.0", "text_model.encoder.layer.0"),
    )
    ids, pixels = torch.tensor([[1, 3, 2, 0], [1, 3, 4, 2]]), torch.randn(2, 3, 8, 8)
    with pytest.warns(InputWarning, match="the text's ids hold padding, and no mask says so"):
        method.attribute((pixels, ids), **FEW)
    method.attribute((pixels, ids), additional_forward_args=(ids > 0).long(), **FEW)
    method.attribute((pixels[1:], ids[1:]), **FEW)  # nothing is padded


def test_padding_that_the_model_does_not_read(clip):
    ids, mask = clip.tokenizer(["a red circle", "a red circle next to a blue square"])
    method = M2IB(DualEncoder.from_model(clip.model))
    pixels = torch.randn(2, 3, *clip.image_size)
    without = method.attribute((pixels, ids), **FEW)  # no warning: a CLIP ends at its end token
    masked = method.attribute((pixels, ids), additional_forward_args=mask, **FEW)
    torch.testing.assert_close(without, masked, rtol=1e-5, atol=1e-6)
    with pytest.raises(TypeError, match=r'of tensors, given dict; pass its entries: .*"input_ids"'):
        method.attribute({"input_ids": ids})


@pytest.mark.parametrize(
    ("config", "ids", "expected"),
    [
        ({"pad_token_id": 0, "eos_token_id": 2}, [[1, 3, 2, 0]], True),
        ({"pad_token_id": 0, "eos_token_id": 2}, [[0, 1, 3, 2]], True),
        ({"pad_token_id": 0, "eos_token_id": 2}, [[1, 0, 3, 2]], False),
        ({"pad_token_id": 2, "eos_token_id": 2}, [[1, 3, 4, 2]], False),
        ({"pad_token_id": 2, "eos_token_id": 2}, [[1, 3, 2, 2]], True),
        ({}, [[1, 0, 0, 0]], False),
    ],
)
def test_what_is_padding(config, ids, expected):
    model = nn.Module()
    model.config = type("Config", (), config)()
    assert padding_in(torch.tensor(ids), model) is expected
    assert padding_in(torch.tensor(ids), model, torch.zeros(1, 4, dtype=torch.bool)) is False


def test_layer_and_layers_are_one_argument():
    vit = load("vit-scenes").model
    names = ["blocks.1", "blocks.2"]
    assert [name for name, _ in CoIBA(vit, layer=names).layers] == names
    assert IBA(vit, layers="blocks.1").layers[0][0] == "blocks.1"
    assert LayerGradCAM(vit, layers="blocks.1").layers[0][0] == "blocks.1"
    for given in ({"layer": "blocks.1", "layers": "blocks.2"}, {"layer": "x", "layers": "y"}):
        with pytest.raises(TypeError, match="layer and layers are the same argument; pass one"):
            CoIBA(vit, **given)
    with pytest.raises(TypeError, match="IBA: layer and layers are the same argument"):
        IBA(vit, "blocks.1", layers="blocks.2")
    with pytest.raises(TypeError, match="CoIBA has no argument blocks; it has forward_func, l"):
        CoIBA(vit, blocks="blocks.1")
    with pytest.raises(TypeError, match="AttentionRollout has no argument layer; it has forward_"):
        AttentionRollout(vit, layer="blocks.1")
