"""MoRF, LeRF and SRG on models whose curves are known, and against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from captum_ib.metrics import SRG, Deletion, LeRF, MoRF


class Sum(nn.Module):
    """The outputs (Σ x, 0): no probability, so the curves are polygons."""

    def forward(self, x):
        total = x.sum((1, 2, 3))
        return torch.stack([total, torch.zeros_like(total)], 1)


RAW = {"softmax": False}


def test_a_linear_model_in_closed_form():
    # Pixels 1, 2, 3, 4; steps of one pixel. MoRF: 10, 6, 3, 1, 0; LeRF: 10, 9, 7, 4, 0.
    x = np.array([1, 2, 3, 4], dtype=np.float32).reshape(1, 1, 2, 2)
    given = (Sum().eval(), x, np.array([0]), x)
    morf, lerf, srg = MoRF(steps=4), LeRF(steps=4), SRG(steps=4)
    areas = [metric(*given, **RAW)[0] for metric in (morf, lerf, srg)]
    np.testing.assert_allclose(morf.curves, [[10, 6, 3, 1, 0]])
    np.testing.assert_allclose(lerf.curves, [[10, 9, 7, 4, 0]])
    np.testing.assert_allclose(srg.curves, [[0, 3, 4, 3, 0]])
    assert areas == pytest.approx([100 * 15 / 4, 100 * 25 / 4, 100 * 10 / 4])
    # An inverted map swaps the two orders.
    swapped = [cls(steps=4)(*given[:3], -x, **RAW)[0] for cls in (MoRF, LeRF, SRG)]
    assert swapped == pytest.approx([areas[1], areas[0], -areas[2]])


def plain(model, x, target, a, fill, least):
    """The score after each pixel, one picture at a time."""
    order = np.argsort(a.flatten() if least else -a.flatten(), kind="stable")
    picture, curve = x.copy().reshape(3, -1), []
    for count in range(0, len(order) + 1, 64):
        now = picture.copy()
        now[:, order[:count]] = fill.reshape(3, -1)[:, order[:count]]
        with torch.no_grad():
            logits = model(torch.from_numpy(now.reshape(1, *x.shape)))
        curve.append(float(logits.softmax(1)[0, target]))
    return np.array(curve)


@pytest.mark.parametrize("fill", ["black", "mean"])
def test_against_plain_loops(vit, images, targets, maps, fill):
    few = slice(0, 2)
    given = (vit, images[few], targets[few], maps[few])
    lerf, srg = LeRF(steps=16, fill=fill), SRG(steps=16, fill=fill)
    areas, gains = lerf(*given), srg(*given)
    for row in range(2):
        x = images[row]
        value = x.mean((1, 2), keepdims=True) if fill == "mean" else np.zeros((3, 1, 1))
        filled = np.broadcast_to(value, x.shape).astype(np.float32)
        ends = (vit, x, targets[row], maps[row], filled)
        most, least = plain(*ends, False), plain(*ends, True)
        np.testing.assert_allclose(lerf.curves[row], least, atol=1e-5)
        assert areas[row] == pytest.approx(100 * np.trapezoid(least, dx=1 / 16), abs=1e-3)
        gain = 100 * np.trapezoid(least - most, dx=1 / 16)
        assert gains[row] == pytest.approx(gain, abs=2e-3)


def test_morf_with_black_is_deletion(vit, images, targets, maps):
    given = (vit, images[:2], targets[:2], maps[:2])
    assert MoRF(steps=8)(*given) == Deletion(steps=8)(*given)


def test_blur_as_fill_is_read_from_the_other_end(vit, images, targets, maps):
    from captum_ib.metrics import Insertion

    given = (vit, images[:1], targets[:1], maps[:1])
    assert LeRF(steps=8, fill="blur")(*given) == Insertion(steps=8)(*given)


def test_refused():
    with pytest.raises(ValueError, match='fill must be one of "black", "mean", "blur"'):
        SRG(fill="white")
    with pytest.raises(ValueError, match="baseline= takes the place of black"):
        SRG(fill="mean", baseline=0.5)
    x = np.ones((1, 1, 2, 2), dtype=np.float32)
    with pytest.raises(ValueError, match="a constant attribution"):
        SRG(steps=4)(Sum().eval(), x, np.array([0]), x, **RAW)
