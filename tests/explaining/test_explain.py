"""``captum_ib.explain``: every way to say the same gives the same map: Python, shell, page."""

from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import captum_ib
from captum_ib import IBA, NIB, CoIBA, CoM2IB, DualEncoder, zoo
from captum_ib.app.asking import Question, answer
from captum_ib.app.offers import Offer
from captum_ib.cli import main
from captum_ib.loading.load import load
from captum_ib.methods import get
from captum_ib.metrics import certify
from captum_ib.presets import PRESETS, Preset, preset_of

CAPTION = "a red circle"


@pytest.fixture(scope="module")
def clip():
    return load("clip-scenes")


@pytest.fixture(scope="module")
def vit():
    return load("vit-scenes")


@pytest.fixture
def picture():
    """A generated scene, larger than the models' inputs."""
    scene = zoo.scenes.captioned(1, seed=5, size=(96, 96)).images[0]
    return Image.fromarray((scene * 255).round().byte().permute(1, 2, 0).numpy())


def offer(loaded) -> Offer:
    """What the page knows of a model, without trying its methods out."""
    return Offer(loaded, torch.device("cpu"), loaded.model, (), {}, (), ())


@pytest.mark.parametrize("name", ["clip-scenes", "vit-scenes"])
def test_shell_page_and_python_give_the_same_maps(name, picture, tmp_path, request):
    loaded = request.getfixturevalue(name.partition("-")[0])
    pair = loaded.kind == "dual"
    what, method = ((picture, CAPTION), "com2ib") if pair else (picture, "coiba")
    ours = captum_ib.explain(name, what, seed=2, steps=3)
    assert ours.method == method

    picture.save(tmp_path / "x.png")
    arguments = ["--model", name, "--image", tmp_path / "x.png", "--seed", 2, "--steps", 3]
    arguments += ["--text", CAPTION] if pair else []
    assert main(["explain", "--out", str(tmp_path / "out"), *map(str, arguments)]) == 0
    with np.load(tmp_path / "out" / f"x-{method}.npz") as shell:
        names = ["image_attribution", "text_attribution"][: len(ours.maps)]
        for one, values in zip(names, ours.maps, strict=True):
            assert np.allclose(shell[one], values.numpy(), rtol=1e-5, atol=1e-5)

    asked = Question(picture, "x.png", CAPTION if pair else "", (method,), steps=3, seed=2)
    *_, page = answer(offer(loaded), asked)
    for one, values in zip(page.results[0].maps, ours.maps, strict=True):
        assert torch.allclose(one, values, rtol=1e-5, atol=1e-5)


def test_the_default_is_the_method_with_its_recommended_layers(vit, clip, picture):
    pixels = vit.preprocess(picture)[None]
    ours = captum_ib.explain(vit, picture, steps=2, samples=2)
    target = int(vit.model(pixels).argmax())
    expected = CoIBA(vit.model, "auto").attribute(
        pixels, target=target, n_steps=2, n_samples=2, seed=0, **preset_of("coiba").settings
    )
    assert ours.settings["beta"] == preset_of("coiba").settings["beta"] and torch.allclose(
        ours.image, expected, rtol=1e-5
    )
    assert ours.bits == pytest.approx(float(expected.sum()), rel=1e-5)
    assert ours.bits_per_part == {"image": pytest.approx(ours.bits)}
    assert ours.prediction.target == target and ours.prediction.label == vit.labels[target]
    probability = vit.model(pixels).softmax(1)[0, target].item()
    assert ours.prediction.probability == pytest.approx(probability, abs=1e-6)
    assert ours.prediction.cosine is None

    ids, mask = clip.tokenizer([CAPTION])
    pair = captum_ib.explain(clip, (picture, CAPTION), steps=2)
    dual, pixels = DualEncoder.from_model(clip.model), clip.preprocess(picture)[None]
    image, words = CoM2IB(dual).attribute(
        (pixels, ids), additional_forward_args=mask, n_steps=2, seed=0
    )
    assert torch.allclose(pair.image, image, rtol=1e-5)
    assert torch.allclose(pair.texts[0], words[0], rtol=1e-5)
    assert pair.tokens == (tuple(clip.tokens(ids[0])),)
    assert pair.bits_per_part["text"] == pytest.approx(float(words.sum()), rel=1e-5)
    assert pair.prediction.cosine == pytest.approx(dual(pixels, ids, mask).item(), abs=1e-6)


def test_presets_layers_and_settings(vit, picture):
    def layers(**options):
        return captum_ib.explain(vit, picture, method="nib", **options).layers

    assert layers() == ("blocks.4",) and layers(preset="paper") == ("blocks.6",)
    assert layers(layer="paper") == ("blocks.6",) and layers(layer="blocks.1") == ("blocks.1",)
    found = captum_ib.explain(vit, picture, method="nib", n_steps=3, power=2.0)
    assert found.settings["n_steps"] == 3 and found.settings["power"] == 2.0
    with pytest.raises(TypeError, match=r"no setting n_stepps; did you mean n_steps\? It has"):
        captum_ib.explain(vit, picture, method="nib", n_stepps=3)
    with pytest.raises(TypeError, match=r"no setting layers; did you mean layer\?"):
        captum_ib.explain(vit, picture, method="nib", layers="auto")
    with pytest.raises(ValueError, match="unknown preset 'best'"):
        captum_ib.explain(vit, picture, preset="best")


