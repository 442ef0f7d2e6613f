"""What the gallery's page holds, before a browser opens it."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from captum_ib.benchmark.pictures import mask_png
from captum_ib.report import read_tables
from captum_ib.report.gallery import encode_map, gallery, gallery_data, outline
from tests.report.folders import Folder

CLIP = {"model": "zoo:clip-scenes", "methods": ["m2ib", "nib"], "metrics": ["drop_image"]}


def data_of(folder, count=50, seed=0):
    (table,) = read_tables([folder])
    return gallery_data(table, count, seed)


def levels(encoded):
    png = base64.b64decode(encoded["map"].removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(png)))


def results(sample, method):
    """What a method gave for a sample, by its seeds."""
    tiles = [tile for tile in sample["tiles"] if tile["method"] == method]
    return {seed: tile["result"] for tile in tiles for seed in tile["seeds"]}


def test_unsigned_map_in_255ths_of_its_largest_value():
    encoded = encode_map(np.array([[0.0, 1.0], [2.0, 4.0]]), signed=False)
    assert levels(encoded).tolist() == [[0, 64], [128, 255]] and encoded["top"] == 4.0


def test_signed_map_in_127ths_around_the_middle():
    encoded = encode_map(np.array([[0.0, -2.0, 1.0]]), signed=True)
    assert levels(encoded).tolist() == [[128, 1, 192]] and encoded["top"] == 2.0


def test_map_of_zeros_and_a_broken_value():
    assert levels(encode_map(np.zeros((2, 2)), signed=False)).tolist() == [[0, 0], [0, 0]]
    assert levels(encode_map(np.array([[np.nan, 1.0]]), signed=True)).tolist() == [[128, 255]]


def test_large_map_is_averaged():
    """Cells of two by two: the mean of 0, 1, 2, 3 is 1.5, half of the largest mean."""
    values = np.zeros((112, 112))
    values[:2, :2] = [[0, 1], [2, 3]]
    values[2:4, :2] = 3.0
    encoded = encode_map(values, signed=False)
    assert levels(encoded).shape == (56, 56) and encoded["top"] == 3.0
    assert levels(encoded)[:3, :2].tolist() == [[128, 0], [255, 0], [0, 0]]


def test_outline_lies_outside_the_mask():
    mask = np.zeros((9, 9), dtype=bool)
    mask[4, 4] = True
    address = outline(mask_png(mask))
    assert address is not None
    png = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))
    white = np.argwhere((pixels == 255).all(-1)).tolist()
    assert white == [[3, 4], [4, 3], [4, 5], [5, 4]]
    assert outline(mask_png(np.zeros((9, 9), dtype=bool))) is None


def test_scores_words_and_failures(tmp_path):
    folder = Folder(config=CLIP, score=lambda index, *_: index / 8, fails=[(1, "NIB")])
    sample = data_of(folder.write(tmp_path))["samples"][1]
    assert sample["id"] == "scene-1" and sample["label"] == "class 1"
    m2ib, nib = (results(sample, method)[0] for method in (0, 1))
    assert m2ib["scores"] == [0.125] and nib == {"reason": "out of luck"}
    # begin, end and padding are left out; the folder's words weigh their place
    words, weights, places = zip(*m2ib["words"], strict=True)
    assert list(words) == "a green star beside a yellow ring on the left".split()
    assert weights == tuple(float(place) for place in range(1, 11))
    assert places[0] == round(25.5) and places[-1] == 255


def test_scores_are_shown_in_the_metric_s_scale(tmp_path):
    """ROAD is stored as a share and shown in percent."""
    folder = Folder(config={"metrics": ["road"]}, score=lambda index, *_: index / 8)
    sample = data_of(folder.write(tmp_path))["samples"][1]
    assert results(sample, 0)[0]["scores"] == [12.5]


def test_what_a_seed_does_not_change_is_there_once(tmp_path):
    data = data_of(Folder(config={"seeds": [0, 1]}).write(tmp_path))
    # the fixture's maps depend on it
    assert [tile["seeds"] for tile in data["samples"][0]["tiles"]] == [[0], [1], [0], [1]]
    again = Folder(config={"seeds": [0, 1]})
    again.row = lambda index, method, seed, metrics: {  # pyright: ignore
        **Folder.row(again, index, method, 0, metrics), "seed": seed,
    }  # fmt: skip
    tiles = data_of(again.write(tmp_path / "same"))["samples"][0]["tiles"]
    assert [(tile["method"], tile["seeds"]) for tile in tiles] == [(0, [0, 1]), (1, [0, 1])]


def test_at_most_so_many_samples_by_chance(tmp_path):
    folder = Folder(config={"samples": 30}).write(tmp_path)
    chosen = [[s["index"] for s in data_of(folder, 5, seed)["samples"]] for seed in (0, 0, 1)]
    assert len(chosen[0]) == 5 and chosen[0] == sorted(chosen[0]) == chosen[1] != chosen[2]
    assert "5 of 30 samples, chosen at random (seed 0)" in data_of(folder, 5)["subtitle"]
    assert "30 of 30 samples" in data_of(folder)["subtitle"]


def test_skipped_samples_and_undefined_scores(tmp_path):
    def some(index, method, seed, label):
        return None if index == 0 else float("nan") if index == 1 else 1.0

    data = data_of(Folder(score=some, skipped={2: "truncated"}).write(tmp_path))
    assert [sample["index"] for sample in data["samples"]] == [0, 1, 3, 4, 5, 6, 7]
    scores = [results(sample, 0)[0]["scores"][0] for sample in data["samples"][:3]]
    assert scores == [None, None, 1.0]
    assert any("scene-2: truncated" in note for note in data["notes"])


HOSTILE = "</script><script>window.stolen = 1</script><img src=x onerror=window.stolen=1> <!--"


class Elements(HTMLParser):
    """What a browser would make of a page: tags with their attributes, and the text of some."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.tags, self.texts, self.last = [], {}, ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, sorted(name for name, _ in attrs)))
        self.last = dict(attrs).get("class") or tag

    def handle_data(self, data):
        self.texts.setdefault(self.last, []).append(data)


