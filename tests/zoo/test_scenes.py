"""The scenes: what they say about themselves must be true of their pixels."""

import pytest
import torch
from torch.nn import functional

from captum_ib.zoo import scenes
from captum_ib.zoo.captions import NO_MENTION, describes, holds, is_content, vocabulary, write
from captum_ib.zoo.shapes import COLOURS, NAMED_SHAPES, SHAPES, coverage
from captum_ib.zoo.tokenizer import WordTokenizer

KINDS = [scenes.captioned, scenes.labelled]


def fields(data):
    return {name: value for name, value in vars(data).items() if isinstance(value, torch.Tensor)}


def same(first, second):
    return all(torch.equal(value, fields(second)[name]) for name, value in fields(first).items())


@pytest.mark.parametrize("make", KINDS)
def test_a_scene_depends_on_seed_and_index_only(make):
    whole = make(6, seed=5)
    part = make(2, seed=5, start=3)
    for name, value in fields(part).items():
        assert torch.equal(value, fields(whole)[name][3:5]), name
    assert same(make(6, seed=5), whole)
    assert not torch.equal(make(6, seed=6).images, whole.images)
    if make is scenes.captioned:
        assert part.captions == whole.captions[3:5]


@pytest.mark.parametrize("make", KINDS)
def test_a_generator_gives_the_seed_and_the_global_one_is_left_alone(make):
    before = torch.random.get_rng_state()
    first = make(2, seed=torch.Generator().manual_seed(1))
    assert same(first, make(2, seed=torch.Generator().manual_seed(1)))
    generator = torch.Generator().manual_seed(1)
    assert same(first, make(2, seed=generator))
    assert not same(first, make(2, seed=generator))  # the generator has moved on
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("make", KINDS)
def test_size_changes_the_drawing_and_nothing_else(make):
    small, large = make(8, seed=1, size=(80, 112)), make(8, seed=1, size=(160, 224))
    assert small.images.shape == (8, 3, 80, 112) and large.masks.shape == (8, 4, 160, 224)
    assert torch.equal(small.shapes, large.shapes) and torch.equal(small.colours, large.colours)
    # Twice the size, four times the area: the cover measures it to a fraction of a pixel.
    areas = [data.cover.sum((2, 3))[data.present] for data in (small, large)]
    torch.testing.assert_close(areas[1], 4 * areas[0], rtol=0.02, atol=0)


@pytest.mark.parametrize("make", KINDS)
def test_images_differ_from_their_ground_exactly_where_an_object_is_seen(make):
    data = make(64, seed=2)
    assert data.images.min() >= 0 and data.images.max() <= 1
    cover = data.cover.sum(1)
    assert data.cover.min() == 0 and cover.max() <= 1 + 1e-6
    differs = (data.images - data.ground).abs().amax(1)
    assert torch.equal(
        data.images.movedim(1, -1)[cover == 0], data.ground.movedim(1, -1)[cover == 0]
    )
    assert (differs[cover > 0.01] > 0).all()
    assert torch.equal(data.masks, data.cover > 0.5)
    assert data.masks.sum(1).max() == 1  # never two objects at one pixel
    # At one size or another, edges are one pixel wide: mixed pixels are few.
    assert ((cover > 0) & (cover < 1)).sum() < 0.5 * (cover > 0).sum()


@pytest.mark.parametrize("make", KINDS)
def test_masked_pixels_have_the_colour_that_the_scene_states(make):
    data = make(64, seed=3)
    palette = torch.tensor(list(COLOURS.values()))
    inner = -functional.max_pool2d(-data.masks.float(), 3, 1, 1)  # without the mixed pixels
    for image, place in data.present.nonzero().tolist():
        where = inner[image, place] > 0
        if where.sum() < 5:
            continue
        mean = data.images[image][:, where].mean(1)
        nearest = (palette - mean).square().sum(1).argmin()
        assert nearest == data.colours[image, place]


