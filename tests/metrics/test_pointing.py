"""Energy on masks, and grids of confident samples."""

from __future__ import annotations

import numpy as np
import pytest

from captum_ib.metrics import EnergyPointingGame, pointing_grids


def score(attribution, mask, **settings):
    x = np.zeros((len(attribution), 3, *attribution.shape[-2:]))
    return EnergyPointingGame(**settings)(None, x, np.zeros(len(x), int), attribution, mask)


def test_energy_closed_forms_and_a_plain_loop():
    mask = np.zeros((1, 1, 8, 8), int)
    mask[:, :, :2] = 1
    assert score(mask, mask) == [1.0] and score(1 - mask, mask) == [0.0]
    assert score(np.ones_like(mask), mask) == [0.25]  # chance: the mask's share
    # What is negative counts nowhere: neither −9 inside nor −5 outside.
    signed = np.where(mask == 1, 2.0, 1.0)
    signed[0, 0, 0, 0], signed[0, 0, 7, 7] = -9, -5
    assert score(signed, mask) == [15 * 2 / (15 * 2 + 47)]
    noise = np.random.default_rng(0).normal(size=(3, 1, 8, 8))
    masks = np.random.default_rng(1).random((3, 2, 8, 8)) < 0.2
    for found, a, m in zip(score(noise, masks), noise, masks, strict=True):
        pairs = list(zip(a.flatten(), m.any(0).flatten(), strict=True))
        inside = sum(max(value, 0) for value, hit in pairs if hit)
        assert found == pytest.approx(inside / sum(max(value, 0) for value, _ in pairs))


def test_energy_of_nothing():
    mask = np.ones((2, 1, 4, 4), int)
    with pytest.raises(ValueError, match=r"a map that is positive nowhere \(samples \[0, 1\]"):
        score(-mask, mask)
    maps = np.stack([np.ones((1, 4, 4)), np.zeros((1, 4, 4))])
    np.testing.assert_equal(score(maps, mask, undefined="nan"), [1.0, np.nan])


def test_grids_hold_their_pictures_in_their_cells():
    # Plain pictures: picture i has the value i everywhere, also when it is shrunk.
    images = np.broadcast_to(np.arange(10.0)[:, None, None, None], (10, 3, 9, 12)).copy()
    labels = np.array([0, 0, 1, 2, 3, 4, 5, 6, 7, 8])
    confidence = np.array([0.9, 0.99, 0.8, 0.7, 0.6, 0.95, 0.85, 0.75, 0.65, 0.55])
    grids = pointing_grids(images, labels, confidence, side=3)
    order = [1, 5, 6, 2, 7, 3, 8, 4, 9]  # falling; 0 is of the class of 1
    assert grids.samples.tolist() == [order]
    assert grids.images.shape == (9, 3, 9, 12) and grids.targets.tolist() == labels[order].tolist()
    expected = np.repeat(np.repeat(np.reshape(order, (3, 3)), 3, 0), 4, 1)
    for row, number in enumerate(order):
        np.testing.assert_allclose(grids.images[row], np.broadcast_to(expected, (3, 9, 12)))
        assert (grids.masks[row, 0] == (expected == number)).all()
    # A map that lights one cell up scores 1 for it, 0 for all others.
    lit = np.broadcast_to(grids.masks[:1], grids.masks.shape)
    found = EnergyPointingGame()(None, grids.images, grids.targets, lit, grids.masks)
    assert found == [1.0] + [0.0] * 8


def test_cells_of_unequal_size():
    images = np.broadcast_to(np.arange(4.0)[:, None, None, None], (4, 1, 5, 7)).copy()
    grids = pointing_grids(images, np.arange(4), np.linspace(1, 0.9, 4))
    # 5 = 3 + 2 rows and 7 = 4 + 3 columns: pixel i lies in cell ⌊2i/5⌋, ⌊2i/7⌋.
    rows, columns = np.arange(5) * 2 // 5, np.arange(7) * 2 // 7
    np.testing.assert_allclose(grids.images[0, 0], rows[:, None] * 2 + columns)
    assert (grids.masks.sum(0) == 1).all()


def test_grids_until_classes_run_out():
    images, labels = np.random.default_rng(0).random((9, 3, 4, 4)), np.arange(9) % 4
    confidence = np.full(9, 0.9)
    confidence[5] = 0.4
    grids = pointing_grids(images, labels, confidence)
    assert grids.samples.tolist() == [[0, 1, 2, 3]]  # the other of class 1 is unsure
    grids = pointing_grids(images, labels, confidence, least=0.4)
    assert grids.samples.tolist() == [[0, 1, 2, 3], [4, 6, 7, 5]]
    captions = np.array([[1, 2], [1, 3], [1, 2], [2, 1], [3, 1]])
    grids = pointing_grids(images[:5], captions, np.ones(5))
    assert grids.samples.tolist() == [[0, 1, 3, 4]] and grids.targets.shape == (4, 2)


def test_grids_that_can_not_be_made():
    images, labels = np.zeros((4, 3, 4, 4)), np.array([0, 1, 2, 2])
    with pytest.raises(ValueError, match="of different classes .* there are 3 among 4 samples"):
        pointing_grids(images, labels, np.ones(4))
    with pytest.raises(ValueError, match="at least 2 cells along a side, given 1"):
        pointing_grids(images, labels, np.ones(4), side=1)
    with pytest.raises(ValueError, match="with a target and a confidence each"):
        pointing_grids(images, labels[:3], np.ones(4))
