"""Scenes of relations: what they say about themselves, and that the two objects alone decide."""

import math

import pytest
import torch

from captum_ib import zoo
from captum_ib.zoo import relations, scenes, worlds
from captum_ib.zoo.shapes import SHAPES

RING, STAR, FRONT = 3, 4, 5


def turned(monkeypatch, eighths):
    """The same scenes with the star (and the ring) turned about the middle of the two."""
    draw = relations.draw

    def drawn(*args, **kwargs):
        draws, noise = draw(*args, **kwargs)
        direction = (draws["direction"] + eighths / 8) % 1
        return {**draws, "direction": direction}, noise

    monkeypatch.setattr(relations, "draw", drawn)


def test_a_scene_depends_on_seed_and_index_only():
    whole, part = relations.labelled(6, seed=5), relations.labelled(2, seed=5, start=3)
    for name, value in vars(part).items():
        assert torch.equal(value, vars(whole)[name][3:5]), name
    assert not torch.equal(relations.labelled(6, seed=6).images, whole.images)


def test_the_scenes_of_a_seed_are_these():
    data = relations.labelled(12, seed=2026)
    assert data.images.shape == (12, 3, 96, 96) and data.masks.shape == (12, 7, 96, 96)
    assert data.labels.tolist() == [4, 6, 7, 5, 1, 4, 2, 4, 3, 2, 5, 3]
    assert data.present.sum(1).tolist() == [4, 5, 7, 4, 6, 4, 4, 7, 4, 3, 6, 4]
    pixels = [397, 330, 306, 428, 287, 313, 292, 349, 471, 352, 224, 439]
    assert data.mask.sum((1, 2)).tolist() == pytest.approx(pixels, abs=2)
    assert data.images.mean().item() == pytest.approx(0.49438, abs=1e-4)


def test_every_class_and_number_of_objects_is_as_frequent():
    data = relations.labelled(2000, seed=1, size=32)
    # Standard errors: √(1/8 · 7/8 / 2000) = 0.0074 and √(1/5 · 4/5 / 2000) = 0.0089; four of them.
    shares = data.labels.bincount(minlength=8) / 2000
    assert (shares - 1 / 8).abs().max() < 0.030
    counts = data.present.sum(1)
    # What would hide nearly all of the ring or the star is left out, so that few have fewer.
    assert (counts < 3).sum() < 20
    assert ((counts.bincount(minlength=8)[3:] / 2000) - 1 / 5).abs().max() < 0.036
    assert (data.seen >= 0.1).all() and data.seen.max() <= 1
    assert data.margin.min() >= 0 and data.margin.max() <= 22.5


def test_the_evidence_is_the_ring_and_the_star():
    data = relations.labelled(40, seed=3)
    assert data.evidence.nonzero()[:, 1].tolist() == [RING, STAR] * 40
    assert {SHAPES[kind] for kind in data.shapes[:, RING].tolist()} == {"ring"}
    assert {SHAPES[kind] for kind in data.shapes[:, STAR].tolist()} == {"star"}
    others = data.shapes[:, [0, 1, 2, 5, 6]]
    assert not {"ring", "star"} & {SHAPES[kind] for kind in others[others >= 0].tolist()}
    assert torch.equal(data.mask, data.ring | data.star) and not (data.ring & data.star).any()
    assert data.ring.any((1, 2)).all() and data.star.any((1, 2)).all()


def test_the_class_is_where_the_star_lies_seen_from_the_ring():
    # Alone and unhidden, the centres of gravity of the masks show it.
    data = relations.labelled(60, seed=4, objects=(2, 2))
    assert (data.present.sum(1) == 2).all() and (data.seen == 1).all()
    axis = torch.arange(96) + 0.5
    centres = []
    for mask in (data.ring.float(), data.star.float()):
        area = mask.sum((1, 2))
        centres.append(torch.stack([mask.sum(1) @ axis, mask.sum(2) @ axis], 1) / area[:, None])
    torch.testing.assert_close(torch.stack(centres, 1) / 96, data.centres, atol=0.01, rtol=0)
    clear = data.margin > 4
    dx, dy = (centres[1] - centres[0]).unbind(1)
    eighth = (torch.atan2(dy, dx) / (math.pi / 4)).round().long() % 8
    assert clear.sum() > 40 and torch.equal(eighth[clear], data.labels[clear])
    assert relations.DIRECTIONS[2] == "below"  # y points down, as in all images


