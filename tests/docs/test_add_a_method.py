"""The five steps of docs/add_a_method.md, taken with the page's own code."""

from __future__ import annotations

import doctest
import importlib
import sys
from dataclasses import replace

import pytest
import torch
from captum.attr import LayerGradientXActivation
from PIL import Image

from captum_ib import baselines
from captum_ib.cli import main
from captum_ib.methods import METHODS, for_kind
from tests.attr.cases import SUBJECTS
from tests.baselines import test_contract as contract
from tests.docs.pages import PAGES, blocks

CODE = [block.text for block in blocks(PAGES["docs/add_a_method.md"])]
FILE, ROW, NUMBERS = (text for text in CODE if "GradientActivation" in text)
KINDS = ("vit", "hf_vit", "swin", "resnet", "clip")
ALIKE = (
    contract.test_shape_and_sign,
    contract.test_samples_do_not_influence_each_other,
    contract.test_batch_sizes_do_not_change_the_result,
    contract.test_without_noise_runs_are_bit_identical,
    contract.test_nan_and_wrong_inputs_are_named,
    contract.test_nan_inside_the_model_never_comes_out,
    contract.test_autocast,
    contract.test_names,
)
CLASSES_ONLY = (
    contract.test_every_form_of_target,
    contract.test_tuple_in_tuple_out,
    contract.test_noise_tunnel,
    contract.test_sensitivity_max,
    contract.test_wrong_targets,
)


@pytest.fixture
def added(tmp_path, monkeypatch):
    """Steps 1 to 3: the class in a file of its own, exported, and its row in the table."""
    (tmp_path / "gradient_activation.py").write_text(FILE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    module = importlib.import_module("gradient_activation")
    monkeypatch.setattr(baselines, "GradientActivation", module.GradientActivation, raising=False)
    names: dict = {}
    exec(ROW, names)
    row = replace(names["row"], cls_path="gradient_activation:GradientActivation")
    monkeypatch.setitem(METHODS, row.name, row)
    yield module
    del sys.modules["gradient_activation"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_contract_needs_one_row(added, kind):
    method = contract.Method(KINDS, signed=True)
    case = contract.Case("GradientActivation", method, SUBJECTS[kind]())
    before = contract.state(case.subject.model)
    for check in ALIKE if case.subject.pair else (*ALIKE, *CLASSES_ONLY):
        check(case)
    contract.test_works_where_gradients_are_off(case, torch.no_grad)
    contract.test_half_precision_is_close_to_single(case, torch.bfloat16)
    contract.test_the_model_comes_back_when_a_layer_raises(case, OSError)
    assert contract.same_state(before, contract.state(case.subject.model))


def test_the_row_is_enough_for_the_command_line(added, tmp_path, capsys):
    assert METHODS["gradientactivation"] in for_kind("dual")
    Image.new("RGB", (64, 64), "red").save(tmp_path / "x.png")
    command = "explain --model vit-scenes --method gradientactivation --image".split()
    assert main([*command, str(tmp_path / "x.png"), "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "x-gradientactivation.png").is_file()
    assert main(["methods"]) == 0
    assert "gradientactivation" in capsys.readouterr().out


def test_its_numbers_are_captums_on_feature_maps(added):
    exec(NUMBERS, {"GradientActivation": added.GradientActivation})
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(144, 5)
    )
    images = torch.rand(2, 3, 8, 8)
    theirs = LayerGradientXActivation(model, model[0]).attribute(images, target=1)
    ours = added.GradientActivation(model, "0").attribute(images, target=1)
    torch.testing.assert_close(ours, theirs.sum(dim=1, keepdim=True))


def test_its_example_runs(added):
    assert doctest.testmod(added, extraglobs={}) == (0, 4)


def test_the_page_names_what_is_there():
    page = PAGES["docs/add_a_method.md"]
    import captum_ib.attr._base
    import captum_ib.attr._explain
    import captum_ib.attr._settings

    import captum_ib.baselines.one_layer
    import captum_ib.forward.call
    import captum_ib.hooks
    import captum_ib.models

    homes = (
        captum_ib.attr._base,
        captum_ib.forward.call,
        captum_ib.attr._explain,
        captum_ib.attr._settings,
        captum_ib.baselines.one_layer,
        captum_ib.hooks,
        captum_ib.models,
    )
    table = page.split("| part | does |")[1].split("\n\n")[0]
    parts = [cell for line in table.splitlines()[2:] for cell in line.split("|")[1].split(",")]
    assert len(parts) == 14
    for part in parts:
        name = part.strip().strip("`")
        assert any(hasattr(home, name) for home in homes), name
