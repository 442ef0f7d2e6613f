"""Insertion and Deletion against closed forms and a direct loop over single images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms.functional import gaussian_blur as torchvision_blur
from transformers import ViTConfig, ViTForImageClassification

from captum_ib.metrics import Deletion, Insertion, InsertionMinusDeletion
from captum_ib.metrics.insertion_deletion import gaussian_blur, rank_pixels

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def linear(weights: list[float]) -> nn.Module:
    """Two classes; the first one's logit is the weighted sum of the pixels."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(len(weights), 2, bias=False)).eval()
    with torch.no_grad():
        model[1].weight[0] = torch.tensor(weights)
        model[1].weight[1] = 0
    return model


def reference(model, image, ranking, target, start, end, step) -> float:
    """One image, one step at a time, as the protocol describes it in words."""
    current, scores = start.copy(), []
    order = np.argsort(-ranking.reshape(-1), kind="stable")
    for done in range(0, len(order) + 1, step):
        current = start.copy()
        for pixel in order[:done]:
            row, column = divmod(int(pixel), image.shape[2])
            current[:, row, column] = end[:, row, column]
        with torch.no_grad():
            logits = model(torch.from_numpy(current[None]))[0]
        scores.append(float(torch.softmax(logits, 0)[target]))
    return 100 * (sum(scores) - (scores[0] + scores[-1]) / 2) / (len(scores) - 1)


def test_deletion_of_a_linear_model_in_its_own_order():
    # After k of 16 pixels, of weights 15, 14, …, 0, the sum of those left is (15−k)(16−k)/2;
    # Σ over k = C(17, 3) = 680, the trapezoid rule gives (680 − 120/2)/16 = 38.75.
    weights = np.random.default_rng(0).permutation(16).astype(float)
    attribution = weights.reshape(1, 1, 4, 4)
    metric = Deletion(steps=16)
    x, y = np.ones((1, 1, 4, 4), np.float32), np.array([0])
    scores = metric(linear(list(weights)), x, y, attribution, softmax=False)
    assert scores == pytest.approx([3875.0], rel=1e-6)
    left = [(15 - k) * (16 - k) / 2 for k in range(17)]
    np.testing.assert_allclose(metric.curves[0], left, rtol=1e-6)
    # The reversed order deletes the small weights first: 120 − k(k−1)/2, so (120·17 − 680 − 60)/16.
    reverse = metric(linear(list(weights)), x, y, -attribution, softmax=False)
    assert reverse == pytest.approx([8125.0], rel=1e-6)


def test_insertion_of_two_pixels():
    # A flat three-tap kernel with mirrored borders blurs (3, 0) to ((0+3+0)/3, (3+0+3)/3) = (1, 2).
    # Weights (2, 1): 4 at the start, 8 with the first pixel, 6 at the end; area (4/2 + 8 + 6/2)/2.
    metric = Insertion(steps=2, kernel=3, sigma=1e6)
    x = np.array([3.0, 0.0], np.float32).reshape(1, 1, 1, 2)
    scores = metric(
        linear([2.0, 1.0]),
        x,
        np.array([0]),
        np.array([[[[1.0, 0.0]]]]),
        softmax=False,
        channel_first=True,
    )
    np.testing.assert_allclose(metric.curves, [[4.0, 8.0, 6.0]], rtol=1e-6)
    assert scores == pytest.approx([650.0], rel=1e-6)


@pytest.mark.parametrize("kind", ["insertion", "deletion"])
def test_against_a_loop_over_single_images(kind, vit, images, targets, maps):
    mean, std = np.reshape(MEAN, (1, 3, 1, 1)), np.reshape(STD, (1, 3, 1, 1))
    x = ((images - mean) / std).astype(np.float32)
    black = np.broadcast_to((-mean / std)[0], x[0].shape).astype(np.float32)
    blurred = torchvision_blur(torch.from_numpy(x), [51, 51], [50.0, 50.0]).numpy()
    metric = {"insertion": Insertion, "deletion": Deletion}[kind](mean=MEAN, std=STD, steps=16)
    scores = metric(vit, x, targets, maps)
    for i, score in enumerate(scores):
        start, end = (blurred[i], x[i]) if kind == "insertion" else (x[i], black)
        expected = reference(vit, x[i], maps[i, 0], targets[i], start, end, step=64)
        assert score == pytest.approx(expected, abs=2e-4)


