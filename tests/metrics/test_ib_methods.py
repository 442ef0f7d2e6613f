"""Our methods through Quantus, and on CLIP: zero-shot classes and both modalities."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import quantus
import torch
from torch import nn
from transformers import CLIPConfig, CLIPModel

from captum_ib import IBA, M2IB, NIB, CoIBA, DualEncoder, ZeroShotClassifier
from captum_ib.metrics import (
    ROAD,
    ConfidenceDrop,
    ConfidenceIncrease,
    Deletion,
    Insertion,
    ROARPlus,
    certify,
    explain_func,
)

# Quantus 0.5 turns arrays of one element into numbers in a way that numpy 1.25 deprecates.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Conversion of an array with ndim:DeprecationWarning"
)

QUIET = {"disable_warnings": True, "display_progressbar": False}
FAST = {"n_steps": 3, "n_samples": 2, "seed": 0}
PAD, BEGIN, END, BLANK = 0, 29, 30, 3
LAYERS = ["vision_model.encoder.layers.1", "text_model.encoder.layers.1"]
TOKENS = {"special_tokens": (PAD, BEGIN, END), "blank_token": BLANK}


@pytest.fixture(scope="module")
def clip() -> DualEncoder:
    tower = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
    }
    config = CLIPConfig(
        text_config={
            **tower,
            "vocab_size": 31,
            "max_position_embeddings": 6,
            "bos_token_id": BEGIN,
            "eos_token_id": END,
            "pad_token_id": PAD,
        },
        vision_config={**tower, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    torch.manual_seed(0)
    model = CLIPModel(config)
    with torch.no_grad():  # the default initialisation is so small that nothing depends on much
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    return DualEncoder.from_model(model.eval())


@pytest.fixture(scope="module")
def captions() -> np.ndarray:
    return np.array(
        [[BEGIN, 5 + i, 12 + i, END, PAD, PAD] for i in range(3)]
        + [[BEGIN, 5 + i, 9, 18 + i, END, PAD] for i in range(3)]
    )


@pytest.mark.parametrize(
    "explain",
    [
        explain_func(IBA, layer="blocks.1", **FAST),
        explain_func(CoIBA, layers=["blocks.0.norm1", "blocks.1.norm1"], **FAST),
        explain_func(NIB, layer="blocks.1"),
    ],
    ids=["IBA", "CoIBA", "NIB"],
)
def test_randomising_the_model_changes_the_map(explain, vit, images, targets):
    metric = quantus.MPRT(layer_order="top_down", skip_layers=True, **QUIET)
    scores = metric(vit, images, targets, explain_func=explain, device="cpu")
    first, last = scores["original"], list(scores.values())[-1]
    assert first == pytest.approx([1.0] * 6, abs=1e-5)  # the same seed gives the same map
    assert np.mean(np.abs(last)) < 0.5  # measured 0.36, 0.20, 0.31


@pytest.mark.parametrize("modality", ["image", "text"])
def test_randomising_a_pair_changes_the_map(modality, clip, images, captions):
    explain = explain_func(M2IB, modality=modality, layers=LAYERS, **FAST)
    x, y = (images, captions) if modality == "image" else (captions, images)
    metric = quantus.MPRT(layer_order="top_down", skip_layers=True, **QUIET)
    scores = metric(clip, x, y, explain_func=explain, device="cpu")
    assert scores["original"] == pytest.approx([1.0] * 6, abs=1e-5)
    # Measured 0.35 and 0.63; the text's padding is 0 for both models, which correlates.
    assert np.mean(np.abs(list(scores.values())[-1])) < {"image": 0.5, "text": 0.8}[modality]


def test_nib_is_complete_through_quantus(images, targets):
    """An upsampled map sums to F(z) − F(0) only if its sum is conserved."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 8, stride=8), nn.Tanh(), nn.Flatten(), nn.Linear(64, 3)
    ).eval()
    settings = {"layer": "1", "n_steps": 50, "method": "riemann_middle"}
    explain = explain_func(NIB, conserve=True, **settings)
    attributions = explain(model=model, inputs=images, targets=targets)
    with torch.no_grad():
        clean = model(torch.from_numpy(images)).numpy()[np.arange(6), targets]
    zero = model[3].bias.detach().numpy()[targets]
    np.testing.assert_allclose(attributions.sum((1, 2, 3)), clean - zero, atol=1e-4)


def test_a_copied_pair_computes_with_its_own_weights(clip, images, captions):
    """What MPRT and ROAR+ stand on: they change copies of the model."""
    pair = torch.from_numpy(images), torch.from_numpy(captions)
    with torch.no_grad():
        before = clip(*pair)
        copied = copy.deepcopy(clip)
        torch.testing.assert_close(copied(*pair), before)
        copied.model.visual_projection.weight.neg_()
        torch.testing.assert_close(copied(*pair), -before)
        torch.testing.assert_close(clip(*pair), before)