def test_seen_is_the_share_that_nothing_hides():
    alone, data = (relations.labelled(60, seed=8, objects=count) for count in ((2, 2), (7, 7)))
    # Of the same numbers, the same ring and star: once alone, once among five others.
    pair = [RING, STAR]
    assert torch.equal(alone.centres, data.centres)
    share = data.cover[:, pair].sum((2, 3)) / alone.cover[:, pair].sum((2, 3))
    torch.testing.assert_close(share, data.seen, atol=1e-5, rtol=0)
    assert data.seen.mean().item() == pytest.approx(0.6687, abs=1e-3)


def test_only_the_pixels_of_the_two_tell_the_classes_apart(monkeypatch):
    # Without objects in front, which go with the two: turn them, and the class turns with them.
    first = relations.labelled(80, seed=6)
    turned(monkeypatch, 3)
    second = relations.labelled(80, seed=6)
    bare = (first.shapes[:, FRONT:] < 0).all(1) & (second.shapes[:, FRONT:] < 0).all(1)
    assert bare.sum() > 8
    assert torch.equal((first.labels + 3) % 8, second.labels)
    pair = (first.cover + second.cover)[:, [RING, STAR]].sum(1)
    differ = (first.images != second.images).any(1)
    assert not (differ & (pair == 0))[bare].any()
    # And where the two are taken out, nothing is left to tell the classes by.
    outside = (pair == 0)[:, None]
    assert torch.equal((first.images * outside)[bare], (second.images * outside)[bare])


def test_images_are_their_ground_exactly_where_nothing_lies():
    data = relations.labelled(20, seed=7)
    empty = (data.cover.sum(1) == 0)[:, None].expand_as(data.images)
    assert torch.equal(data.images[empty], data.ground[empty])
    inside = (data.cover.sum(1) > 0.5)[:, None]
    changed = (data.images != data.ground).any(1, keepdim=True)
    assert (changed & inside).sum() / inside.sum() > 0.99
    assert data.images.min() >= 0 and data.images.max() <= 1


def test_size_changes_the_drawing_and_nothing_else():
    small, large = (relations.labelled(8, seed=1, size=(96 * k, 128 * k)) for k in (1, 2))
    assert small.images.shape == (8, 3, 96, 128) and torch.equal(small.shapes, large.shapes)
    areas = [data.cover.sum((2, 3))[:, [RING, STAR]] for data in (small, large)]
    torch.testing.assert_close(areas[1], 4 * areas[0], rtol=0.06, atol=4)


@pytest.mark.parametrize(
    ("places", "probability"),
    [
        ((), 0.8116),
        ((RING,), 0.3376),
        ((STAR,), 0.4772),
        ((RING, STAR), 0.1944),  # chance is 0.125; what lies in front tells where the two are
        ((0, 1, 2, 5, 6), 0.8436),
    ],
)
def test_the_shipped_model_needs_both_objects_and_no_other(places, probability):
    # The mean probability of the class, where the objects at these places are wiped off.
    model, data = zoo.load("vit-relations"), relations.labelled(200, seed=1_000_003)
    cover = data.cover[:, list(places)].sum(1, keepdim=True)
    images = data.images + cover * (data.ground - data.images)
    with torch.no_grad():
        given = model.model(model.normalize(images)).softmax(1)
    mean = given.gather(1, data.labels[:, None]).mean().item()
    assert mean == pytest.approx(probability, abs=0.002)


@pytest.mark.parametrize("objects", [(1, 3), (5, 4), (3, 8)])
def test_numbers_of_objects_that_there_are_not(objects):
    with pytest.raises(ValueError, match=r"objects must be \(fewest, most\) within 2..7; got"):
        relations.labelled(1, objects=objects)


def test_classes_tell_the_generator():
    assert worlds.generator(list(scenes.NAMED_SHAPES)) is scenes.labelled
    assert worlds.generator(list(relations.DIRECTIONS)) is relations.labelled
    assert worlds.generator(None) is scenes.labelled
    assert worlds.generator(["cat", "dog"]) is None
