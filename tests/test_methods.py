"""The table of methods: every row can be imported and says what its class accepts."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import captum_ib
from captum_ib import attr, baselines, methods
from captum_ib.facts import Facts
from captum_ib.methods import METHODS, MethodSpec


@pytest.mark.parametrize("row", METHODS.values(), ids=METHODS)
def test_row_agrees_with_the_class(row):
    parameters = inspect.signature(row.cls.attribute).parameters
    assert set(row.options.values()) | set(row.settings) <= set(parameters)
    assert ("seed" in row.options) == ("seed" in parameters)
    assert row.name == row.name.lower() and METHODS[row.name] is row
    assert row.title == row.cls.__name__ and row.takes


def test_rows_say_what_the_former_table_said():
    """Written down from the table that had these values in rows of its own."""
    assert METHODS["coiba"].facts == Facts(
        takes=frozenset({"classifier", "generator"}),
        unit="bits",
        signed=False,
        paper="Hong et al., CVPR 2025",
        description="information that a whole range of layers passes on for the class",
        passes="10 steps x 4 draws, forward and backward, behind the layer",
        layers="many",
        settings={},
        options={"beta": "beta", "steps": "n_steps", "samples": "n_samples", "seed": "seed"},
    )
    assert METHODS["rise"].facts == Facts(
        takes=frozenset({"classifier", "dual"}),
        unit="score units",
        signed=True,
        paper="Petsiuk et al., BMVC 2018",
        description="mean score of random masks that leave the position visible",
        passes="4000 forward",
        layers="none",
        settings={},
        options={"seed": "seed"},
    )
    row = METHODS["gradcam"]
    assert (row.takes, row.unit, row.signed) == (frozenset({"classifier"}), "output units", True)
    assert (row.paper, row.passes) == ("Selvaraju et al., ICCV 2017", "1 forward and backward")
    assert row.description == (
        "Captum's Grad-CAM, of feature maps (N, C, h, w) only; see layergradcam"
    )
    assert (row.layers, row.settings, row.options) == ("one", {}, {})
    assert (row.title, row.cls_path) == ("LayerGradCam", "captum.attr:LayerGradCam")


def test_the_order_of_the_rows():
    assert " ".join(METHODS) == (
        "iba coiba m2ib nib inputiba "
        "cam2ib com2ib ig saliency inputxgradient gradcam genericattention "
        "transformerattribution attentionrollout attentiongradcam beyondintuition iia layergradcam "
        "scorecam vitcx rise mfaba fastig "
        "gradeclip legrad clipsurgery maskclip tokentm "
        "libragrad attnlrp exclip fixlip sobolattribution kernelshap"
    )


def test_every_method_of_the_rooms_has_its_row_and_its_name_at_the_top():
    ours = [row for row in METHODS.values() if row.cls_path.startswith("captum_ib.")]
    offered = {*attr.__all__, *baselines.__all__} - {"CrossAttention", "libra"}
    assert {row.title for row in ours} == offered <= set(captum_ib.__all__)
    for row in ours:
        assert row.cls is getattr(captum_ib, row.title)
        assert "facts" in vars(row.cls) and row.told is None


def test_names_are_listed_without_torch():
    code = (
        "import sys; from captum_ib.methods import METHODS, get; get('NIB').title;"
        "assert len(METHODS) == 34 and METHODS['ig'].unit == 'output units';"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_class_without_facts_is_named():
    row = MethodSpec("captum.attr:Lime")
    assert row.name == "lime"
    with pytest.raises(TypeError, match=r"captum\.attr:Lime has no facts: give the class facts ="):
        row.unit  # noqa: B018


@pytest.mark.parametrize("row", METHODS.values(), ids=METHODS)
def test_bits_are_never_signed(row):
    assert not (row.unit == "bits" and row.signed)


def test_get():
    assert methods.get("NIB") is METHODS["nib"]
    with pytest.raises(
        ValueError, match="unknown method 'cobia'; nearest: coiba, .*all: iba, coiba"
    ):
        methods.get("cobia")
    with pytest.raises(ValueError, match="unknown method 'zzz'; all: iba"):
        methods.get("zzz")


def test_for_kind():
    assert [row.name for row in methods.for_kind("dual")][:2] == ["m2ib", "nib"]
    assert "transformerattribution" not in [row.name for row in methods.for_kind("dual")]
    assert "m2ib" not in [row.name for row in methods.for_kind("classifier")]


def test_settings_reach_those_that_have_them():
    rows = [METHODS["iba"], METHODS["ig"], METHODS["saliency"]]
    given = {"beta": 2.0, "steps": 7, "samples": None, "seed": 1}
    assert methods.settings_for(rows, given) == {
        "iba": {"beta": 2.0, "n_steps": 7, "seed": 1},
        "ig": {"n_steps": 7, "internal_batch_size": 10},
        "saliency": {},
    }
    assert METHODS["ig"].settings == {"internal_batch_size": 10}  # the table stays as it is


def test_settings_that_mean_nothing():
    with pytest.raises(ValueError, match="samples means nothing to nib, ig: .*: iba, coiba, m2ib"):
        methods.settings_for([METHODS["nib"], METHODS["ig"]], {"samples": 3})