def test_roar_trains_copies_of_a_pair(clip, images, captions):
    before = copy.deepcopy(clip.state_dict())
    metric = ROARPlus(epochs=3, lr=1e-3, train_fraction=0.6)
    maps = np.random.default_rng(0).random((6, 1, 32, 32))
    metric(clip, images, captions, maps)
    table = metric.runs[0].validation
    assert (np.diff(table[:, 1:], axis=0) != 0).all()  # both copies learn
    assert (table[:, 1] != table[:, 2]).all()  # not the same
    assert all(torch.equal(before[name], value) for name, value in clip.state_dict().items())
    assert all(parameter.grad is None for parameter in clip.parameters())


def test_quantus_on_a_zero_shot_classifier(clip, images, targets, captions):
    model = ZeroShotClassifier(clip, torch.from_numpy(captions[:3])).eval()
    explain = explain_func(IBA, layer="dual.model.vision_model.encoder.layers.1", **FAST)
    masks = np.zeros((6, 1, 32, 32), dtype=int)
    masks[:, :, 8:24, 8:24] = 1
    attributions = explain(model=model, inputs=images, targets=targets)
    for build in (
        lambda: ROAD(percentages=[50], noise=0.0, **QUIET),
        lambda: quantus.PixelFlipping(features_in_step=1024, **QUIET),
        lambda: quantus.Selectivity(patch_size=16, **QUIET),
        lambda: quantus.SensitivityN(features_in_step=1024, **QUIET),
        lambda: quantus.Completeness(**QUIET),
        lambda: quantus.PointingGame(**QUIET),
        lambda: quantus.RelevanceRankAccuracy(**QUIET),
        lambda: quantus.Sparseness(**QUIET),
        lambda: Insertion(steps=4),
        lambda: Deletion(steps=4),
    ):
        asked = build()(
            model, images, targets, None, masks, softmax=True, device="cpu", explain_func=explain
        )
        given = build()(model, images, targets, attributions, masks, softmax=True, device="cpu")
        assert np.array_equal(_numbers(asked), _numbers(given), equal_nan=True)
    randomised = quantus.MPRT(skip_layers=True, return_last_correlation=True, **QUIET)(
        model, images, targets, explain_func=explain, device="cpu"
    )
    assert np.mean(np.abs(randomised)) < 0.5
    sensitive = quantus.MaxSensitivity(nr_samples=1, **QUIET)(
        model, images, targets, explain_func=explain, device="cpu"
    )
    assert min(sensitive) > 0


def _numbers(scores) -> np.ndarray:
    values = list(scores.values()) if isinstance(scores, dict) else scores
    return np.asarray(values, dtype=float)


def test_both_modalities_of_a_pair(clip, images, captions):
    text = explain_func(M2IB, modality="text", **FAST)
    image = explain_func(M2IB, modality="image", **FAST)
    mask = torch.from_numpy((captions != PAD).astype(np.int64))
    expected = M2IB(clip).attribute(
        (torch.from_numpy(images), torch.from_numpy(captions)), additional_forward_args=mask, **FAST
    )
    found = text(model=clip, inputs=captions, targets=images)
    np.testing.assert_allclose(found, expected[1].numpy(), rtol=1e-4, atol=1e-6)
    assert image(model=clip, inputs=images, targets=captions).shape == (6, 1, 32, 32)
    drop = ConfidenceDrop(modality="text", **TOKENS)
    scores = drop(clip, captions, images, explain_func=text)
    with torch.no_grad():
        cosine = clip(torch.from_numpy(images), torch.from_numpy(captions), mask)
    np.testing.assert_allclose(drop.before, cosine, atol=1e-5)
    np.testing.assert_allclose(scores, 100 * np.clip(drop.before - drop.after, 0, None), atol=1e-4)


def test_pair_metrics_in_one_call(clip, images, captions, capsys):
    metrics = {
        "Drop": ConfidenceDrop(),
        "Increase": ConfidenceIncrease(),
        "Insertion": Insertion(steps=4),
        "ROAR+": ROARPlus(epochs=1, train_fraction=0.6),
    }
    methods = {
        "M2IB": explain_func(M2IB, modality="image", **FAST),
        "NIB": explain_func(NIB, modality="image"),
    }
    results = quantus.evaluate(
        metrics, methods, clip, images, captions, explain_func_kwargs={}, call_kwargs=None
    )
    assert "Failed to evaluate" not in capsys.readouterr().out
    assert {name: set(scores) for name, scores in results.items()} == {
        name: set(metrics) for name in methods
    }


def test_certificates_of_a_pair(clip, images, captions):
    pair = torch.from_numpy(images), torch.from_numpy(captions)
    mask = pair[1] != PAD
    # Not the last image block: only its class token is pooled, and that is no patch.
    m2ib = M2IB(clip, LAYERS)
    bits = m2ib.attribute(pair, additional_forward_args=mask, **FAST)
    both = certify(m2ib, pair, bits, 1e9, additional_forward_args=mask, n_draws=10)
    none = certify(m2ib, pair, bits, 1e-9, additional_forward_args=mask, n_draws=10)
    assert [one.replaced.shape for one in both] == [(6,), (6,)]
    assert both[0].replaced.tolist() == [1.0] * 6
    assert (both[0].change > none[0].change).all()
    assert none[0].change.max() < 1e-5
    with pytest.raises(TypeError, match=r"tuple \(first, second\)"):
        certify(m2ib, pair, bits[0], 1.0, additional_forward_args=mask)
