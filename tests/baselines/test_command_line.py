"""``captum-ib explain --method all``: every method that the model admits, in one grid."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from captum_ib.cli import main
from captum_ib.methods import METHODS, for_kind


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "x.png"
    Image.effect_noise((40, 40), 80).convert("RGB").save(path)
    return path


def explained(capsys, folder, image, out, *arguments):
    """Methods that are drawn, and those that are left out with the reason."""
    given = ["explain", "--model", folder, "--image", image, "--out", out, *arguments]
    assert main([str(argument) for argument in given]) == 0
    left_out = dict(
        line.removeprefix("captum-ib: without ").split(": ", 1)
        for line in capsys.readouterr().err.splitlines()
        if line.startswith("captum-ib: without ")
    )
    records = [json.loads(path.read_text()) for path in sorted(out.glob("*.json"))]
    assert (out / "x-compare.png").is_file()
    return {record["method"] for record in records}, left_out


@pytest.mark.slow  # a figure for each of two dozen methods
@pytest.mark.parametrize(
    ("folder", "kind", "question"),
    [("clip_folder", "dual", ("--text", "a red circle")), ("vit_folder", "classifier", ())],
)
def test_all(capsys, request, image, tmp_path, monkeypatch, folder, kind, question):
    for name, setting, few in (
        ("rise", "n_masks", 40), ("fixlip", "n_masks", 40), ("sobolattribution", "grid", 2),
    ):  # fmt: skip
        monkeypatch.setitem(METHODS[name].settings, setting, few)  # more only take longer
    drawn, left_out = explained(
        capsys,
        request.getfixturevalue(folder),
        image,
        tmp_path / "out",
        "--method",
        "all",
        *question,
    )
    assert drawn | set(left_out) == {row.name for row in for_kind(kind)}
    # Captum's Grad-CAM knows no tokens; everything else explains a transformer.
    assert set(left_out) == ({"gradcam"} if kind == "classifier" else set())


def test_a_method_that_is_asked_for_by_name_must_work(capsys, vit_folder, image, tmp_path):
    arguments = ["explain", "--model", str(vit_folder), "--image", str(image)]
    assert main([*arguments, "--out", str(tmp_path / "out"), "--method", "gradcam"]) == 2
    assert "gradcam gives no map over the image" in capsys.readouterr().err