def test_difference_is_insertion_minus_deletion(vit, images, targets, maps):
    both = InsertionMinusDeletion(steps=8)
    difference = both(vit, images, targets, maps)
    inserted = Insertion(steps=8)(vit, images, targets, maps)
    deleted = Deletion(steps=8)(vit, images, targets, maps)
    np.testing.assert_allclose(both.insertion, inserted, rtol=1e-6)
    np.testing.assert_allclose(both.deletion, deleted, rtol=1e-6)
    np.testing.assert_allclose(difference, np.subtract(inserted, deleted), rtol=1e-5)


def test_batches_do_not_matter(vit, images, targets, maps):
    whole = Deletion(steps=5)(vit, images, targets, maps)
    parts = Deletion(steps=5)(vit, images, targets, maps, batch_size=4)
    np.testing.assert_allclose(whole, parts, rtol=1e-4)


def test_a_step_is_eight_rows_of_a_224_image():
    assert Insertion()._counts(224 * 224)[1] == 8 * 224
    assert len(Insertion()._counts(224 * 224)) == 29


def test_last_step_may_be_smaller():
    assert Deletion(steps=3)._counts(16).tolist() == [0, 6, 12, 16]


def test_curves_on_request(vit, images, targets, maps):
    metric = Deletion(steps=4, return_curves=True)
    rows = metric(vit, images, targets, maps, batch_size=4)
    np.testing.assert_array_equal(np.stack(rows), metric.curves)
    assert metric.curves.shape == (6, 5)
    with pytest.raises(ValueError, match="exclude each other"):
        Deletion(return_curves=True, return_aggregate=True)


def test_blur_equals_torchvision():
    x = torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(gaussian_blur(x), torchvision_blur(x, [51, 51], [50.0, 50.0]))
    torch.testing.assert_close(gaussian_blur(x, 7, 1.5), torchvision_blur(x, [7, 7], [1.5, 1.5]))


def test_blur_of_a_small_image_takes_the_largest_kernel_that_mirrors():
    x = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        gaussian_blur(x, 51, 50.0), torchvision_blur(x, [15, 15], [50.0] * 2)
    )


def test_equal_pixels_are_ranked_in_reading_order():
    assert rank_pixels(torch.zeros(1, 2, 2)).tolist() == [[[0, 1], [2, 3]]]


def test_channels_are_summed_before_ranking(vit, images, targets, maps):
    spread = np.concatenate([maps + 5, maps - 5, maps], 1)
    one = Deletion(steps=4)(vit, images, targets, maps)
    np.testing.assert_allclose(Deletion(steps=4)(vit, images, targets, spread), one, rtol=1e-5)


def test_a_dual_encoder_scores_its_cosine(dual):
    # Left 3, right 4 in sum: cosine 0.6 to a red text; without its right half 1, empty 0.
    x = np.concatenate([np.full((1, 1, 2, 2), 0.75), np.full((1, 1, 2, 2), 1.0)], 3)
    ids = np.array([[1, 4, 2]])
    right_first = np.concatenate([np.ones((1, 1, 2, 2)), np.full((1, 1, 2, 2), 2.0)], 3)
    metric = Deletion(steps=2)
    scores = metric(dual, x.astype(np.float32), ids, right_first.astype(np.float32))
    np.testing.assert_allclose(metric.curves, [[0.6, 1.0, 0.0]], atol=1e-6)
    assert scores == pytest.approx([65.0], abs=1e-4)