def page_saying(text, folder):
    """A page whose methods, captions and samples are called so."""
    config = {"methods": [{"method": "nib", "label": text}], "samples": 2}
    run = Folder(config=config, captions=[text], ids=dict.fromkeys(range(8), text))
    (table,) = read_tables([run.write(folder)])
    return gallery(table)


@pytest.fixture(scope="module")
def harmless(tmp_path_factory):
    return Elements(page_saying("harmless", tmp_path_factory.mktemp("harmless")))


@pytest.mark.parametrize(
    "payload",
    [
        HOSTILE,
        "<script>window.stolen = 1</script>",
        "</style><script>window.stolen = 1</script>",
        "<img src=x onerror=window.stolen=1>",
        "<svg/onload=window.stolen=1>",
        '" onmouseover="window.stolen=1',
        "' autofocus onfocus='window.stolen=1",
        "<!-- <script>",
        "-->",
        "{{ 7 * 7 }}",
        "{% raw %}",
        "{# comment",
        "&lt;b&gt; &amp;quot;",
        "javascript:window.stolen=1",
        "</title></head><body onload=window.stolen=1>",
        "]]><iframe srcdoc='<script>window.stolen=1</script>'>",
        "`${window.stolen=1}` \\u003c",
    ],
)
def test_text_of_a_run_can_not_leave_its_place(tmp_path, harmless, payload):
    found = Elements(page_saying(payload, tmp_path))
    assert found.tags == harmless.tags and len(found.tags) > 99
    assert found.texts["caption"][0] == found.texts["h2"][0] == payload
    assert payload in found.texts["span"]


def test_title_is_escaped(tmp_path):
    (table,) = read_tables([Folder(config={"title": "R&D 'x'"}).write(tmp_path)])
    assert "<title>R&amp;D &#39;x&#39;: maps</title>" in gallery(table)


def test_policy_names_the_page_s_own_script_and_style_only(tmp_path):
    (table,) = read_tables([Folder().write(tmp_path)])
    page = gallery(table)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None and policy[1].startswith("default-src 'none'; img-src data:;")
    for tag in ("script", "style"):
        body = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert len(body) == 1
        digest = base64.b64encode(hashlib.sha256(body[0].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy[1]


def test_page_names_no_address(tmp_path):
    (table,) = read_tables([Folder().write(tmp_path)])
    page = re.sub(r'"[^"\s]*[A-Za-z0-9+/=]{24,}"', "", gallery(table))  # maps and pictures
    assert "image.src = first.src" in page and re.findall(r"(?:https?:)?//[a-z]", page) == []


@pytest.mark.parametrize("word", ["<bos>", "</s>", "<|endoftext|>", "[CLS]", "<pad>", "[pad]"])
def test_special_tokens(word):
    from captum_ib.report.gallery import _SPECIAL

    assert _SPECIAL.fullmatch(word)
    assert not _SPECIAL.fullmatch(word[1:]) and not _SPECIAL.fullmatch(f"a{word}")
