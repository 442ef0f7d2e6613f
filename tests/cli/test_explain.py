"""``captum-ib explain`` writes what the library gives; mistakes leave nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import captum.attr
import numpy as np
import pytest
import torch
from PIL import Image

import captum_ib
from captum_ib.cli import main
from captum_ib.explaining import results
from captum_ib.explaining.pictures import read_image
from captum_ib.explaining.summary import readable
from captum_ib.loading.load import load
from captum_ib.presets import preset_of
from captum_ib.visualization import CONTROLS, Style

TEXT = "a red circle"


@pytest.fixture
def image(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / "x.png")
    return str(tmp_path / "x.png")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def explain(out, *arguments) -> int:
    return main(["explain", "--out", str(out), *map(str, arguments)])


def names(folder) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def read(out, stem):
    with np.load(out / f"{stem}.npz", allow_pickle=False) as arrays:
        return dict(arrays), json.loads((out / f"{stem}.json").read_text(encoding="utf-8"))


def inputs_of(folder, image):
    loaded = load(str(folder))
    return loaded, loaded.preprocess(read_image(Path(image)))[None]


@pytest.mark.parametrize(
    "methods", [["--method", "m2ib", "nib"], ["--method", "m2ib,nib"], ["--method", "M2IB,", "nib"]]
)
def test_a_pair_and_two_methods(clip_folder, image, out, methods, capsys):
    arguments = ["--model", clip_folder, "--image", image, "--text", TEXT, *methods]
    assert explain(out, *arguments, "--steps", 2, "--beta", 0.5, "--seed", 3) == 0
    files = [
        "x-compare.png",
        *(f"x-{m}.{e}" for m in ("m2ib", "nib") for e in ("json", "npz", "png")),
    ]
    assert names(out) == sorted(files)
    loaded, pixels = inputs_of(clip_folder, image)
    ids, mask = loaded.tokenizer([TEXT])
    dual = captum_ib.DualEncoder.from_model(loaded.model)
    cosine = dual(pixels, ids, mask).item()
    expected = {
        "m2ib": captum_ib.M2IB(dual, "auto").attribute(
            (pixels, ids),
            additional_forward_args=mask,
            **{**preset_of("m2ib").settings, "n_steps": 2, "beta": 0.5, "seed": 3},
        ),
        "nib": captum_ib.NIB(dual, "auto").attribute(
            (pixels, ids), additional_forward_args=mask, n_steps=2
        ),
    }
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{image}: “{TEXT}”, cosine {cosine:.3f}"
    seen, read_ = expected["m2ib"][0].sum(), expected["m2ib"][1][0]  # begin and end stand aside
    shown, aside = float(seen + read_[1:-1].sum()), float(read_[0] + read_[-1])
    assert said[1].startswith(f"  M2IB: {readable(shown)} bits (")
    assert f"; besides {readable(aside)} in begin and end tokens) " in said[1]
    assert "at vision_model.encoder.layers.1; text_model.encoder.layers.1, " in said[1]
    assert said[2].startswith("  NIB: ") and said[3] == f"  open {out / 'x-compare.png'}"
    for name, (image_map, words) in expected.items():
        arrays, record = read(out, f"x-{name}")
        assert np.array_equal(arrays["image_attribution"], image_map.detach().numpy())
        assert np.array_equal(arrays["text_attribution"], words[0].detach().numpy())
        assert arrays["tokens"].tolist() == ["<bos>", "a", "red", "circle", "<eos>"]
        assert np.array_equal(arrays["image"], loaded.picture(pixels[0]).numpy())
        assert record["method"] == name and record["text"] == TEXT and record["seed"] == 3
        assert record["cosine"] == pytest.approx(cosine, abs=1e-6)
        assert record["settings"]["n_steps"] == 2
    assert read(out, "x-m2ib")[1]["settings"]["beta"] == 0.5
    assert "beta" not in read(out, "x-nib")[1]["settings"]
    assert read(out, "x-m2ib")[1]["layers"] == [
        "vision_model.encoder.layers.1",
        "text_model.encoder.layers.1",
    ]


def test_settings_in_the_record_are_complete(vit_folder, image, out):
    assert (
        explain(out, "--model", vit_folder, "--image", image, "--method", "iba", "--steps", 1,
                "--preset", "paper") == 0
    )  # fmt: skip
    _, record = read(out, "x-iba")
    assert record["settings"]["n_steps"] == 1  # given
    assert record["settings"]["beta"] == 10.0  # the class's default: Schulz et al.
    assert record["settings"]["objective"] == "cross_entropy"
    assert record["unit"] == "bits" and record["signed"] is False
    assert record["model"] == str(vit_folder) and record["image"] == image
    assert {"torch", "captum", "captum_ib", "python"} <= set(record["versions"])


def test_two_pictures_of_the_same_name_and_a_target_each(vit_folder, image, out, tmp_path):
    (tmp_path / "b").mkdir()
    Image.new("RGB", (32, 32), (9, 99, 199)).save(tmp_path / "b" / "x.png")
    other = tmp_path / "b" / "x.png"
    arguments = ["--model", vit_folder, "--image", image, other, "--target", "Bird", "0"]
    assert explain(out, *arguments, "--method", "nib") == 0
    assert names(out) == [f"x-{m}.{e}" for m in ("2-nib", "nib") for e in ("json", "npz", "png")]
    for path, stem, target in ((image, "x-nib", 2), (other, "x-2-nib", 0)):
        arrays, record = read(out, stem)
        loaded, pixels = inputs_of(vit_folder, path)
        expected = captum_ib.NIB(loaded.model, "auto").attribute(pixels, target=target)
        assert np.array_equal(arrays["image_attribution"], expected.detach().numpy())
        assert record["target"] == target and record["label"] == loaded.labels[target]
        probability = loaded.model(pixels).softmax(1)[0, target].item()
        assert record["probability"] == pytest.approx(probability, abs=1e-6)


def test_the_default_is_the_likeliest_class_and_coiba(vit_folder, image, out):
    assert explain(out, "--model", vit_folder, "--image", image, "--steps", 1) == 0
    loaded, pixels = inputs_of(vit_folder, image)
    _, record = read(out, "x-coiba")
    assert record["target"] == int(loaded.model(pixels).argmax())


def test_the_default_of_pairs_is_com2ib(clip_folder, image, out):
    arguments = ["--model", clip_folder, "--image", image, "--text", TEXT, "--samples", 2]
    assert explain(out, *arguments) == 0
    assert read(out, "x-com2ib")[1]["settings"]["n_samples"] == 2


@pytest.mark.parametrize(
    ("words", "layer"),
    [
        ([], "blocks.1"),
        (["--preset", "paper"], "blocks.2"),
        (["--layer", "paper"], "blocks.2"),
        (["--preset", "paper", "--layer", "auto"], "blocks.1"),
    ],
)
def test_presets_and_words_for_layers(vit_folder, image, out, words, layer):
    arguments = ["--model", vit_folder, "--image", image, "--method", "iba", "--steps", 1]
    assert explain(out, *arguments, *words) == 0
    assert read(out, "x-iba")[1]["layers"] == [layer]


def test_the_look_of_figures(vit_folder, image, out, tmp_path):
    arguments = ["--model", vit_folder, "--image", image, "--method", "nib", "--target", 1]
    look = ["--opacity", 0.4, "--cmap", "PuOr_r", "--grey", "--contours", 3, "--what-remains"]
    assert explain(out, *arguments, *look) == 0
    style = Style(opacity=0.4, cmap="PuOr_r", grey=True, contours=3, masked=True)
    found = captum_ib.explain(str(vit_folder), image, method="nib", target=1)
    found.save(tmp_path / "python", style=style)
    assert (out / "x-nib.png").read_bytes() == (tmp_path / "python" / "x-nib.png").read_bytes()


def test_the_look_is_said_by_all_controls(capsys):
    assert main(["explain", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert [one.flag for one in CONTROLS if one.flag not in said] == []


def test_a_folder_and_a_pattern_are_their_pictures(vit_folder, image, out, tmp_path, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("b.PNG", "a.png"):
        (folder / name).write_bytes(Path(image).read_bytes())
    (folder / "notes.txt").write_text("no picture")
    arguments = ["--model", vit_folder, "--method", "nib", "--steps", 2, "--target", 1, "--image"]
    assert explain(out, *arguments, folder) == 0
    said = capsys.readouterr()
    assert [line for line in said.out.splitlines() if line.startswith("  open")] == [
        f"  open {out / name}" for name in ("a-nib.png", "b-nib.png")
    ]
    done = [line.rpartition(": ")[0] for line in said.err.splitlines()]
    assert done == ["", "[1/2] NIB, a", "[2/2] NIB, b"]
    assert said.err.splitlines()[0] == f"loading {vit_folder} …"
    assert explain(tmp_path / "other", *arguments, folder / "a*") == 0
    assert len(names(tmp_path / "other")) == 3


def test_layers_by_name(vit_folder, image, out):
    arguments = ["--model", vit_folder, "--image", image, "--steps", 2]
    layers = ["blocks.1.norm1", "blocks.2.norm1"]
    assert explain(out, *arguments, "--method", "coiba", "--layer", *layers) == 0
    assert read(out, "x-coiba")[1]["layers"] == layers
    assert explain(out, *arguments, "--method", "nib", "--layer", "blocks.1") == 0
    assert read(out, "x-nib")[1]["layers"] == ["blocks.1"]


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("ig", captum.attr.IntegratedGradients),
        ("saliency", captum.attr.Saliency),
        ("inputxgradient", captum.attr.InputXGradient),
    ],
)
def test_captums_own_methods(vit_folder, image, out, name, method):
    assert (
        explain(out, "--model", vit_folder, "--image", image, "--method", name, "--target", 1) == 0
    )
    arrays, record = read(out, f"x-{name}")
    loaded, pixels = inputs_of(vit_folder, image)
    expected = (
        method(loaded.model).attribute(pixels.requires_grad_(), target=1).sum(1, keepdim=True)
    )
    assert np.allclose(arrays["image_attribution"], expected.detach().numpy(), rtol=1e-4, atol=1e-7)
    assert record["layers"] == ["input"] and record["paper"]


@pytest.fixture(scope="module")
def cnn_folder(tmp_path_factory):
    """A timm ResNet with random weights."""
    import timm
    from timm.models._hub import save_for_hf

    folder = tmp_path_factory.mktemp("cnn")
    torch.manual_seed(0)
    save_for_hf(timm.create_model("resnet18", num_classes=3), folder, safe_serialization=True)
    return folder


def test_gradcam_of_a_cnn(cnn_folder, image, out):
    arguments = ["--model", cnn_folder, "--image", image, "--method", "gradcam", "--target", 1]
    assert explain(out, *arguments) == 0
    arrays, record = read(out, "x-gradcam")
    loaded, pixels = inputs_of(cnn_folder, image)
    layer = loaded.model.get_submodule(record["layers"][0])
    expected = captum.attr.LayerGradCam(loaded.model, layer).attribute(pixels, target=1)
    assert np.allclose(arrays["image_attribution"], expected.detach().numpy(), rtol=1e-4, atol=1e-7)


@pytest.fixture(scope="module")
def classifier_folders(tmp_path_factory):
    """Classifiers of transformers with random weights, a ViT and a ResNet, as folders."""
    import transformers

    folder, labels = tmp_path_factory.mktemp("transformers"), {0: "cat", 1: "dog", 2: "bird"}
    names = {"id2label": labels, "label2id": {name: i for i, name in labels.items()}}
    vit = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
        **names,
    )
    resnet = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", **names
    )
    torch.manual_seed(0)
    made = {
        "vit": transformers.ViTForImageClassification(vit),
        "resnet": transformers.ResNetForImageClassification(resnet),
    }
    for name, model in made.items():
        model.save_pretrained(folder / name)
        transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(
            folder / name
        )
    return folder


def test_all_methods_on_a_classifier_of_transformers(classifier_folders, image, out, capsys):
    folder = classifier_folders / "vit"
    arguments = ["--model", folder, "--image", image, "--method", "all", "--target", "dog"]
    assert explain(out, *arguments, "--steps", 2, "--samples", 2) == 0
    # Captum's Grad-CAM wants channels before positions, which a ViT's blocks have not (and, in
    # transformers 4, a layer that returns a tensor): it alone is left out.
    error = capsys.readouterr().err.splitlines()
    (left_out,) = [line for line in error if line.startswith("captum-ib: ")]
    assert left_out.startswith("captum-ib: without gradcam: ")
    count = len(rows := captum_ib.methods.for_kind("classifier"))
    last = f"[{count}/{count}] {rows[-1].shown}"
    assert len(error) == count + 1 and error[-1].startswith(last)
    shapes = {
        path.stem.removeprefix("x-"): read(out, path.stem)[0]["image_attribution"].shape
        for path in out.glob("*.npz")
    }
    whole = ("ig", "inputiba", "saliency", "inputxgradient", "rise", "vitcx", "mfaba", "fastig",
             "attnlrp", "sobolattribution", "kernelshap")  # fmt: skip
    assert shapes == {
        row.name: (1, 1, 32, 32) if row.name in whole else (1, 1, 4, 4)
        for row in captum_ib.methods.for_kind("classifier")
        if row.name != "gradcam"
    }


@pytest.mark.parametrize("name", ["ig", "saliency", "inputxgradient", "gradcam"])
def test_captums_own_methods_on_a_classifier_of_transformers(classifier_folders, image, out, name):
    folder = classifier_folders / "resnet"
    arguments = ["--model", folder, "--image", image, "--method", name, "--target", "bird"]
    assert explain(out, *arguments) == 0
    arrays, record = read(out, f"x-{name}")
    loaded, pixels = inputs_of(folder, image)

    def logits(pixels):
        return loaded.model(pixels).logits

    if name == "gradcam":
        layer = loaded.model.get_submodule(record["layers"][0])
        expected = captum.attr.LayerGradCam(logits, layer).attribute(pixels, target=2)
        assert expected.shape == (1, 1, 4, 4)
    else:
        method = captum_ib.methods.get(name).cls(logits)
        expected = method.attribute(pixels.requires_grad_(), target=2).sum(1, keepdim=True)
        assert expected.shape == (1, 1, 32, 32)
    assert np.allclose(arrays["image_attribution"], expected.detach().numpy(), rtol=1e-4, atol=1e-7)


def test_bfloat16(vit_folder, image, out):
    arguments = ["--model", vit_folder, "--image", image, "--dtype", "bfloat16", "--steps", 1]
    assert explain(out, *arguments) == 0
    arrays, record = read(out, "x-coiba")
    assert record["dtype"] == "bfloat16" and arrays["image_attribution"].dtype == np.float32


def test_the_same_seed_gives_the_same_arrays(image, tmp_path):
    arguments = ["--model", "clip-scenes", "--image", image, "--text", TEXT]
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.rand(1)  # the global generator must not matter
        assert explain(tmp_path / folder, *arguments, "--seed", seed) == 0
    first, same, other = (read(tmp_path / f, "x-com2ib")[0]["image_attribution"] for f in "abc")
    assert np.array_equal(first, same) and not np.array_equal(first, other)


def refused(capsys, out, *arguments) -> str:
    """The last line that these arguments get; nothing may be written."""
    code = explain(out, *arguments)
    output = capsys.readouterr()
    *progress, error = output.err.splitlines()
    assert code == 2 and output.out == "" and error.startswith("captum-ib: error: ")
    assert progress[0].startswith("loading ") and all(line[0] == "[" for line in progress[1:])
    assert not out.exists()
    assert not list(out.parent.glob(".captum-ib-*"))
    return error


PAIR = "--model CLIP --image IMAGE --text TEXT "
CLASS = "--model VIT --image IMAGE "


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--model CLIP --image no.png --text TEXT", "image no.png does not exist"),
        ("--model CLIP --image FOLDERS --text TEXT", "folders holds no picture"),
        ("--model CLIP --image no*.png --text TEXT", "no file is named as no*.png says"),
        ("--model CLIP --text TEXT TEXT", "explains pictures: pass --image"),
        ("--model CLIP --image BROKEN --text TEXT", "can't be read"),
        ("--model CLIP --image TRUNCATED --text TEXT", "can't be read"),
        ("--model CLIP --image IMAGE --text EMPTY", "--text is empty"),
        ("--model CLIP --image IMAGE", "pass --text"),
        ("--model CLIP --image IMAGE --target 1", "pass --text, not --target"),
        (PAIR + "--method coiba", "coiba can't explain an image-text model"),
        (PAIR + "--method m2iv", "unknown method 'm2iv'; nearest: m2ib"),
        (PAIR + "--layer nothing else", "the model has no layer 'nothing'"),
        (PAIR + "--layer vision_model.encoder.layers.1", "needs two layers or more, some of each"),
        (PAIR + "--text more and more", "4 values of --text for 1 image(s)"),
        (PAIR + "--method nib --beta 1", "beta means nothing to nib"),
        (PAIR + "--device no-such-device", "device 'no-such-device' can't be used"),
        (PAIR + "--device cuda:99", "device 'cuda:99' can't be used"),
        (PAIR + "--dtype int8", "dtype 'int8' is not one of float32, bfloat16, float16"),
        (CLASS + "--text TEXT", "is a classifier: pass --target, not --text"),
        (CLASS + "--target 3", "target 3 is out of range"),
        (CLASS + "--target -1", "target -1 is out of range"),
        (CLASS + "--target brid", "'brid' is none of the 3 labels; nearest: bird"),
        (CLASS + "--target 0 1", "2 values of --target for 1 image(s)"),
        (CLASS + "--method m2ib", "m2ib can't explain a classifier"),
        (CLASS + "--method ig --layer blocks.0", "ig explains the input and takes no layer"),
        (
            CLASS + "--method gradcam --layer blocks.0 blocks.1",
            "gradcam takes one layer, given 2",
        ),
        (CLASS + "--method gradcam", "gradcam gives no map over the image at blocks.3"),
        (
            CLASS + "--method gradcam",
            "the method layergradcam is Grad-CAM for layers of every kind",
        ),
        (CLASS + "--opacity 2", "opacity must lie in [0, 1], given 2"),
        (CLASS + "--cmap viridiss", "no colour map 'viridiss'; nearest: viridis"),
        (CLASS + "--preset best", "unknown preset 'best', expected one of"),
        (CLASS + "--method coiba --layer blocks.9", "the model has no layer 'blocks.9'; nearest"),
        ("--model no-such-model --image IMAGE", "unknown model 'no-such-model'"),
        ("--model timm:vit_tiny_patch16_224 --image IMAGE", "is not on disk"),
        ("--model hf:some/model --image IMAGE", "is not on disk"),
        ("--model FOLDER --image IMAGE", "holds no config.json"),
    ],
)
def test_mistakes(clip_folder, vit_folder, image, tmp_path, capsys, arguments, message):
    (tmp_path / "broken.png").write_text("no picture")
    (tmp_path / "folders" / "inside").mkdir(parents=True)
    (tmp_path / "truncated.png").write_bytes(Path(image).read_bytes()[:200])
    values = {
        "CLIP": clip_folder,
        "VIT": vit_folder,
        "IMAGE": image,
        "TEXT": TEXT,
        "EMPTY": "  ",
        "BROKEN": tmp_path / "broken.png",
        "TRUNCATED": tmp_path / "truncated.png",
        "FOLDER": tmp_path,
        "FOLDERS": tmp_path / "folders",
    }
    given = [values.get(argument, argument) for argument in arguments.split()]
    assert message in refused(capsys, tmp_path / "new" / "out", *given)


def test_words_that_the_model_does_not_know(image, out, capsys):
    arguments = ["--model", "clip-scenes", "--image", image, "--text", "a red elefant"]
    assert "'elefant' in 'a red elefant' is not in the vocabulary" in refused(
        capsys, out, *arguments
    )


def test_the_folder_is_a_file(vit_folder, image, out, capsys):
    out.write_text("mine")
    assert explain(out, "--model", vit_folder, "--image", image) == 2
    assert "out is a file, not a folder" in capsys.readouterr().err
    assert out.read_text() == "mine"


def test_a_mistake_in_the_second_picture_leaves_nothing_of_the_first(
    vit_folder, image, out, capsys
):
    arguments = ["--model", vit_folder, "--image", image, image, "--target", "0", "7"]
    assert "target 7 is out of range" in refused(capsys, out, *arguments, "--method", "nib")


def test_an_interrupt_leaves_nothing(vit_folder, image, out, capsys, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(results, "compare", interrupt)
    assert explain(out, "--model", vit_folder, "--image", image, "--method", "nib") == 130
    assert capsys.readouterr().err.endswith("captum-ib: interrupted, nothing was written\n")
    assert not out.exists()


def test_a_traceback_on_demand(vit_folder, out):
    with pytest.raises(FileNotFoundError, match="no.png does not exist"):
        explain(out, "--model", vit_folder, "--image", "no.png", "--traceback")


def test_pictures_are_turned_upright(tmp_path):
    picture = Image.new("RGB", (4, 2))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    picture.save(tmp_path / "x.jpg", exif=exif)
    assert read_image(tmp_path / "x.jpg").size == (2, 4)


def test_huge_pictures_are_refused(tmp_path, monkeypatch):
    Image.new("RGB", (40, 40)).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match="can't be read: .*decompression bomb"):
        read_image(tmp_path / "x.png")


def test_as_a_process(image, tmp_path):
    command = [sys.executable, "-m", "captum_ib.cli", "explain", "--model", "clip-scenes"]
    command += ["--image", image, "--text", TEXT, "--method", "m2ib", "nib", "--out", "out"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(names(tmp_path / "out")) == 7
    command[command.index(image)] = "missing.png"
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    expected = "captum-ib: error: image missing.png does not exist or is not a file"
    assert done.stderr.splitlines() == ["loading clip-scenes …", expected]


def test_a_file_name_that_is_no_utf_8_keeps_its_result(tmp_path, vit_folder, image, out, capsys):
    path = tmp_path / os.fsdecode(b"cat-\xff.png")
    try:
        path.write_bytes(Path(image).read_bytes())
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    arguments = ["--model", vit_folder, "--image", path, "--target", 1, "--method", "nib"]
    assert explain(out, *arguments, "--steps", 2) == 0
    assert [os.fsencode(name) for name in names(out)] == [
        b"cat-\xff-nib.json", b"cat-\xff-nib.npz", b"cat-\xff-nib.png",
    ]  # fmt: skip
    _, record = read(out, os.fsdecode(b"cat-\xff-nib"))
    assert record["image"] == str(path)
    assert r"cat-\xff-nib.png" in capsys.readouterr().out
    path.write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"cat-\\xff\.png can't be read"):
        read_image(path)
