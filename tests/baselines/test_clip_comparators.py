"""Grad-ECLIP, MaskCLIP, LeGrad, CLIP Surgery and TokenTM against outputs of original code."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from captum_ib.baselines import CLIPSurgery, GradECLIP, LeGrad, MaskCLIP, TokenTM
from captum_ib.loading.load import load
from captum_ib.models.dual_encoder import DualEncoder, ZeroShotClassifier


def gap(found, expected, wanted=None):
    """Largest difference over the key's largest value; of the positions wanted."""
    found, expected = found.flatten(1), expected.flatten(1)
    wanted = torch.ones_like(expected, dtype=torch.bool) if wanted is None else wanted
    assert found.shape == expected.shape
    return ((found - expected) * wanted).abs().max() / expected.abs().max()


@pytest.fixture(scope="module")
def clip(conformance):
    model = load(str(conformance / "clip"), mean=[0.5] * 3, std=[0.5] * 3).model
    data = load_file(conformance / "clip_pairs.safetensors")
    expected = load_file(conformance / "clip_comparators.safetensors")
    return DualEncoder.from_model(model), data, expected


@pytest.fixture(scope="module")
def vit(conformance):
    model = load(str(conformance / "vit")).model
    data = load_file(conformance / "vit_images.safetensors")
    return model, data, load_file(conformance / "vit_comparators.safetensors")


def explained(clip, method, mask=None, **settings):
    dual, data, _ = clip
    return method(dual).attribute(
        (data["pixel_values"], data["input_ids"]),
        additional_forward_args=data["attention_mask"] if mask is None else mask,
        **settings,
    )


IMAGE = {
    "signed": {},
    "": {"relu_attributions": True},
    "last3": {"relu_attributions": True, "start_layer": -3},
    "projqk": {"relu_attributions": True, "similarity": "projected"},
    "wosim": {"relu_attributions": True, "similarity": "none"},
    "heads1": {"relu_attributions": True, "joined_heads": True},
    "projqk_heads1": {"relu_attributions": True, "joined_heads": True, "similarity": "projected"},
    "wosim_heads1": {"relu_attributions": True, "joined_heads": True, "similarity": "none"},
    "heads1_signed": {"joined_heads": True},
}


@pytest.mark.parametrize("key", IMAGE)
def test_authors_output_of_grad_eclip_on_images(clip, key):
    image, _ = explained(clip, GradECLIP, **IMAGE[key])
    expected = clip[2][f"gradeclip_image_{key}".rstrip("_")]
    assert image.shape == (8, 1, 7, 7)
    assert gap(image, expected) < 1e-5


TEXT = {
    "nopad_signed": {},
    "signed": {"padded": True},
    "": {"padded": True, "relu_attributions": True},
    "last4": {"padded": True, "relu_attributions": True, "start_layer": -4},
    "nopad": {"relu_attributions": True},
    "last4_nopad": {"relu_attributions": True, "start_layer": -4},
    "heads1": {"padded": True, "relu_attributions": True, "joined_heads": True},
    "last4_heads1": {
        "padded": True, "relu_attributions": True, "joined_heads": True, "start_layer": -4,
    },
}  # fmt: skip


@pytest.mark.parametrize("key", TEXT)
def test_authors_output_of_grad_eclip_on_texts(clip, key):
    """Begin and end token are dropped by the authors, who scale the similarity over padding too:
    a mask of ones says the same. Between images and texts nothing else differs."""
    settings = dict(TEXT[key])
    mask = clip[1]["attention_mask"].clone()
    words = mask.bool().clone()
    words[:, 0] = False
    words[torch.arange(8), mask.sum(dim=1) - 1] = False
    mask = torch.ones_like(mask) if settings.pop("padded", False) else mask
    _, text = explained(clip, GradECLIP, mask, **settings)
    assert gap(text, clip[2][f"gradeclip_text_{key}".rstrip("_")], words) < 1e-5


def test_authors_output_of_mask_clip(clip):
    image, text = explained(clip, MaskCLIP, key_similarity=True)
    assert gap(image, clip[2]["maskclip_image"]) < 1e-5
    assert text.shape == clip[1]["input_ids"].shape


@pytest.mark.parametrize(("key", "start_layer", "layers"), [("last2", -2, 2), ("all", 0, 8)])
def test_authors_output_of_legrad(clip, key, start_layer, layers):
    """Their layers are summed."""
    image, _ = explained(clip, LeGrad, start_layer=start_layer, pooling="mean")
    assert gap(layers * image, clip[2][f"legrad_image_{key}"]) < 1e-5


def test_authors_output_of_clip_surgery(clip):
    data, expected = clip[1:]
    image, _ = explained(clip, CLIPSurgery)
    assert gap(image, expected["clipsurgery_image"]) < 1e-5
    ids = data["input_ids"]
    end = int(ids[0, int(data["attention_mask"][0].sum()) - 1])
    empty = torch.zeros(1, ids.shape[1], dtype=ids.dtype)
    empty[0, :2] = torch.tensor([int(ids[0, 0]), end])
    image, _ = explained(clip, CLIPSurgery, redundant=empty)
    assert gap(image, expected["clipsurgery_image_redundant"]) < 1e-5


def test_authors_output_of_legrad_on_the_vit(vit):
    model, data, expected = vit
    for key, start_layer in (("last4", -4), ("all", 0)):
        found = LeGrad(model).attribute(
            data["pixel_values"], target=data["target"], start_layer=start_layer, pooling="mean"
        )
        assert gap(found, expected[f"legrad_torchcam_{key}"]) < 1e-5


@pytest.mark.parametrize("key", ["", "_softmax"])
def test_output_of_token_tm(vit, key):
    model, data, expected = vit
    forward = torch.nn.Sequential(model, torch.nn.Softmax(dim=-1)) if key else model
    found = TokenTM(forward).attribute(data["pixel_values"], target=data["target"])
    assert gap(found, expected[f"tokentm_reimpl{key}"][:, 1:]) < 1e-5


def test_authors_output_of_feature_surgery(clip):
    """Among seven texts "a photo of a S"; words are numbered as in ``clip/words.json``."""
    dual, data, expected = clip
    shapes = torch.arange(22, 29)  # circle … diamond
    ids = torch.zeros(7, 16, dtype=torch.long)
    ids[:, :7] = torch.tensor([29, 1, 2, 3, 1, 0, 30])
    ids[:, 5] = shapes
    model = ZeroShotClassifier(dual, ids)
    for index in range(7):
        found = CLIPSurgery(model).attribute(data["pixel_values"], target=index)
        assert gap(found, expected["clipsurgery_image_shapes"][:, index]) < 1e-5


def test_the_rectifier_empties_maps_that_say_something(clip):
    """The reason for the signed default: of pair 1 nothing is left."""
    rectified, _ = explained(clip, GradECLIP, relu_attributions=True)
    signed, _ = explained(clip, GradECLIP)
    assert rectified[1].abs().max() == 0 and signed[1].abs().max() > 0.001
