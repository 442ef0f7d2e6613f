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
    assert [line.split()[0] for line in lines] == ["method", *METHODS]
    assert all(row.paper in line for row, line in zip(METHODS.values(), lines[1:], strict=True))


def test_layers_of_a_classifier(capsys, vit_folder):
    lines = printed(capsys, "layers", "--model", str(vit_folder)).splitlines()
    assert "default of iba: blocks.2" in lines
    assert "default of nib: blocks.3" in lines
    assert [line.strip() for line in lines if line.startswith("  ")] == [
        f"blocks.{i}" for i in range(4)
    ]


def test_layers_of_a_pair(capsys, clip_folder):
    lines = printed(capsys, "layers", "--model", str(clip_folder)).splitlines()
    towers = [f"{tower}_model.encoder.layers" for tower in ("vision", "text")]
    assert lines[0] == f"default of m2ib and nib: {towers[0]}.3 {towers[1]}.3"
    assert lines[1] == "image:" and lines[6] == "text:"
    assert [line.strip() for line in lines[2:6]] == [f"{towers[0]}.{i}" for i in range(4)]


def test_layers_of_a_hub_model_without_its_weights(capsys):
    lines = printed(capsys, "layers", "--model", "timm:vit_tiny_patch16_224").splitlines()
    assert lines[1].startswith("default of coiba: blocks.4.norm1 ")
    assert lines[1].endswith(" blocks.11.norm1")


def test_layers_of_nothing(capsys):
    assert main(["layers", "--model", "nothing"]) == 2
    output = capsys.readouterr()
    assert output.out == "" and "unknown model 'nothing'" in output.err


def test_demo(capsys, tmp_path):
    out = tmp_path / "demo"
    text = printed(capsys, "demo", "--out", str(out), "--images", "1", "--seed", "2")
    models = ("clip-scenes", "vit-scenes")
    assert all(str(out / f"{name}.png") in text for name in models)
    assert sorted(file.name for file in out.iterdir()) == sorted(
        f"{name}{end}" for name in models for end in ("-0.png", ".json", ".png")
    )
    for name, methods in (("clip-scenes", ["m2ib", "nib"]), ("vit-scenes", None)):
        record = json.loads((out / f"{name}.json").read_text())
        assert record["seed"] == 2 and len(record["pictures"]) == 1
        used = [method["method"] for method in record["methods"]]
        assert used == (methods or ["coiba", "iba", "nib", "ig"])
        loaded = captum_ib.zoo.load(name)
        with Image.open(out / f"{name}-0.png") as picture:
            assert picture.size == loaded.image_size
