"""Folders of images by class: which class a folder is, which files count, and in which order."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib import resources
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.imagenet_info import ImageNetInfo
from torch import nn
from torchvision.models import ResNet18_Weights

from captum_ib.benchmark import DataConfig, UnreadableSampleError, open_data
from captum_ib.benchmark.data.labels import class_indices
from tests.benchmark.data_models import model


def fill(root, *paths):
    for number, path in enumerate(paths):
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((2, 3, 3), number, dtype=np.uint8)).save(file)


def folder(root, loaded=None, **options):
    return open_data(DataConfig("folder", str(root), options), loaded or model())


def test_folders_named_after_classes(tmp_path):
    fill(tmp_path, "ape/b.png", "ape/a/c.PNG", "Dog/x.jpg", "cat/y.webp")
    data = folder(tmp_path, shuffle=None)
    samples = [data.read(index) for index in range(len(data))]
    assert [sample.id for sample in samples] == [
        "Dog/x.jpg",
        "ape/b.png",
        "ape/a/c.PNG",
        "cat/y.webp",
    ]
    assert [sample.label for sample in samples] == [1, 2, 2, 0]
    assert [sample.image.size for sample in samples] == [(3, 2)] * 4
    assert np.asarray(samples[2].image).max() == 1
    assert samples[0].caption is samples[0].mask is samples[0].words is None


def test_what_is_no_image_does_not_count(tmp_path):
    fill(tmp_path, "cat/a.png", "cat/.hidden.png", "cat/.thumbs/b.png", ".git/c.png", "top.png")
    (tmp_path / "cat" / "notes.txt").write_text("x")
    data = folder(tmp_path)
    assert [data.id(index) for index in range(len(data))] == ["cat/a.png"]


def test_folders_in_order(tmp_path):
    fill(tmp_path, "n01/a.png", "n02/a.png", "n10/a.png")
    data = folder(tmp_path, shuffle=None)
    assert [data.read(index).label for index in range(3)] == [0, 1, 2]
    fill(tmp_path, "cat/a.png")
    with pytest.raises(
        ValueError, match=r"folder 'n01' is no class of a model \(they are called cat"
    ):
        folder(tmp_path)
    with pytest.raises(ValueError, match="there are 4 folders for the 3 classes of a model"):
        folder(tmp_path, labels="order")


@pytest.mark.parametrize(
    ("classes", "rule", "expected"),
    [
        (["2", "0"], "auto", [2, 0]),
        (["great_ape", "dog"], "names", [2, 1]),
        (["dog", "cat", "x"], "order", [0, 1, 2]),
        (["x", "y", "z"], "order", [0, 1, 2]),
    ],
)
def test_which_class_a_folder_is(classes, rule, expected):
    assert class_indices(classes, model(), rule) == expected


def test_classes_without_names():
    assert class_indices(["x", "y"], model(labels=None)) == [0, 1]
    assert class_indices(["7", "3"], model(labels=None)) == [7, 3]


@pytest.mark.parametrize(
    ("classes", "rule", "message"),
    [
        (["x", "y"], "auto", "there are 2 folders for the 3 classes of a model, and no folder"),
        (["x", "y"], "order", "there are 2 folders for the 3 classes of a model"),
        (["x"], "names", "folder 'x' is no class of a model"),
        (["cat", "5"], "auto", "folder '5' is no class"),
        (["ape", "great_ape"], "auto", "'ape' and 'great_ape' are the same class of a model, 2"),
    ],
)
def test_folders_that_are_no_classes(classes, rule, message):
    with pytest.raises(ValueError, match=message):
        class_indices(classes, model(), rule)


def test_captions_from_classes(tmp_path):
    fill(tmp_path, "golden_retriever/a.png")
    sample = folder(tmp_path, model("dual"), caption="a photo of a {label}").read(0)
    assert sample.caption == "a photo of a golden retriever"
    assert sample.label == "golden retriever"
    with pytest.raises(ValueError, match="say how a class becomes one, with the option caption"):
        folder(tmp_path, model("dual"))
    for wrong in ("a photo", "a {name}", "a {label"):
        with pytest.raises(ValueError, match=f"caption must hold {{label}}, given '{wrong}'"):
            folder(tmp_path, model("dual"), caption=wrong)


def test_the_first_samples_are_of_all_classes(tmp_path):
    fill(tmp_path, *(f"{name}/{number:02}.png" for name in ("cat", "dog") for number in range(20)))
    data = folder(tmp_path)
    first = [data.id(index) for index in range(10)]
    assert {name.split("/")[0] for name in first} == {"cat", "dog"}
    assert sorted(data.id(index) for index in range(40)) == sorted(
        f"{name}/{number:02}.png" for name in ("cat", "dog") for number in range(20)
    )
    again, other = folder(tmp_path), folder(tmp_path, shuffle=1)
    assert first == [again.id(index) for index in range(10)]
    assert first != [other.id(index) for index in range(10)]
    assert data.read(3).id == data.id(3)


def test_broken_images_are_named(tmp_path):
    fill(tmp_path, "cat/a.png", "cat/b.png")
    (tmp_path / "cat" / "a.png").write_bytes(b"no")
    data = folder(tmp_path, shuffle=None)
    with pytest.raises(UnreadableSampleError, match="^cat/a.png: image a.png can't be read"):
        data.read(0)
    assert data.read(1).label == 0
    (tmp_path / "cat" / "b.png").unlink()  # after it was found
    with pytest.raises(UnreadableSampleError, match="is missing"):
        data.read(1)


def test_names_that_are_not_utf8(tmp_path):
    fill(tmp_path, "cat/a.png")
    os.rename(bytes(tmp_path / "cat" / "a.png"), bytes(tmp_path) + b"/cat/\xff.png")
    data = folder(tmp_path)
    assert data.id(0) == "cat/\\xff.png"
    assert data.read(0).image.size == (3, 2)


@pytest.mark.parametrize("index", [-1, 1])
@pytest.mark.parametrize("shuffle", [None, 0])
def test_samples_that_are_not_there(tmp_path, index, shuffle):
    fill(tmp_path, "cat/a.png")
    data = folder(tmp_path, shuffle=shuffle)
    with pytest.raises(IndexError, match=f"sample {index} of 1"):
        data.read(index)


def test_folders_without_samples(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no folder of images by class"):
        folder(tmp_path / "x")
    fill(tmp_path, "a.png")
    with pytest.raises(ValueError, match="holds no folders, one per class"):
        folder(tmp_path)
    (tmp_path / "cat").mkdir()
    with pytest.raises(
        ValueError, match="holds no images: no file below its folders ends in .avif"
    ):
        folder(tmp_path)


def test_a_limit_of_pixels(tmp_path):
    fill(tmp_path, "cat/a.png")
    with pytest.raises(UnreadableSampleError, match="it has 6 pixels, more than 5"):
        folder(tmp_path, max_pixels=5).read(0)
    with pytest.raises(ValueError, match="max_pixels must be within"):
        folder(tmp_path, max_pixels=0)


IMAGENET = ImageNetInfo("imagenet-1k")
# By torchvision's list: 1 goldfish, 134 the bird, 517 the machine, 1000 - 1 toilet tissue.
SOME_IDS = {"n01443537": 1, "n02012849": 134, "n03126707": 517, "n15075141": 999}
TORCHVISION = ResNet18_Weights.IMAGENET1K_V1.meta["categories"]


@pytest.mark.parametrize("rule", ["auto", "names"])
@pytest.mark.parametrize("labels", [IMAGENET.label_descriptions(), TORCHVISION])
def test_wordnet_ids_of_some_of_a_thousand_classes(labels, rule):
    assert class_indices(list(SOME_IDS), model(labels=labels), rule) == list(SOME_IDS.values())


@pytest.mark.parametrize("subset", ["imagenet_a", "imagenet_r"])
def test_two_hundred_classes_are_those_that_timm_lists(subset):
    tables = resources.files("timm.data") / "_info"
    ids = (tables / f"{subset}_synsets.txt").read_text().split()
    places = [int(line) for line in (tables / f"{subset}_indices.txt").read_text().split()]
    loaded = model(labels=IMAGENET.label_descriptions())
    assert len(ids) == 200 and class_indices(ids, loaded) == places
    with pytest.raises(ValueError, match="there are 200 folders for the 1000 classes"):
        class_indices(ids, loaded, "order")


def test_wordnet_ids_of_all_classes_are_in_order():
    ids = sorted(IMAGENET.label_names())
    loaded = model(labels=IMAGENET.label_descriptions())
    assert class_indices(ids, loaded) == class_indices(ids, loaded, "order") == list(range(1000))


def test_wordnet_ids_of_a_model_with_classes_of_its_own():
    loaded = model(labels=["tench", "English springer", "a building", "goldfish"])
    assert class_indices(["n01440764", "n01443537", "n02102040"], loaded) == [0, 3, 1]
    for rest in ("n02012849", "n99999999"):
        with pytest.raises(ValueError, match=f"folder '{rest}' is no class of a model"):
            class_indices(["n01440764", rest], loaded)


def test_wordnet_ids_of_labels_in_another_order():
    labels = IMAGENET.label_descriptions()[::-1]
    assert class_indices(["n01440764", "n01443537"], model(labels=labels)) == [999, 998]
    with pytest.raises(ValueError, match="folder 'n02012849' is no class"):  # which crane?
        class_indices(["n01440764", "n02012849"], model(labels=labels))


def test_some_classes_in_order_are_the_wrong_ones():
    ids = list(SOME_IDS)
    with pytest.raises(ValueError, match="there are 4 folders for the 1000 classes of a model"):
        class_indices(ids, model(labels=IMAGENET.label_descriptions()), "order")
    unnamed = replace(model(labels=None), model=Mean(1000))
    with pytest.raises(ValueError, match="there are 4 folders for the 1000 classes of a model"):
        class_indices(ids, unnamed, "order")
    with pytest.raises(
        ValueError, match="WordNet ids, and a model does not name its classes; call"
    ):
        class_indices(ids, unnamed)
    assert class_indices(ids, replace(unnamed, model=Mean(4))) == [0, 1, 2, 3]


class Mean(nn.Module):
    """Logits for some classes, as a model of transformers gives them."""

    def __init__(self, classes):
        super().__init__()
        self.head = nn.Linear(3, classes, dtype=torch.bfloat16)

    def forward(self, pixels):
        return SimpleNamespace(logits=self.head(pixels.mean(dim=(2, 3))))


def test_pictures_of_a_folder_of_wordnet_ids(tmp_path):
    fill(tmp_path, "n01443537/a.png", "n03126707/a.png")
    data = folder(tmp_path, model(labels=IMAGENET.label_descriptions()), shuffle=None)
    assert [data.read(index).label for index in range(2)] == [1, 517]
    data = folder(tmp_path, model("dual"), shuffle=None, caption="a photo of a {label}")
    captions = [data.read(index).caption for index in range(2)]
    assert captions == ["a photo of a goldfish", "a photo of a crane"]


def test_names_that_are_not_utf8_in_reasons_and_captions(tmp_path):
    fill(tmp_path, "cat/a.png")
    (tmp_path / "cat" / "a.png").write_bytes(b"no")
    os.rename(bytes(tmp_path / "cat" / "a.png"), bytes(tmp_path) + b"/cat/\xff.png")
    data = folder(tmp_path)
    with pytest.raises(UnreadableSampleError) as caught:
        data.read(0)
    told = r"cat/\xff.png: image \xff.png can't be read: it is no picture that Pillow knows"
    assert str(caught.value) == told
    os.unlink(bytes(tmp_path) + b"/cat/\xff.png")
    with pytest.raises(UnreadableSampleError) as caught:
        data.read(0)
    assert caught.value.reason == rf"image {tmp_path}/cat/\xff.png is missing"
    fill(tmp_path, "dog/a.png")
    os.rename(tmp_path / "dog", bytes(tmp_path) + b"/dog\xe9")
    sample = folder(tmp_path, model("dual"), caption="a {label}").read(0)
    assert (sample.id, sample.label, sample.caption) == (r"dog\xe9/a.png", r"dog\xe9", r"a dog\xe9")
    with pytest.raises(ValueError) as caught:
        folder(tmp_path, labels="names")
    assert str(caught.value).encode()  # can be printed


def test_linked_folders_of_images(tmp_path):
    fill(tmp_path / "elsewhere", "a.png")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "cat").symlink_to(tmp_path / "elsewhere")
    assert folder(tmp_path / "root").id(0) == "cat/a.png"
