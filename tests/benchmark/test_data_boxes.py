"""PASCAL VOC and Flickr30k Entities: lists, XML, palettes and phrases, and hostile ones of them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from captum_ib.benchmark import DataConfig, UnreadableSampleError, open_data
from captum_ib.benchmark.data.objects_xml import Listed, boxes_mask, listed_objects
from tests.benchmark.data_models import model


def xml(*objects):
    rows = []
    for names, box in objects:
        edges = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=False)
        inside = "".join(f"<{edge}>{value}</{edge}>" for edge, value in edges)
        named = "".join(f"<name>{name}</name>" for name in names.split())
        # A part of a person has a name and a box too, which are not the object's.
        part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
        rows.append(f"<object>{named}{part}{f'<bndbox>{inside}</bndbox>' if box else ''}</object>")
    return f"<annotation><folder>VOC</folder>{''.join(rows)}</annotation>"


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        path.write_text(content, "utf-8")
    else:
        content.save(path)


def grey(shape=(4, 6)):
    return Image.fromarray(np.zeros((*shape, 3), np.uint8))


INDICES = np.zeros((4, 6), np.uint8)
INDICES[0, :2], INDICES[1:3, 2:5], INDICES[3] = 8, 12, 255  # a cat, a dog, the seam


@pytest.fixture
def voc(tmp_path):
    put(tmp_path / "ImageSets/Segmentation/val.txt", "2007_01\n2007_02\n")
    put(tmp_path / "ImageSets/Main/val.txt", "2007_01  1\n\n2007_02 -1\n")
    both = xml(("cat", (1, 1, 2, 1)), ("dog", (3, 2, 5, 3)), ("dog", (6, 4, 6, 4)))
    put(tmp_path / "Annotations/2007_01.xml", both)
    put(tmp_path / "Annotations/2007_02.xml", xml(("person", (1, 1, 6, 4))))
    palette = Image.new("P", (6, 4))
    palette.putpalette(list(range(256)) * 3)
    palette.putdata(INDICES.flatten().tolist())
    put(tmp_path / "SegmentationClass/2007_01.png", palette)
    for name in ("2007_01", "2007_02"):
        put(tmp_path / f"JPEGImages/{name}.jpg", grey())
    return tmp_path


def open_voc(home, loaded=None, **options):
    return open_data(DataConfig("voc", str(home), options), loaded or model())


def test_voc_by_pixels(voc):
    found = open_voc(voc, shuffle=None)
    samples = [found.read(number) for number in range(len(found))]
    # The model knows cat and dog, so the person is left out.
    named = [(sample.id, sample.label) for sample in samples]
    assert named == [("2007_01/cat", 0), ("2007_01/dog", 1)]
    for sample, value in zip(samples, (8, 12), strict=True):
        assert (sample.mask == (value == INDICES)).all()


def test_voc_by_boxes(voc):
    found = open_voc(voc, shapes="box", categories=["dog"], shuffle=None)
    (sample,) = (found.read(number) for number in range(len(found)))
    expected = np.zeros((4, 6), bool)
    expected[1:3, 2:5] = expected[3, 5] = True  # counted from 1, both ends inside
    assert (sample.mask == expected).all()


def test_voc_for_two_towers(voc):
    found = open_voc(voc, model("dual"), shapes="box", shuffle=None)
    samples = [found.read(number) for number in range(len(found))]
    captions = [sample.caption for sample in samples]
    assert captions == ["a photo of a cat", "a photo of a dog", "a photo of a person"]
    assert samples[2].mask.all()


def reason(found, number=0):
    with pytest.raises(UnreadableSampleError) as caught:
        found.read(number)
    return caught.value.reason


def test_faults_of_voc_are_those_of_a_sample(voc):
    put(voc / "ImageSets/Segmentation/val.txt", "2007_01\nmissing\nbroken")
    put(voc / "Annotations/broken.xml", "<annotation><object>")
    put(voc / "SegmentationClass/2007_01.png", Image.fromarray(INDICES * (INDICES == 8)))
    found = open_voc(voc, shuffle=None)
    assert [found.id(number) for number in range(4)] == [
        "2007_01/cat", "2007_01/dog", "missing", "broken",
    ]  # fmt: skip
    assert found.read(0).mask.sum() == 2
    assert reason(found, 1) == "no pixel of the segmentation is dog"
    assert reason(found, 2) == "annotation missing.xml is missing, or no file"
    assert reason(found, 3).startswith("annotation broken.xml can't be read: no element found")
    put(voc / "SegmentationClass/2007_01.png", grey())
    assert "its pixels are RGB" in reason(open_voc(voc, shuffle=None))
    put(voc / "SegmentationClass/2007_01.png", Image.fromarray(INDICES[:3]))
    assert "it is 6 x 3 pixels large, the image 6 x 4" in reason(open_voc(voc, shuffle=None))


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "a/b", ".hidden"])
def test_names_that_lead_out_of_the_folder(voc, name):
    put(voc / "ImageSets/Segmentation/val.txt", f"2007_01\n{name}")
    with pytest.raises(ValueError, match="val.txt:2: .* is no name of an image"):
        open_voc(voc)
    with pytest.raises(ValueError, match="split is the name of a list"):
        open_voc(voc, split=name)


def test_what_is_no_voc(tmp_path, voc):
    with pytest.raises(FileNotFoundError, match="holds no PASCAL VOC"):
        open_voc(tmp_path / "none")
    with pytest.raises(ValueError, match="PASCAL VOC has no category 'unicorn'"):
        open_voc(voc, categories=["unicorn"])
    with pytest.raises(ValueError, match="none of the categories .aeroplane"):
        open_voc(voc, model(labels=["ship"]))


BOMB = """<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><annotation>&b;</annotation>"""
OUT = """<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotation>&a;</annotation>"""


@pytest.mark.parametrize("content", [BOMB, OUT, BOMB.encode("utf-16").decode("latin-1")])
def test_documents_that_declare_entities(tmp_path, content):
    raw = content.encode("latin-1")
    (tmp_path / "a.xml").write_bytes(raw)
    with pytest.raises(ValueError, match="it declares a document type"):
        listed_objects(tmp_path / "a.xml")


def test_deep_large_and_odd_documents(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text("<a>" * 10**5)
    with pytest.raises(ValueError, match="nested more than 16 deep"):
        listed_objects(path)
    path.write_text(" " * (2**20 + 1))
    with pytest.raises(ValueError, match="larger than 1 MiB"):
        listed_objects(path)
    path.write_text(xml(("cat", ("1", "2", "x", "3"))))
    with pytest.raises(ValueError, match="xmax is no number: 'x'"):
        listed_objects(path)
    with pytest.raises(ValueError, match="is missing, or no file"):
        listed_objects(tmp_path)


@pytest.mark.parametrize(
    "box", [(0, 1, 2, 2), (3, 1, 2, 2), (1, 1, 99, 2), (1, 1, float("nan"), 2), (1, 1, 2, 1e300)]
)
def test_boxes_outside_the_image(box):
    edges = dict(zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    with pytest.raises(ValueError, match="a box lies outside the image of 6 x 4"):
        boxes_mask([Listed(["cat"], edges)], (4, 6))


def test_boxes_that_are_none():
    with pytest.raises(ValueError, match="a box has only xmin"):
        boxes_mask([Listed(["cat"], {"xmin": 1.0})], (4, 6))
    with pytest.raises(ValueError, match="it has no box"):
        boxes_mask([Listed(["cat"])], (4, 6))


SENTENCES = """[/EN#1/people Two young guys] look at [/EN#2/other a dog] .
[/EN#1/people Two men] in [/EN#0/notvisual front] of [/EN#3/scene a house] with [/EN#2/other a dog]
"""


@pytest.fixture
def flickr(tmp_path):
    put(tmp_path / "entities/Sentences/10.txt", SENTENCES)
    people = (("1", (1, 1, 2, 2)), ("1 2", (4, 1, 5, 2)), ("3", ()))
    put(tmp_path / "entities/Annotations/10.xml", xml(*people))
    put(tmp_path / "images/10.jpg", grey())
    return tmp_path


def open_flickr(home, loaded=None, **options):
    given = {"annotations": str(home / "entities"), "shuffle": None, **options}
    return open_data(DataConfig("flickr30k", str(home / "images"), given), loaded or model("dual"))


def test_phrases_with_their_boxes(flickr):
    found = open_flickr(flickr)
    samples = [found.read(number) for number in range(len(found))]
    # The house has no box; "a dog" is there twice and counts once.
    assert [sample.caption for sample in samples] == ["Two young guys", "a dog", "Two men"]
    assert [sample.id for sample in samples] == [
        "10/1/Two young guys", "10/2/a dog", "10/1/Two men",
    ]  # fmt: skip
    expected = np.zeros((4, 6), bool)
    expected[:2, 3:5] = True
    assert (samples[1].mask == expected).all()
    expected[:2, :2] = True
    assert (samples[0].mask == expected).all() and samples[0].words is None


def test_whole_sentences_with_the_words_of_a_phrase(flickr):
    found = open_flickr(flickr, text="sentence")
    samples = [found.read(number) for number in range(len(found))]
    assert len(samples) == 4 and len({sample.id for sample in samples}) == 4
    assert samples[3].caption == "Two men in front of a house with a dog"
    assert samples[3].words == ("a", "dog")


def test_faults_of_flickr(flickr):
    put(flickr / "list.txt", "10\n11\n")
    found = open_flickr(flickr, list=str(flickr / "list.txt"))
    assert found.id(3) == "11" and "sentences 11.txt are missing" in reason(found, 3)
    (flickr / "entities/Sentences/10.txt").write_bytes(b"\xff\xfe")
    assert "are not UTF-8" in reason(open_flickr(flickr))
    put(flickr / "list.txt", "../10")
    with pytest.raises(ValueError, match="'../10' is no name of an image"):
        open_flickr(flickr, list=str(flickr / "list.txt"))
    with pytest.raises(ValueError, match="is a classifier, which reads none"):
        open_flickr(flickr, model())
    with pytest.raises(FileNotFoundError, match="Sentences is no folder"):
        open_flickr(flickr, annotations=str(flickr / "images"))
    with pytest.raises(FileNotFoundError, match="the list of images, is missing"):
        open_flickr(flickr, list="nowhere.txt")
