"""COCO annotations: regions, the index of a large file, and samples per image and category."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from captum_ib.benchmark import DataConfig, UnreadableSampleError, open_data
from captum_ib.benchmark.data import json_spans
from captum_ib.benchmark.data.json_spans import find_lists
from captum_ib.benchmark.data.regions import box_mask, polygon_mask, run_length_mask, unpack
from tests.benchmark.data_models import model

SIZE = (6, 7)
BLOCK = np.zeros(SIZE, dtype=bool)
BLOCK[1:4, 2:4] = True
SQUARE = [2, 1, 4, 1, 4, 4, 2, 4]  # the same block: x, y of its corners

# pycocotools 2.0.11: mask.encode(np.asfortranarray(BLOCK.astype(np.uint8)))["counts"]
PACKED = "=330a0"


def region(image, category, **shape):
    return {"image_id": image, "category_id": category, "iscrowd": 0, **shape}


def annotations():
    return {
        "info": {"categories": ["no such list"], "text": 'a "quoted" } bracket'},
        "images": [
            {"id": 30, "file_name": "c.png", "height": 6, "width": 7},
            {"id": 10, "file_name": "a.png", "height": 6, "width": 7},
            {"id": 20, "file_name": "b.png", "height": 6, "width": 7},
        ],
        "annotations": [
            region(20, 2, segmentation=[SQUARE], bbox=[0, 0, 7, 6]),
            region(10, 1, segmentation={"size": [6, 7], "counts": PACKED}),
            region(10, 2, bbox=[2, 1, 2, 3], segmentation=[]),
            region(10, 1, segmentation=[[5, 0, 7, 0, 7, 2, 5, 2]]),
            region(30, 9, bbox=[0, 0, 1, 1]),
        ],
        "categories": [
            {"id": 1, "name": "cat", "supercategory": "animal"},
            {"id": 2, "name": "dog"},
            {"id": 9, "name": "tree"},
        ],
    }


@pytest.fixture
def home(tmp_path):
    for number, name in enumerate("abc"):
        Image.fromarray(np.full((*SIZE, 3), number, dtype=np.uint8)).save(tmp_path / f"{name}.png")
    return tmp_path


def coco(home, content=None, loaded=None, **options):
    file = home / "instances.json"
    if content is not None or not file.exists():
        file.write_text(json.dumps(content or annotations(), indent=1))
    options = {"annotations": str(file), "shuffle": None, **options}
    return open_data(DataConfig("coco", str(home), options), loaded or model())


def test_samples_per_image_and_category(home):
    data = coco(home)
    samples = [data.read(index) for index in range(len(data))]
    assert [sample.id for sample in samples] == ["10/cat", "10/dog", "20/dog"]  # a tree is no class
    assert [sample.label for sample in samples] == [0, 1, 1]
    assert [int(np.asarray(sample.image).max()) for sample in samples] == [0, 0, 1]
    both = BLOCK.copy()
    both[:2, 5:7] = True
    for sample, mask in zip(samples, (both, BLOCK, BLOCK), strict=True):
        assert np.array_equal(sample.mask, mask)


def test_captions_for_two_towers(home):
    data = coco(home, loaded=model("dual"))
    assert [data.read(index).caption for index in range(4)] == [
        "a photo of a cat", "a photo of a dog", "a photo of a dog", "a photo of a tree",
    ]  # fmt: skip
    data = coco(home, loaded=model("dual"), caption="the {label}", categories=["tree"])
    assert (len(data), data.read(0).caption) == (1, "the tree")
    with pytest.raises(ValueError, match="caption must hold {label}, given 'a photo'"):
        coco(home, loaded=model("dual"), caption="a photo")


def test_boxes_instead_of_masks(home):
    data = coco(home, shapes="box")
    assert data.read(2).mask.all()
    with pytest.raises(UnreadableSampleError, match="10/cat: .* neither a segmentation nor a bbox"):
        data.read(0)


def test_shuffled(home):
    ids = [[coco(home, shuffle=s).id(index) for index in range(3)] for s in range(8)]
    assert len(set(map(tuple, ids))) > 1
    assert {tuple(sorted(names)) for names in ids} == {("10/cat", "10/dog", "20/dog")}
    with pytest.raises(IndexError, match="sample 3 of 3"):
        coco(home).id(3)


def change(**lists):
    return {**annotations(), **lists}


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (region(10, 1, segmentation=[[1, 1, 2, 2]]), "x and y of 3 corners or more, given 4"),
        (region(10, 1, segmentation=[[1, 1, 2, 2, 3]]), "3 corners or more, given 5"),
        (region(10, 1, segmentation=[[1, 1, 2, 2, 3, "4"]]), "polygon must be a list of numbers"),
        (region(10, 1, segmentation=[["x"]]), "polygon must be a list of numbers"),
        (
            region(10, 1, segmentation={"size": [7, 6], "counts": PACKED}),
            r"size \[7, 6\], the image",
        ),
        (region(10, 1, segmentation={"size": [6, 7]}), "counts must be a list of numbers"),
        (region(10, 1, segmentation={"size": 6, "counts": PACKED}), "for size 6, the image has"),
        (region(10, 1, segmentation={"size": [6, 7], "counts": [41]}), "cover 41 of 42 pixels"),
        (region(10, 1, segmentation={"size": [6, 7], "counts": [50, -8]}), "cover 42 of 42"),
        (region(10, 1, bbox=[0, 0, 2]), "a box must be 4 numbers, given 3"),
        (region(10, 1, bbox=[8, 8, 2, 2]), "the annotations cover no pixel of the image"),
        (region(10, 1, bbox=[0, 0, float("nan"), 1]), "a box must be a list of numbers"),
        (region(40, 1, bbox=[0, 0, 2, 2]), "name image 40, which is not among the images"),
    ],
)
def test_annotations_that_can_not_be_read(home, annotation, message):
    data = coco(home, change(annotations=[annotation, region(20, 2, bbox=[0, 0, 2, 2])]))
    bad = 1 if annotation["image_id"] == 40 else 0
    with pytest.raises(UnreadableSampleError, match=message):
        data.read(bad)
    assert data.read(1 - bad).mask.sum() == 4


def test_images_that_can_not_be_read(home):
    (home / "a.png").unlink()
    (home / "b.png").write_bytes(b"")
    data = coco(home)
    with pytest.raises(UnreadableSampleError, match="^10/cat: image .*a.png is missing"):
        data.read(0)
    with pytest.raises(UnreadableSampleError, match="^20/dog: image b.png can't be read"):
        data.read(2)
    data = coco(home, change(images=[{"id": 10}, {"id": 20, "file_name": 3}, {"id": 30}]))
    with pytest.raises(UnreadableSampleError, match="image 20 has no file_name"):
        data.read(2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": []}, "has no list annotations and no list categories"),
        (change(images=[{"id": "a"}]), r"images\[0\] needs id, a whole number; it is 'a'"),
        (change(images=[{"id": 1}, {"id": 1}]), "two images have the id 1"),
        (change(annotations=[{"image_id": 1}]), r"annotations\[0\] needs category_id"),
        (change(annotations=[{"category_id": 1}]), r"annotations\[0\] needs image_id"),
        (change(annotations=[]), "has no annotations of cat, dog"),
        (change(categories=[{"id": 1}]), r"categories\[0\] needs an id of its own and a name"),
        (
            change(categories=[{"id": 1, "name": "a"}] * 2),
            r"categories\[1\] needs an id of its own",
        ),
        (
            change(categories=[{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]),
            "two categories are called 'a'",
        ),
        (
            change(categories=[{"id": 1, "name": "a"}]),
            r"none of the categories \(a, ...\) is a class",
        ),
    ],
)
def test_files_that_are_no_annotations(home, content, message):
    with pytest.raises(ValueError, match=message):
        coco(home, content)


def test_options_that_do_not_fit(home):
    with pytest.raises(ValueError, match="has no category 'dogs'; did you mean 'dog'?"):
        coco(home, categories=["dogs"])
    with pytest.raises(ValueError, match="category 'tree': target 'tree' is none of the 3 labels"):
        coco(home, categories=["tree"])
    with pytest.raises(ValueError, match="needs the option annotations"):
        open_data(DataConfig("coco", str(home)), model())
    with pytest.raises(FileNotFoundError, match="annotations .*x.json are not there"):
        coco(home, annotations=str(home / "x.json"))
    with pytest.raises(FileNotFoundError, match="is no folder of images"):
        open_data(DataConfig("coco", str(home / "x")), model())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b'{"images": [{"id": 1}', "ends too early: 2 brackets are open"),
        (b'{"images": [}', "a wrong bracket at byte 12"),
        (b"}", "a wrong bracket at byte 0"),
        (b'{"images": [], "images": []}', "has the key 'images' twice"),
    ],
)
def test_files_that_are_no_json(tmp_path, content, message):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        find_lists(path, ["images"])


def test_lists_are_found_where_they_are(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(
        '{"x": {"a": [{"no": 1}]}, "b": "a", "a" : [{"y": "} \\" ]"}, {"z": [{"w": {}}]}], "c": []}'
    )
    lists = find_lists(path, ["a", "c", "d"])
    assert {key: len(spans) for key, spans in lists.items()} == {"a": 2, "c": 0}
    assert lists["a"].read(0) == {"y": '} " ]'}
    assert lists["a"].read(1) == {"z": [{"w": {}}]}


def test_files_larger_than_what_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(json_spans, "_HELD", 1000)
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"a": [{"n": n, "text": "x" * 90} for n in range(200)]}))
    entries = find_lists(path, ["a"])["a"]
    assert [entries.read(index)["n"] for index in range(len(entries))] == list(range(200))


def test_an_entry_that_is_no_json(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'{"a": [{"x": 1,}, {"y": "\xff"}]}')
    entries = find_lists(path, ["a"])["a"]
    for index in range(2):
        with pytest.raises(ValueError):
            entries.read(index)


def test_run_lengths():
    assert np.array_equal(run_length_mask({"size": SIZE, "counts": PACKED}, SIZE), BLOCK)
    plain = {"size": [6, 7], "counts": [13, 3, 3, 3, 20]}
    assert np.array_equal(run_length_mask(plain, SIZE), BLOCK)
    assert unpack(PACKED) == [13, 3, 3, 3, 20]


def test_packed_numbers_by_hand():
    # 1000 = 8 + 31 * 32: its low five bits (8) with "more follow" (32), then 31 with the same, then
    # 0, for bit 4 of the last one would be the sign.
    assert unpack(chr(48 + 8 + 32) + chr(48 + 31 + 32) + chr(48)) == [1000]
    assert unpack(chr(48 + 31)) == [-1]
    with pytest.raises(ValueError, match="can't hold '!'"):
        unpack("!")
    with pytest.raises(ValueError, match="end in the middle of a number"):
        unpack("X")
    with pytest.raises(ValueError, match="can't hold"):
        unpack("o" * 20)


def test_boxes_take_pixels_by_their_centres():
    assert np.array_equal(box_mask([2, 1, 2, 3], SIZE), BLOCK)
    assert np.array_equal(box_mask([1.6, 0.7, 2.3, 3.2], SIZE), BLOCK)
    assert not box_mask([2.6, 1, 0.3, 3], SIZE).any()
    assert box_mask([-5, -5, 100, 100], SIZE).all()


def test_polygons_take_pixels_by_their_centres():
    assert np.array_equal(polygon_mask([SQUARE], SIZE), BLOCK)
    assert np.array_equal(
        polygon_mask([SQUARE[::-1]], SIZE[::1]), polygon_mask([[4, 2, 4, 4, 1, 4, 1, 2]], SIZE)
    )
    assert polygon_mask([[-9, -9, 99, -9, 99, 99, -9, 99]], SIZE).all()
    # Against the definition, for a triangle: inside of all three edges.
    rows, columns = np.mgrid[0:20, 0:30] + 0.5
    corners = [(3.2, 1.7), (27.4, 8.1), (9.9, 18.6)]
    inside = np.ones((20, 30), dtype=bool)
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        inside &= (x1 - x0) * (rows - y0) - (y1 - y0) * (columns - x0) > 0
    assert np.array_equal(polygon_mask([np.ravel(corners).tolist()], (20, 30)), inside)


def test_several_polygons_are_one_region():
    left, right = [0, 0, 2, 0, 2, 2, 0, 2], [1, 0, 4, 0, 4, 2, 1, 2]
    assert polygon_mask([left, right], SIZE).sum() == 8  # where they overlap counts once
