"""Degraded pairs: what the metrics themselves see, value by value."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("quantus", reason="quantus is not installed")

from captum_ib import DualEncoder, zoo
from captum_ib.metrics import ConfidenceDrop, ROARPlus, degraded_sample


@pytest.fixture(scope="module")
def pairs():
    clip = zoo.load("clip-scenes")
    scenes = zoo.scenes.captioned(4, seed=3, size=clip.image_size)
    ids, mask = clip.tokenizer(scenes.captions)
    generator = np.random.default_rng(0)
    maps = generator.random((4, 1, *clip.image_size)), generator.random(tuple(ids.shape))
    words = {
        "special_tokens": (clip.tokenizer.pad_id, clip.tokenizer.bos_id, clip.tokenizer.eos_id),
        "blank_token": clip.tokenizer.words.index("a"),
    }
    dual = DualEncoder.from_model(clip.model)
    return dual, clip.normalize(scenes.images), ids, mask, maps, words


def test_kept_pairs_have_the_scores_of_confidence_drop(pairs):
    dual, images, ids, mask, maps, words = pairs
    found = degraded_sample(images, ids, *maps, mask=mask, **words)
    sides = (("image", found.kept_image, ids), ("text", images, found.kept_text))
    for number, (side, image, text) in enumerate(sides):
        metric = ConfidenceDrop(modality=side, **words)
        x, y = (images, ids) if side == "image" else (ids, images)
        metric(dual, x.numpy(), y.numpy(), a_batch=maps[number], device="cpu")
        with torch.no_grad():
            after = dual(image, text, mask)
        np.testing.assert_allclose(metric.after, after.numpy(), atol=1e-5)


def test_removed_pairs_are_those_that_roar_trains_on(pairs):
    _, images, ids, mask, maps, words = pairs
    found = degraded_sample(images, ids, *maps, mask=mask, **words)
    roar = ROARPlus(**words)
    rows = torch.arange(4)
    assert torch.equal(found.removed_image, roar._degrade("image", images, maps[0], (), rows))
    assert torch.equal(found.removed_text, roar._degrade("text", ids, maps[1], (mask,), rows))
    assert float((found.removed_image != images).any(1).float().mean()) == pytest.approx(
        0.25, abs=0.01
    )


def test_a_constant_map_is_refused(pairs):
    _, images, ids, mask, maps, words = pairs
    with pytest.raises(ValueError, match="a map is constant, so it ranks no pixel"):
        degraded_sample(images, ids, np.ones_like(maps[0]), maps[1], mask=mask, **words)