@pytest.mark.parametrize("softmax", [True, False])
def test_a_transformers_classifier(softmax, images, targets, maps):
    torch.manual_seed(0)
    config = ViTConfig(
        image_size=32,
        patch_size=8,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_labels=3,
    )
    model = ViTForImageClassification(config).eval()
    metric = Deletion(steps=2)
    metric(model, images, targets, maps, softmax=softmax)
    with torch.no_grad():
        logits = model(torch.from_numpy(images)).logits
    expected = (logits.softmax(1) if softmax else logits)[range(6), targets]
    np.testing.assert_allclose(metric.curves[:, 0], expected, rtol=1e-5)


class TestBadInput:
    def test_constant_map(self, vit, images, targets, maps):
        flat = maps.copy()
        flat[2] = 0.5
        with pytest.raises(ValueError, match=r"constant attribution.*samples \[2\]"):
            Deletion()(vit, images, targets, flat)
        metric = Deletion(steps=4, undefined="nan")
        scores = metric(vit, images, targets, flat)
        assert np.isnan(scores).tolist() == [False, False, True, False, False, False]
        assert np.isnan(metric.curves[2]).all()
        mean = Deletion(steps=4, undefined="nan", return_aggregate=True)
        assert mean(vit, images, targets, flat) == pytest.approx([np.nanmean(scores)])

    def test_nan(self, vit, images, targets, maps):
        broken = maps.copy()
        broken[1, 0, 3, 3] = np.nan
        with pytest.raises(ValueError, match=r"a_batch holds NaN or infinity in samples \[1\]"):
            Insertion()(vit, images, targets, broken)
        with pytest.raises(ValueError, match="x_batch holds NaN"):
            Insertion()(vit, np.full_like(images, np.inf), targets, maps)

    @pytest.mark.parametrize("shape", [(6, 1, 16, 16), (5, 1, 32, 32), (6, 2, 32, 32), (6, 32)])
    def test_wrong_shape(self, shape, vit, images, targets):
        with pytest.raises(ValueError, match="does not fit x_batch"):
            Insertion()(vit, images, targets, np.random.default_rng(0).random(shape))

    def test_preprocessed_images_need_to_know_black(self, vit, images, targets, maps):
        with pytest.raises(ValueError, match=r"mean= and std=.*baseline="):
            Deletion()(vit, images - 0.5, targets, maps)
        zero = Deletion(steps=4, baseline=0.0)(vit, images - 0.5, targets, maps)
        same = Deletion(steps=4, mean=0.0, std=1.0)(vit, images - 0.5, targets, maps)
        assert zero == same

    def test_targets(self, vit, images, maps):
        with pytest.raises(
            ValueError, match="targets from 0 to 3, but the model has classes 0 to 2"
        ):
            Deletion()(vit, images, np.array([0, 1, 2, 3, 0, 0]), maps)
        with pytest.raises(TypeError, match="one class index per sample"):
            Deletion()(vit, images, np.linspace(0, 1, 6), maps)

    def test_training_mode(self, images, targets, maps):
        with pytest.raises(RuntimeError, match="training mode"):
            Deletion()(nn.Sequential(nn.Flatten(), nn.Linear(3072, 3)), images, targets, maps)

    def test_nothing_to_score(self, vit, images, targets):
        with pytest.raises(TypeError, match=r"a_batch .* or explain_func"):
            Deletion()(vit, images, targets)
        with pytest.raises(TypeError, match="must be a numpy array"):
            Deletion()(vit, torch.from_numpy(images), targets, torch.zeros(6, 1, 32, 32))

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"mean": 0.5}, "mean and std belong together"),
            ({"mean": 0.5, "std": 1.0, "baseline": 0.0}, "either mean and std"),
            ({"steps": 0}, "steps must be at least 1"),
            ({"kernel": 4}, "odd kernel"),
            ({"undefined": "zero"}, 'undefined is "raise" or "nan"'),
        ],
    )
    def test_settings(self, settings, message):
        with pytest.raises(ValueError, match=message):
            Deletion(**settings)

    def test_number_of_channels(self, vit, images, targets, maps):
        with pytest.raises(ValueError, match="mean has 2 entries for images with 3 channels"):
            Deletion(mean=(0.5, 0.5), std=(1.0, 1.0))(vit, images, targets, maps)