@pytest.mark.parametrize("text", ["a red circle. and a dot", "red " * 100, "photo.png", "a\x1b[2J"])
def test_a_text_is_no_picture(vit, text):
    with pytest.raises(FileNotFoundError, match="does not exist.*a text alone goes to a text cl"):
        captum_ib.explain(vit, text)


def test_every_form_of_a_picture_is_the_same_picture(vit, picture, tmp_path):
    picture.save(tmp_path / "x.png")
    array = np.asarray(picture)
    forms = [
        picture,
        tmp_path / "x.png",
        str(tmp_path / "x.png"),
        array,
        array / 255,
        torch.from_numpy(array.copy()).permute(2, 0, 1),
        vit.preprocess(picture),
        vit.preprocess(picture)[None],
    ]
    expected = NIB(vit.model, "auto").attribute(vit.preprocess(picture)[None], target=1)
    for form in forms:
        found = captum_ib.explain(vit, form, method="nib", target=1)
        assert torch.allclose(found.image, expected, rtol=1e-4, atol=1e-6), type(form)


def test_a_loaded_model_explains_itself(vit, picture):
    one = vit.explain(picture, method="nib", target="star")
    other = captum_ib.explain("vit-scenes", picture, method="nib", target="star")
    assert torch.equal(one.image, other.image)
    assert one.prediction.label == "star"


def test_a_model_of_the_zoo_and_a_module(picture):
    ours = zoo.load("vit-scenes")
    found = captum_ib.explain(ours, picture, method="nib", target=1)
    assert torch.equal(found.image, captum_ib.explain("vit-scenes", picture, method="nib",
                                                      target=1).image)  # fmt: skip


def test_a_module_of_timm_brings_its_preprocessing(picture):
    import timm

    torch.manual_seed(0)
    model = timm.create_model("resnet10t", num_classes=7).train()
    with pytest.warns(captum_ib.InputWarning, match="training mode"):
        found = captum_ib.explain(model, picture, method="iba", steps=1, target=3)
    assert all(part.training for part in model.modules())
    config = timm.data.resolve_model_data_config(model)
    pixels = timm.data.create_transform(**config, is_training=False)(picture)[None]
    probability = model.eval()(pixels).softmax(1)[0, 3].item()
    assert found.prediction.probability == pytest.approx(probability, abs=1e-6)


@pytest.fixture
def small():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 5)
    )  # fmt: skip


def test_any_module_takes_its_own_input(small):
    pixels = torch.randn(3, 8, 8)
    found = captum_ib.explain(small, pixels, method="iba", layer="0", target=2, steps=2)
    settings = {"n_steps": 2, "seed": 0, **preset_of("iba", model=small).settings}
    expected = IBA(small, "0").attribute(pixels[None], target=2, **settings)
    assert torch.equal(found.image, expected)
    with pytest.raises(ValueError, match="how this model wants its pictures is not known"):
        captum_ib.explain(small, Image.new("RGB", (8, 8)), method="iba", layer="0")


def test_saved_files_are_those_of_the_shell(vit, picture, tmp_path):
    picture.save(tmp_path / "x.png")
    found = captum_ib.explain(vit, tmp_path / "x.png", method="nib", target=1)
    files = found.save(tmp_path / "ours")
    assert [file.name for file in files] == [f"x-nib.{end}" for end in ("json", "npz", "png")]
    arguments = ["--model", "vit-scenes", "--image", tmp_path / "x.png", "--target", 1]
    arguments += ["--method", "nib", "--out", tmp_path / "shell"]
    assert main(["explain", *map(str, arguments)]) == 0
    ours, shell = (
        json.loads((tmp_path / folder / "x-nib.json").read_text()) for folder in ("ours", "shell")
    )
    assert ours == shell
    assert (tmp_path / "ours/x-nib.png").read_bytes() == (tmp_path / "shell/x-nib.png").read_bytes()


def test_it_shows_itself(clip, picture):
    found = captum_ib.explain(clip, (picture, CAPTION), steps=1, samples=2)
    html = found._repr_html_()
    assert f"“{CAPTION}”, cosine {found.prediction.cosine:.3f}" in html
    data = re.search(r"base64,([^\"]+)", html)[1]
    assert base64.b64decode(data) == found._repr_png_()
    assert found._repr_png_()[:8] == b"\x89PNG\r\n\x1a\n"
    first, second = str(found).splitlines()
    assert first == found.prediction.text and second.startswith("CoM2IB: ")


