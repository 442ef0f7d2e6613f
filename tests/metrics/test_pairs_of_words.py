"""Synergistic faithfulness and prompt sensitivity on a dual encoder with known cosines."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from captum_ib.metrics import PromptSensitivity, SynergisticFaithfulness
from captum_ib.metrics.prompts import changed_captions, map_change
from tests.metrics.conftest import BEGIN, BLANK, END, PAD, RED, ROUND

TEXT = {"special_tokens": (PAD, BEGIN, END), "blank_token": BLANK}


@pytest.fixture
def pairs():
    rng = np.random.default_rng(0)
    images = rng.random((3, 3, 4, 4)).astype(np.float32) + 0.1
    ids = np.array(
        [
            [BEGIN, RED, ROUND, RED, END],
            [BEGIN, ROUND, ROUND, END, PAD],
            [BEGIN, RED, ROUND, END, PAD],
        ]
    )
    maps, words = rng.random((3, 1, 4, 4)), rng.random((3, 5))
    return images, ids, maps, words


def plain(dual, x, t, a, w, steps, order):
    """I(s) with four cosines a step, pixel by pixel and word by word."""
    content = [place for place in range(len(t)) if t[place] not in (PAD, BEGIN, END)]
    pixels = sorted(range(16), key=lambda place: -a.flatten()[place])
    told = sorted(content, key=lambda place: -w[place])

    def cosine(kept_pixels, kept_words):
        picture = np.zeros((3, 16), dtype=np.float32)
        picture[:, kept_pixels] = x.reshape(3, 16)[:, kept_pixels]
        text = np.array([BLANK if i in content and i not in kept_words else t[i] for i in range(5)])
        pair = torch.from_numpy(picture.reshape(1, 3, 4, 4)), torch.from_numpy(text)[None]
        return float(dual(*pair, (pair[1] != PAD).long()).detach())

    curve = []
    for step in range(steps + 1):
        best = pixels[: round(step / steps * 16)], told[: round(step / steps * len(told))]
        if order == "deletion":
            best = pixels[len(best[0]) :], told[len(best[1]) :]
        rest = (pixels, told) if order == "deletion" else ([], [])
        curve.append(
            cosine(*best) - cosine(best[0], rest[1]) - cosine(rest[0], best[1]) + cosine(*rest)
        )
    return 100 * np.array(curve)


@pytest.mark.parametrize("order", ["insertion", "deletion"])
def test_the_dividend_is_that_of_four_cosines(dual, pairs, order):
    images, ids, maps, words = pairs
    metric = SynergisticFaithfulness(**TEXT, steps=4, order=order)
    found = metric(dual, images, ids, maps, custom_batch=words)
    for row in range(3):
        curve = plain(dual, images[row], ids[row], maps[row], words[row], 4, order)
        np.testing.assert_allclose(metric.curves[row], curve, atol=1e-4)
        assert found[row] == pytest.approx(np.trapezoid(curve, dx=0.25), abs=1e-4)


def test_synergy_in_closed_form(dual):
    # Left half first, "red" first: (1, 0) · (1, 0) = 1 with the first step; at the end the picture
    # is (1, 1)/√2 and so is the text: 1. Words or pixels alone give 0, as an empty side is 0.
    images, ids = np.ones((1, 3, 4, 4), np.float32), np.array([[BEGIN, RED, ROUND, END]])
    maps = np.zeros((1, 1, 4, 4))
    maps[..., :2] = 1
    good, bad = np.array([[0, 2.0, 1.0, 0]]), np.array([[0, 1.0, 2.0, 0]])
    for relative in (False, True):
        metric = SynergisticFaithfulness(**TEXT, steps=2, relative=relative)
        (score,) = metric(dual, images, ids, maps, custom_batch=good)
        np.testing.assert_allclose(metric.curves, [[0, 100, 100]], atol=1e-4)
        assert score == pytest.approx(75, abs=1e-4)
        (score,) = metric(dual, images, ids, maps, custom_batch=bad)  # (1, 0) · (0, 1) = 0
        assert score == pytest.approx(25, abs=1e-4)


def test_what_has_no_synergy(dual, pairs):
    images, ids, maps, words = pairs
    metric = SynergisticFaithfulness(**TEXT)
    with pytest.raises(ValueError, match="needs the captions' attributions: custom_batch="):
        metric(dual, images, ids, maps)
    bare = np.array([[BEGIN, END, PAD]])
    with pytest.raises(ValueError, match="a text of special tokens only"):
        metric(dual, images[:1], bare, maps[:1], custom_batch=np.zeros((1, 3)))
    with pytest.raises(TypeError, match="needs a dual encoder"):
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 2)).eval()
        metric(model, images, np.zeros(3, int), maps, custom_batch=words)
    relative = SynergisticFaithfulness(**TEXT, relative=True, undefined="nan")
    dark = np.zeros_like(images[:1])
    (score,) = relative(dual, dark, ids[:1], maps[:1], custom_batch=words[:1])
    assert np.isnan(score)


def explain(model, inputs, targets, seed=0, noise=0.0, **kwargs):
    """The image, weighted by how often its caption says "red"; with noise of a seed."""
    weight = (np.asarray(targets) == RED).sum(1)[:, None, None, None]
    ramp = np.linspace(0, 1, 16).reshape(1, 1, 4, 4)
    rng = np.random.default_rng(seed)
    return (1 - weight) * ramp + noise * rng.random((len(inputs), 1, 4, 4))


def test_a_map_that_reads_its_caption(dual, pairs):
    images, ids = pairs[:2]
    metric = PromptSensitivity(special_tokens=TEXT["special_tokens"], undefined="nan")
    ids[2] = [BEGIN, ROUND, RED, RED, END]
    # "red" counts 2, 0, 2: maps −ramp, +ramp, −ramp, and each is held against the next.
    assert metric(dual, images, ids, explain_func=explain) == pytest.approx([2, 2, 0])


def test_a_map_that_does_not_read(dual, pairs):
    images, ids = pairs[:2]
    metric = PromptSensitivity(special_tokens=TEXT["special_tokens"], null=4)

    def blind(model, inputs, targets, seed=0, **kwargs):
        return np.random.default_rng(seed).random((len(inputs), 1, 4, 4))

    assert metric(dual, images, ids, explain_func=blind) == pytest.approx([0, 0, 0], abs=1e-9)
    assert metric.null_scores.shape == (3, 4) and metric.p.tolist() == [1, 1, 1]
    first, again = (np.random.default_rng(seed).random((3, 1, 4, 4)) for seed in (0, 1))
    expected = 1 - stats.spearmanr(first[0].flatten(), again[0].flatten()).statistic
    assert metric.null_scores[0, 0] == pytest.approx(expected)


def test_a_change_beyond_the_noise(dual, pairs):
    images, ids = pairs[:2]
    ids[2] = [BEGIN, ROUND, RED, RED, END]
    metric = PromptSensitivity(special_tokens=TEXT["special_tokens"], null=4)
    given = {"explain_func": explain, "explain_func_kwargs": {"noise": 0.05}}
    scores = metric(dual, images, ids, **given)
    assert min(scores[:2]) > 1.9 and metric.null_scores.max() < 0.1
    assert metric.p.tolist() == [0.2, 0.2, 1.0]  # the third caption says "red" as often


def test_captions_are_changed_where_they_hold_words():
    ids = torch.tensor([[BEGIN, 7, 8, 9, END, PAD], [BEGIN, 7, 7, END, PAD, PAD]])
    content = ids > 4
    shuffled = changed_captions(ids, content, "shuffled", 1, ())
    assert sorted(shuffled[0].tolist()) == sorted(ids[0].tolist())
    assert (shuffled[0] != ids[0]).any() and torch.equal(shuffled[1], ids[1])
    random = changed_captions(ids, content, "gibberish", 1, [20, 21])
    assert torch.equal(random[~content], ids[~content])
    assert set(random[content].tolist()) <= {20, 21}
    alone = changed_captions(ids[:1], content[:1], "gibberish", 1, [20, 21])
    assert torch.equal(alone, random[:1])


def test_maps_are_compared_by_rank():
    maps = torch.rand(2, 5, 5, generator=torch.Generator().manual_seed(0))
    assert map_change(maps, maps.exp()).tolist() == pytest.approx([0, 0], abs=1e-6)
    coarse = maps.flip(0).double().round(decimals=1)
    rows = zip(maps.flatten(1), coarse.flatten(1), strict=True)
    expected = [1 - stats.spearmanr(*row).statistic for row in rows]
    found = map_change(maps, coarse)
    assert found.tolist() == pytest.approx(expected, abs=1e-6)


def test_prompts_that_can_not_be_changed(dual, pairs):
    images, ids, maps, _ = pairs
    special = TEXT["special_tokens"]
    same = np.repeat(ids[:1], 3, 0)
    with pytest.raises(ValueError, match=r"a caption that can't be changed \(samples \[0, 1, 2\]"):
        PromptSensitivity(special_tokens=special)(dual, images, same, explain_func=explain)
    with pytest.raises(TypeError, match="give explain_func=, not a_batch="):
        PromptSensitivity(special_tokens=special)(dual, images, ids, maps)
    with pytest.raises(ValueError, match="needs vocabulary="):
        PromptSensitivity(special_tokens=special, change="gibberish")
    with pytest.raises(ValueError, match='change must be one of "other"'):
        PromptSensitivity(special_tokens=special, change="translated")
    with pytest.raises(ValueError, match="null is a number of seeds, given -1"):
        PromptSensitivity(special_tokens=special, null=-1)
