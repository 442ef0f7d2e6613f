"""Captum's own methods take our dual encoders, tower views and classifiers as they are."""

from __future__ import annotations

import pytest
import torch
from captum.attr import (
    GradientShap,
    InputXGradient,
    IntegratedGradients,
    KernelShap,
    LayerGradCam,
    LayerIntegratedGradients,
    Occlusion,
    Saliency,
)

from captum_ib.models.dual_encoder import ZeroShotClassifier
from tests.attr.cases import SUBJECTS

PATCHES = torch.arange(16).view(1, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)

# Captum says that one model per sample is slow.
pytestmark = pytest.mark.filterwarnings("ignore:You are providing multiple inputs for Lime")

METHODS = [
    (Saliency, {}),
    (InputXGradient, {}),
    (IntegratedGradients, {"n_steps": 4, "internal_batch_size": 3}),
    (GradientShap, {"baselines": torch.zeros(2, 3, 16, 16), "n_samples": 2}),
    (Occlusion, {"sliding_window_shapes": (3, 8, 8), "strides": (3, 8, 8)}),
    (KernelShap, {"feature_mask": PATCHES, "n_samples": 8}),
]


@pytest.fixture(scope="module")
def pair():
    subject = SUBJECTS["clip"]()
    return subject.model, subject.inputs[0], subject.inputs[1], subject.extra


@pytest.mark.parametrize(("method", "settings"), METHODS)
def test_images_of_a_pair(pair, method, settings):
    dual, pixels, ids, mask = pair
    x = pixels.clone().requires_grad_()
    found = method(dual).attribute(x, additional_forward_args=(ids, mask), **settings)
    assert found.shape == pixels.shape
    assert torch.isfinite(found).all() and found.std() > 0


@pytest.mark.parametrize(("method", "settings"), METHODS)
@pytest.mark.parametrize("kind", ["vit", "hf_vit", "zero_shot"])
def test_classifiers(pair, kind, method, settings):
    if kind == "zero_shot":
        dual, x, ids, mask = pair
        model = ZeroShotClassifier(dual, ids, mask)
    else:
        model, x = SUBJECTS[kind]().model, SUBJECTS[kind]().inputs
    x = x.clone().requires_grad_()

    def logits(value):  # transformers' models return an object
        output = model(value)
        return getattr(output, "logits", output)

    found = method(logits if kind == "hf_vit" else model).attribute(x, target=1, **settings)
    assert found.shape == x.shape
    assert torch.isfinite(found).all() and found.std() > 0


def test_saliency_of_a_pair_is_the_gradient_of_its_cosine(pair):
    dual, pixels, ids, mask = pair
    x = pixels.clone().requires_grad_()
    (expected,) = torch.autograd.grad(dual(x, ids, mask).sum(), x)
    found = Saliency(dual).attribute(x, additional_forward_args=(ids, mask), abs=False)
    assert torch.allclose(found, expected)


def test_completeness_of_integrated_gradients_on_a_pair(pair):
    dual, pixels, ids, mask = pair
    found = IntegratedGradients(dual).attribute(
        pixels, additional_forward_args=(ids, mask), n_steps=200, internal_batch_size=60
    )
    difference = dual(pixels, ids, mask) - dual(torch.zeros_like(pixels), ids, mask)
    assert torch.allclose(found.flatten(1).sum(dim=1).to(difference), difference, atol=5e-3)


def test_words_of_a_pair_through_the_embedding_layer(pair):
    dual, pixels, ids, mask = pair

    def text_first(input_ids, images, attention_mask):
        return dual(images, input_ids, attention_mask)

    layer = dual.model.text_model.embeddings.token_embedding
    found = LayerIntegratedGradients(text_first, layer).attribute(
        ids, baselines=0, additional_forward_args=(pixels, mask), n_steps=4
    )
    assert found.shape == (*ids.shape, 16)
    assert torch.isfinite(found).all() and found.std() > 0


def test_gradcam_of_captum_on_a_cnn():
    subject = SUBJECTS["resnet"]()
    found = LayerGradCam(subject.model, subject.model.layer3).attribute(subject.inputs, 1)
    assert found.shape == (3, 1, 4, 4)