def test_html_of_a_label_is_escaped(vit, picture):
    from dataclasses import replace

    hostile = replace(vit, labels=["<script>alert(1)</script>"] * len(vit.labels))
    html = captum_ib.explain(hostile, picture, method="layergradcam")._repr_html_()
    assert "<script>" not in html and "&lt;script&gt;" in html


def test_certify_is_the_certificate_of_its_method(vit, picture):
    found = captum_ib.explain(vit, picture, method="iba", target=1, steps=3)
    pixels = vit.preprocess(picture)[None]
    method = IBA(vit.model, "auto")
    bits = method.attribute(pixels, target=1, n_steps=3, seed=0, **preset_of("iba").settings)
    expected = certify(method, pixels, bits, 0.5, target=1, n_draws=10)
    ours = found.certify(n_draws=10)
    assert torch.equal(ours.rate, expected.rate) and torch.equal(ours.change, expected.change)
    with pytest.raises(TypeError, match="NIB has no bottleneck"):
        captum_ib.explain(vit, picture, method="nib").certify()


PICTURE = Image.new("RGB", (8, 8))


@pytest.mark.parametrize(
    ("model", "what", "options", "message"),
    [
        ("vit-scenes", 3, {}, "given a int, expected a picture"),
        ("vit-scenes", (PICTURE, "x"), {}, "is a classifier and takes a picture .*, given a pair"),
        ("vit-scenes", "no.png", {}, "image no.png does not exist"),
        ("vit-scenes", np.zeros((2, 2, 2)), {}, r"an array of shape \(2, 2, 2\) is no picture"),
        ("vit-scenes", np.full((4, 4, 3), 9.0), {}, "values from 9 to 9 is no picture.*uint8"),
        ("vit-scenes", torch.zeros(3, 8, 8), {}, r"does not fit zoo:vit-scenes, .* \(3, 64"),
        ("vit-scenes", torch.zeros(2, 3, 64, 64), {}, "is not one input"),
        ("vit-scenes", PICTURE, {"target": "nothing"}, "'nothing' is none of the"),
        ("vit-scenes", PICTURE, {"method": "m2ib"}, "m2ib can't explain a classifier"),
        ("vit-scenes", PICTURE, {"method": "ig", "layer": "blocks.1"}, "ig explains the input"),
        ("clip-scenes", PICTURE, {}, r"takes a pair \(picture, text\), given a Image"),
        ("clip-scenes", (PICTURE, ""), {}, "a text is empty"),
        ("clip-scenes", (CAPTION, PICTURE), {}, r"a pair \(picture, text\), given \(the text"),
        ("clip-scenes", (PICTURE, CAPTION), {"target": 1}, "compares two things and has no "),
        (3, PICTURE, {}, "model must be a name, a folder, what captum_ib.load gives"),
    ],
)  # fmt: skip
def test_mistakes(model, what, options, message):
    with pytest.raises((ValueError, TypeError, OSError), match=message):
        captum_ib.explain(model, what, **options)


def test_a_bare_dual_encoder_is_told_what_it_lacks(clip):
    for model in (clip.model, DualEncoder.from_model(clip.model)):
        with pytest.raises(TypeError, match="without the tokenizer and preprocessing"):
            captum_ib.explain(model, (PICTURE, CAPTION))


def test_another_beta_where_the_recommended_map_collapses(vit, picture, monkeypatch):
    monkeypatch.setitem(PRESETS["recommended"], "iba", Preset("auto", {"beta": 1e4}))
    found = captum_ib.explain(vit, picture, method="iba", target=1)
    beta = found.settings["beta"]
    assert beta in (10.0, 100.0, 1000.0) and found.image.max() >= 1
    expected = IBA(vit.model, "auto").attribute(
        vit.preprocess(picture)[None], target=1, beta=beta, seed=0
    )
    assert torch.allclose(found.image, expected, rtol=1e-5)
    assert f"(β {beta:.3g}: at 1e+04" in str(found)

    kept = captum_ib.explain(vit, picture, method="iba", target=1, beta=1e4)  # said, so it stays
    assert kept.settings["beta"] == 1e4 and kept.image.max() < 1
    assert "kept nothing: " in str(kept) and "lower beta by factors of ten" in str(kept)


@pytest.mark.parametrize(("method", "said"), [("ig", "50/50"), ("saliency", "1pass"), ("nib", "%")])
def test_every_method_has_a_bar_on_a_terminal(vit, picture, monkeypatch, method, said):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    hooks = [len(part._forward_hooks) for part in vit.model.modules()]
    shown = captum_ib.explain(vit, picture, method=method, show_progress=True)
    assert said in terminal.getvalue().replace(" ", "")
    assert [len(part._forward_hooks) for part in vit.model.modules()] == hooks
    plain = captum_ib.explain(vit, picture, method=method)
    assert torch.equal(shown.image, plain.image)


def test_captums_grad_cam_is_told_apart():
    assert get("gradcam").shown == "LayerGradCam (Captum)"
    assert get("layergradcam").shown == "LayerGradCAM"
