"""NIB and M2IB on the conformance models, against what the original authors' code gave."""

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import interpolate
from transformers import CLIPModel

from captum_ib import zoo
from captum_ib.attr import M2IB, NIB
from captum_ib.models.dual_encoder import DualEncoder


@pytest.fixture(scope="module")
def clip(conformance):
    return DualEncoder.from_model(CLIPModel.from_pretrained(conformance / "clip").eval())


@pytest.fixture(scope="module")
def pairs(conformance):
    return load_file(conformance / "clip_pairs.safetensors")


def inputs(pairs):
    return (pairs["pixel_values"], pairs["input_ids"]), pairs["attention_mask"]


def min_max(values):
    """To [0, 1] per sample, as the authors do."""
    flat = values.flatten(1)
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    return ((flat - low) / (high - low)).reshape(values.shape)


def authors_image(attribution):
    """Grid → 224 × 224, bilinear, to [0, 1]."""
    return min_max(interpolate(attribution, (224, 224), mode="bilinear", align_corners=False)[:, 0])


def captions(pairs, attribution):
    """Found and the authors' values of each caption's own tokens."""
    for index, mask in enumerate(pairs["attention_mask"].bool()):
        yield index, attribution[index, mask]


def pearson(one, other):
    return torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1].item()


def test_cosine(clip, pairs):
    pair, mask = inputs(pairs)
    assert (clip(*pair, mask) - pairs["cosine"]).abs().max() < 1e-6


def test_nib_equals_the_authors_output(clip, pairs):
    pair, mask = inputs(pairs)
    image, text = NIB(clip).attribute(pair, additional_forward_args=mask)
    assert (authors_image(image) - pairs["nib_image"]).abs().max() < 1e-3
    for index, values in captions(pairs, text):
        expected = pairs["nib_text"][index, : len(values)]
        assert (min_max(values[None])[0] - expected).abs().max() < 1e-3
    assert text[~mask.bool()].eq(0).all()


@pytest.mark.parametrize(
    "settings", [{}, {"n_samples": 10, "antithetic": False}], ids=["our defaults", "the authors'"]
)
def test_m2ib_correlates_with_the_authors_output(clip, pairs, settings):
    pair, mask = inputs(pairs)
    maps = [
        M2IB(clip).attribute(pair, additional_forward_args=mask, seed=seed, **settings)
        for seed in range(4)
    ]
    image = torch.stack([min_max(authors_image(entry[0])) for entry in maps]).mean(0)
    text = torch.stack([entry[1] for entry in maps]).mean(0)
    for index, values in captions(pairs, text):
        assert pearson(image[index], pairs["m2ib_image"][index]) > 0.98
        assert pearson(values, pairs["m2ib_text"][index, : len(values)]) > 0.98


def test_padding_and_mask_make_no_difference_to_a_caption(clip, pairs):
    """The authors ran captions one by one without padding; NIB has no noise, so it must agree."""
    pair, mask = inputs(pairs)
    _, text = NIB(clip).attribute(pair, additional_forward_args=mask)
    _, unmasked = NIB(clip).attribute(pair)
    assert torch.allclose(text, unmasked, atol=1e-5)
    for index, values in captions(pairs, text):
        one = (pair[0][index : index + 1], pair[1][index : index + 1, : len(values)])
        assert torch.allclose(NIB(clip).attribute(one)[1][0], values, atol=1e-5)


def test_completeness_at_300_gauss_legendre_steps(clip, pairs):
    """Where the path is smooth: at the first block, whose input is the embedding."""
    options = {"n_steps": 300, "method": "gausslegendre", "return_convergence_delta": True}
    pair, mask = inputs(pairs)
    layers = ["vision_model.encoder.layers.0", "text_model.encoder.layers.0"]
    _, (image, _) = NIB(clip, layers).attribute(pair, additional_forward_args=mask, **options)
    assert image.abs().max() < 1e-3
    loaded = zoo.load("vit-scenes")
    scenes = zoo.scenes.labelled(2, seed=5, size=loaded.image_size[0])
    _, delta = NIB(loaded.model, "blocks.0").attribute(
        loaded.normalize(scenes.images), target=scenes.labels, **options
    )
    assert delta.abs().max() < 1e-3


def test_completeness_behind_layer_norms_needs_points_at_the_baseline(clip, pairs):
    """At the papers' depth F changes at λ ≈ 10⁻³; evenly spaced points miss it, u⁴ does not."""
    pair, mask = inputs(pairs)
    options = {"n_steps": 300, "method": "gausslegendre", "return_convergence_delta": True}
    gaps = []
    for power in (1.0, 4.0):
        _, (image, text) = NIB(clip).attribute(
            pair, additional_forward_args=mask, power=power, **options
        )
        gaps.append((image.abs().max().item(), text.abs().max().item()))
    assert gaps[1][0] < 0.02 < gaps[0][0]
    assert gaps[1][1] < 1e-3 < gaps[0][1]