@pytest.mark.parametrize("make", KINDS)
def test_places_without_object_are_empty_and_boxes_are_tight(make):
    data = make(32, seed=4, objects=(1, 3))
    assert data.present.sum(1).unique().tolist() == [1, 2, 3]
    assert not data.masks[~data.present].any() and not data.boxes[~data.present].any()
    for image, place in data.present.nonzero().tolist():
        rows, columns = data.masks[image, place].nonzero(as_tuple=True)
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert data.boxes[image, place].tolist() == [int(side) for side in box]


def test_every_object_can_be_seen():
    data = scenes.captioned(500, seed=8)
    assert data.masks.flatten(2).sum(-1)[data.present].min() >= 20  # of 3136 pixels


def test_captions_are_true_complete_and_within_the_vocabulary():
    data = scenes.captioned(300, seed=5)
    words, tokenizer = vocabulary(), WordTokenizer(vocabulary())
    assert holds(data.mentions, data.colours, data.shapes).diagonal().all()
    for index, caption in enumerate(data.captions):
        split = caption.split()
        assert len(split) <= 14 and set(split) <= set(words)
        content = [word for word in split if is_content(word)]
        assert data.content[index] == [word in content for word in split]
        named = []  # what the sentence says, read back from its words
        for word, following in zip(split, [*split[1:], ""], strict=True):
            if word in COLOURS:
                named.append((word, following if following in SHAPES else None))
        shapes_only = [
            (None, word)
            for previous, word in zip(["", *split], split, strict=False)
            if word in SHAPES and previous not in COLOURS
        ]
        assert 1 <= len(named + shapes_only) <= 3
        for place in range(scenes.MAX_OBJECTS):
            there = bool(data.present[index, place])
            colour = list(COLOURS)[data.colours[index, place]] if there else ""
            shape = SHAPES[data.shapes[index, place]] if there else ""
            said = any(
                there and c in (colour, None) and s in (shape, None) for c, s in named + shapes_only
            )
            assert said == bool(data.mentioned[index, place])
    tokenizer.encode(data.captions)
    assert torch.equal(data.mask, (data.masks & data.mentioned[..., None, None]).any(1))


def test_some_captions_leave_something_open_and_some_objects_unnamed():
    data = scenes.captioned(1000, seed=6)
    # With 1, 2, 3, 4 objects the caption names all of them in 1, 1/2, 1/3, 0 of the cases, and
    # only one in 1, 1/2, 1/3, 1/3; then one in five leaves something open. 4 standard errors.
    unnamed, lone = 1 - (1 + 1 / 2 + 1 / 3) / 4, (1 + 1 / 2 + 2 / 3) / 4
    for counted, share in (
        ((data.present & ~data.mentioned).any(1), unnamed),
        ((data.mentions[:, 0] == -1).any(1), lone / 5),
    ):
        assert abs(counted.sum().item() - 1000 * share) < 4 * (1000 * share * (1 - share)) ** 0.5


def test_no_two_objects_share_colour_and_shape():
    data = scenes.captioned(300, seed=7)
    pairs = data.colours * len(SHAPES) + data.shapes
    for row, present in zip(pairs, data.present, strict=True):
        assert len(row[present].unique()) == present.sum()


def test_holds_against_written_out_cases():
    red, blue, circle, star = 0, 2, 0, 5
    colours = torch.tensor([[red, blue, -1], [blue, red, -1], [red, -1, -1]])
    shapes = torch.tensor([[circle, star, -1], [circle, star, -1], [circle, -1, -1]])
    gone = [NO_MENTION, NO_MENTION]
    mentions = torch.tensor(
        [
            [[red, circle], gone],  # a red circle
            [[red, circle], [blue, star]],  # a red circle and a blue star
            [[-1, star], gone],  # a star
            [[blue, -1], gone],  # a blue shape
        ]
    )
    expected = [[True, False, True], [True, False, False], [True, True, False], [True, True, False]]
    assert holds(mentions, colours, shapes).tolist() == expected
    assert describes(mentions[1], colours[0], shapes[0]).tolist() == [
        [True, False, False],
        [False, True, False],
    ]


