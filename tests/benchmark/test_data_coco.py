"""COCO annotations: regions, samples per image and category, and the phrases of MS-CXR."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from captum_ib import extras
from captum_ib.benchmark import DataConfig, UnreadableSampleError, open_data
from captum_ib.benchmark.data.regions import region_mask
from tests.benchmark.data_models import model

SIZE = (6, 7)
BLOCK = np.zeros(SIZE, dtype=bool)
BLOCK[1:4, 2:4] = True
SQUARE = [2, 1, 4, 1, 4, 4, 2, 4]  # the same block: x, y of its corners

# pycocotools 2.0.11: mask.encode(np.asfortranarray(BLOCK.astype(np.uint8)))["counts"]
PACKED = "=330a0"


PLAIN = [13, 3, 3, 3, 20]
ALL = [-9, -9, 99, -9, 99, 99, -9, 99]


def mask(**annotation):
    return region_mask(annotation, SIZE)


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
        ({"images": []}, "has no list annotations"),
        (change(images=[{"id": "a"}]), r"images\[0\] needs id \(int\), given 'a'"),
        (change(images=[{"id": 1}, {"id": 1}]), "two images have the id 1"),
        (change(annotations=[{"image_id": 1}]), r"annotations\[0\] needs category_id"),
        (change(annotations=[{"category_id": 1}]), r"annotations\[0\] needs image_id"),
        (change(annotations=[]), "has no annotations of cat, dog"),
        (change(categories=[{"id": 1}]), r"categories\[0\] needs name \(str\), given None"),
        (
            change(categories=[{"id": 1, "name": "a"}] * 2),
            "two categories have the id 1",
        ),
        (
            change(categories=[{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]),
            "two categories have the name 'a'",
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
        (b"", r"no JSON that can be used: Expecting value: line 1 column 1 \(char 0\)"),
        (b'{"images": [{"id": 1}', r"no JSON .*: Expecting ',' delimiter: .*char 21"),
        (b'{"images": [}', r"no JSON .*: Expecting value: line 1 column 13 \(char 12\)"),
        (b"}", r"no JSON .*: Expecting value: .*char 0"),
        (b'{"images": [], "images": []}', "it has the key 'images' twice in one object"),
        (b'{"images": ["\xff"]}', "no JSON .*: 'utf-8' codec can't decode byte 0xff"),
        (b"[" * 100_000, "no JSON .*"),
        (b"[1]", "has no list images"),
        (b'{"images": {}, "annotations": [], "categories": []}', "has no list images"),
    ],
)
def test_files_that_are_no_json(home, content, message):
    (home / "instances.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        coco(home)


def test_run_lengths():
    assert np.array_equal(mask(segmentation={"size": [6, 7], "counts": PACKED}), BLOCK)
    assert np.array_equal(mask(segmentation={"size": [6, 7], "counts": PLAIN}), BLOCK)
    assert mask(segmentation={"size": [6, 7], "counts": [0, 42]}).all()


@pytest.mark.parametrize("counts", ["", "=330", "!", "X", "o" * 20, "=330a0a0a0", "=\u20ac"])
def test_packed_run_lengths_that_do_not_cover_the_image(counts):
    # Of the first two, pycocotools makes a mask whose rest is whatever memory held before.
    with pytest.raises(ValueError, match="packed run lengths do not cover|Invalid RLE"):
        mask(segmentation={"size": [6, 7], "counts": counts})


def test_boxes():
    assert np.array_equal(mask(bbox=[2, 1, 2, 3]), BLOCK)
    assert np.array_equal(mask(bbox=[1.6, 0.7, 2.3, 3.2]), BLOCK)
    assert not mask(bbox=[2.6, 1, 0.3, 3]).any()
    assert mask(bbox=[-5, -5, 100, 100]).all()
    assert np.array_equal(
        region_mask({"bbox": [2, 1, 2, 3], "segmentation": [ALL]}, SIZE, True), BLOCK
    )


def test_polygons():
    assert np.array_equal(mask(segmentation=[SQUARE]), BLOCK)
    assert np.array_equal(mask(segmentation=[[2, 4, 4, 4, 4, 1, 2, 1]]), BLOCK)  # the other way
    assert mask(segmentation=[ALL]).all()
    # A triangle of 181.8 pixels, of which 183 have their centres inside and pycocotools takes 179.
    triangle = region_mask({"segmentation": [[3.2, 1.7, 27.4, 8.1, 9.9, 18.6]]}, (20, 30))
    assert triangle.sum() == 179


def test_several_polygons_are_one_region():
    left, right = [0, 0, 2, 0, 2, 2, 0, 2], [1, 0, 4, 0, 4, 2, 1, 2]
    assert mask(segmentation=[left, right]).sum() == 8  # where they overlap counts once


def test_coordinates_too_large_to_draw():
    with pytest.raises(ValueError, match="a polygon must be a list of numbers"):
        mask(segmentation=[[0, 0, 1e9, 0, 1e9, 1e9]])


def test_without_pycocotools(home, monkeypatch):
    def without(name):
        raise ModuleNotFoundError("No module named 'pycocotools'", name="pycocotools")

    data = coco(home)
    monkeypatch.setattr(extras, "import_module", without)
    with pytest.raises(ImportError, match="COCO's regions needs the package pycocotools: pip inst"):
        data.read(0)


def phrases():
    """As MS-CXR has them: a phrase for each box, several boxes of one phrase, a path below root."""
    box = {"bbox": [2, 1, 2, 3], "segmentation": []}
    return change(
        images=[{"id": 10, "file_name": "x.png", "path": "files/p10/a.png"}],
        annotations=[
            region(10, 2, label_text="opacity at the left base", **box),
            region(10, 1, label_text="small effusion", **box),
            region(10, 2, label_text="opacity at the left base", bbox=[0, 0, 1, 1]),
            region(10, 2, bbox=[5, 5, 2, 1]),
        ],
    )


def test_phrases_of_boxes(home):
    (home / "files" / "p10").mkdir(parents=True)
    (home / "a.png").rename(home / "files" / "p10" / "a.png")
    data = coco(home, phrases(), model("dual"))
    samples = [data.read(index) for index in range(len(data))]
    assert [(sample.id, sample.label, sample.caption) for sample in samples] == [
        ("10/cat/small effusion", "cat", "small effusion"),
        ("10/dog", "dog", "a photo of a dog"),
        ("10/dog/opacity at the left base", "dog", "opacity at the left base"),
    ]
    assert [int(sample.mask.sum()) for sample in samples] == [6, 2, 7]
    data = coco(home, loaded=model("dual"), caption="a {label}")
    assert [data.read(index).caption for index in range(len(data))] == ["a cat", "a dog"]
    assert [coco(home).read(index).mask.sum() for index in range(2)] == [6, 9]


def test_phrases_that_are_part_of_a_caption(home):
    """MDETR's files of Flickr30k and of referring expressions on COCO."""
    said = annotations()
    said["images"][1]["caption"] = "a cat near the big dog"
    boxes = {"bbox": [2, 1, 2, 3]}
    said["annotations"] = [
        region(10, 1, tokens_positive=[[0, 5]], **boxes),
        region(10, 2, tokens_positive=[[11, 14], [15, 22]], **boxes),
        region(10, 2, tokens_positive=[[0, 99]], **boxes),  # no part of the caption
        region(10, 1, tokens_positive="x", **boxes),
    ]
    (home / "odd.json").write_text(json.dumps(said))
    options = {"annotations": str(home / "odd.json"), "shuffle": None}
    found = open_data(DataConfig("coco", str(home), options), model("dual"))
    captions = [found.read(number).caption for number in range(len(found))]
    assert captions == ["a photo of a cat", "a cat", "a photo of a dog", "the big dog"]
