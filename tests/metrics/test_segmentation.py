"""Maps as segmentations: closed forms, and plain loops over pixels."""

from __future__ import annotations

import numpy as np
import pytest

from captum_ib.metrics import AveragePrecision, MeanIoU, PixelAccuracy


def score(metric, attribution, mask):
    x = np.zeros((len(attribution), 3, *attribution.shape[-2:]))
    return metric(None, x, np.zeros(len(x), int), attribution, mask)


@pytest.fixture
def halves():
    """A random map over masks of several sizes."""
    rng = np.random.default_rng(5)
    masks = rng.random((4, 1, 6, 5)) < np.array([0.1, 0.3, 0.5, 0.9])[:, None, None, None]
    masks[:, 0, 0, 0] = True
    return rng.normal(size=(4, 1, 6, 5)).round(1), masks.astype(int)


@pytest.mark.parametrize("rows", [1, 4, 7])
def test_a_perfect_map_and_its_inverse(rows):
    mask = np.zeros((1, 1, 8, 8))
    mask[:, :, :rows] = 1
    for metric in (PixelAccuracy, MeanIoU):
        assert score(metric(), 3 * mask - 1, mask) == [1.0]
        assert score(metric(), -mask, mask) == [0.0]
    assert score(AveragePrecision(), mask, mask) == [1.0]
    # Both classes at once: the inverse finds nothing before everything, half of which is true.
    assert score(AveragePrecision(), -mask, mask) == [0.5]
    assert score(AveragePrecision(of="object"), -mask, mask) == [rows / 8]


def test_counts_by_hand():
    # Above the mean (0.5): the left half. The mask: the upper half.
    attribution, mask = np.zeros((1, 1, 4, 4)), np.zeros((1, 1, 4, 4))
    attribution[..., :2], mask[:, :, :2] = 1, 1
    assert score(PixelAccuracy(), attribution, mask) == [0.5]
    assert score(MeanIoU(), attribution, mask) == [pytest.approx(4 / 12)]
    # At 1: 4 of 8 right, recall 1/2; at 0: all. 0.5 · 0.5 + 0.5 · 0.5.
    assert score(AveragePrecision(of="object"), attribution, mask) == [0.5]


def plain(a, m):
    """Accuracy and mean IoU, pixel by pixel."""
    threshold = sum(a.flatten()) / a.size
    right, inter, union = 0, [0, 0], [0, 0]
    for value, truth in zip(a.flatten(), m.flatten(), strict=True):
        found = int(value > threshold)
        right += found == truth
        for kind in (0, 1):
            inter[kind] += found == kind and truth == kind
            union[kind] += found == kind or truth == kind
    return right, inter, union


def test_against_plain_loops(halves):
    a, m = halves
    accuracy, mean_iou = PixelAccuracy(), MeanIoU()
    found = score(accuracy, a, m), score(mean_iou, a, m)
    rows = [plain(one, mask) for one, mask in zip(a, m, strict=True)]
    np.testing.assert_allclose(found[0], [right / 30 for right, *_ in rows], rtol=1e-12)
    ious = [np.mean([i / u for i, u in zip(*row[1:], strict=True)]) for row in rows]
    np.testing.assert_allclose(found[1], ious, rtol=1e-12)
    # All pixels of all samples together, as papers print them.
    inter, union = (np.sum([row[part] for row in rows], 0) for part in (1, 2))
    assert accuracy.pooled == pytest.approx(np.mean(found[0]))
    assert mean_iou.pooled == pytest.approx(np.mean(inter / union))
    assert mean_iou.pooled != pytest.approx(np.mean(ious), abs=1e-3)


def test_average_precision_is_scikit_learns(halves):
    average_precision_score = pytest.importorskip("sklearn.metrics").average_precision_score
    a, m = halves
    metric = AveragePrecision()
    expected, alone = [], []
    for one, mask in zip(a.reshape(4, -1), m.reshape(4, -1), strict=True):
        r = (one - one.min()) / (one.max() - one.min())
        # Chefer et al.: the maps of ground and object, and the one-hot truth, in one list.
        both = np.concatenate([1 - r, r]), np.concatenate([1 - mask, mask])
        expected.append(average_precision_score(both[1], both[0]))
        alone.append(average_precision_score(mask, r))
    np.testing.assert_allclose(score(metric, a, m), expected, rtol=1e-9)
    np.testing.assert_allclose(score(AveragePrecision(of="object"), a, m), alone, rtol=1e-9)
    assert metric.pooled == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("cls", [PixelAccuracy, MeanIoU, AveragePrecision])
def test_what_has_no_score(cls, halves):
    a, m = halves
    a[1], m[2] = 0.3, 0
    with pytest.raises(ValueError, match=r"an empty mask \(samples \[2\]"):
        score(cls(), a, m)
    metric = cls(undefined="nan")
    found = np.array(score(metric, a, m))
    assert np.isnan(found).tolist() == [False, True, True, False]
    kept = cls()
    score(kept, a[[0, 3]], m[[0, 3]])
    assert metric.pooled == pytest.approx(kept.pooled)
    assert np.isnan(score(metric, a[1:3], m[1:3])).all() and np.isnan(metric.pooled)
    with pytest.raises(ValueError, match="pass s_batch"):
        score(cls(), a, None)
    with pytest.raises(ValueError, match=r"does not fit; expected \(N, H, W\)"):
        score(cls(), a, m[..., :4])


def test_an_unknown_side():
    with pytest.raises(ValueError, match='of must be "both" or "object", given "ground"|ground'):
        AveragePrecision(of="ground")