def test_write_agrees_articles_and_leaves_open_what_is_unsaid():
    orange, green, square = 5, 1, 1
    assert write([(orange, square)], (0, 0, 0)) == ["an", "orange", "square"]
    assert write([(-1, square)], (0, 0, 0)) == ["a", "square"]
    assert (
        write([(green, -1)], (0.2, 0, 0.9))
        == "a photo of a green shape on a noisy background".split()
    )
    two = write([(green, square), (orange, 0)], (0, 0.99, 0))
    assert two == "a green square next to an orange circle".split()


def test_the_class_is_the_one_shape_that_is_no_distractor():
    data = scenes.labelled(500, seed=9)
    named = data.present & (data.shapes < len(NAMED_SHAPES))
    assert torch.equal(named, data.evidence) and (named.sum(1) == 1).all()
    assert torch.equal(data.shapes[named], data.labels)
    assert torch.equal(data.mask, data.masks[named])
    # All classes and all numbers of objects occur about equally often: within 4 standard errors.
    assert ((data.labels.bincount(minlength=7) - 500 / 7).abs() < 4 * (500 * 6 / 49) ** 0.5).all()
    counts = data.present.sum(1).bincount(minlength=5)[1:]
    assert ((counts - 125).abs() < 4 * (500 * 3 / 16) ** 0.5).all()


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        ("circle", torch.pi * 0.92**2),
        ("square", 1.6**2),
        ("triangle", 3 * 3**0.5 * 0.55**2),
        ("cross", 4 * 0.95 * 0.3 * 2 - 4 * 0.3**2),
        ("ring", torch.pi * (0.94**2 - 0.46**2)),
        ("star", 5 * 1.05 * 0.45 * 0.5877852522924731),
        ("diamond", 2 * 0.62 * 1.02),
        ("bar", 4 * 1.02 * 0.30),
        ("oval", torch.pi * 1.02 * 0.50),
    ],
)
def test_shapes_cover_the_area_that_geometry_gives(shape, area):
    radius = 90.0
    cover = coverage(
        torch.tensor([[SHAPES.index(shape)]]),
        torch.tensor([[[101.3, 98.6]]]),
        torch.tensor([[radius]]),
        torch.tensor([[0.4]]),
        (200, 200),
    )
    assert cover.sum().item() / radius**2 == pytest.approx(area, rel=2e-3)


def test_rotation_is_clockwise():
    bar = torch.tensor([[SHAPES.index("bar")]])
    cover = coverage(
        bar,
        torch.full((1, 1, 2), 20.0),
        torch.tensor([[18.0]]),
        torch.tensor([[torch.pi / 4]]),
        (40, 40),
    )
    assert cover[0, 0, 30, 30] == 1 and cover[0, 0, 10, 10] == 1  # down to the right
    assert cover[0, 0, 30, 10] == 0 and cover[0, 0, 10, 30] == 0


def test_demo_is_the_same_every_time():
    data = scenes.demo(3)
    assert data.captions == scenes.demo(3).captions
    assert data.images.shape == (3, 3, 56, 56) and data.present.sum(1).min() >= 2


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"n": 0}, ValueError, "n must be at least 1; got 0"),
        ({"n": 2.0}, TypeError, "n must be a whole number; got 2.0"),
        ({"n": 1, "start": -1}, ValueError, "start must be at least 0; got -1"),
        ({"n": 1, "size": 8}, ValueError, "size must be at least 16; got 8"),
        ({"n": 1, "size": (64,)}, ValueError, r"size must be .* \(height, width\); got \(64,\)"),
        ({"n": 1, "seed": -1}, ValueError, "seed must be in 0"),
        ({"n": 1, "seed": "a"}, TypeError, "seed must be a whole number or a torch.Generator"),
        ({"n": 1, "objects": (0, 2)}, ValueError, r"objects must be .* within 1..4; got \(0, 2\)"),
        ({"n": 1, "objects": (3, 2)}, ValueError, "objects must be"),
    ],
)
def test_bad_arguments_are_refused(make, given, error, message):
    with pytest.raises(error, match=message):
        make(**given)
