"""The five steps of docs/add_a_method.md, taken with the page's own code."""

from __future__ import annotations

import ast
import doctest
import importlib
import sys
from dataclasses import replace

import pytest
import torch
from captum.attr import LayerGradientXActivation
from PIL import Image

from captum_ib import attr, baselines
from captum_ib.cli import main
from captum_ib.methods import METHODS, for_kind
from tests.attr import test_contract as contract
from tests.attr.cases import SUBJECTS, Case, Method
from tests.baselines import test_contract as comparators
from tests.docs.pages import PAGES, blocks

PAGE = PAGES["docs/add_a_method.md"]
FILE, ROW, NUMBERS, COMPARATOR = (block.text for block in blocks(PAGE))
KINDS = ("conv", "linear", "vit", "swin", "resnet", "hf_vit")
ALIKE = (
    contract.test_shape_and_sign,
    contract.test_samples_do_not_influence_each_other,
    contract.test_every_form_of_target,
    contract.test_nan_and_wrong_inputs_are_named,
)
ON_ONE = (
    contract.test_tuple_in_tuple_out,
    contract.test_layer_shaped_without_the_channel_sum,
    contract.test_seeds,
    contract.test_noise_tunnel,
    contract.test_sensitivity_max,
    contract.test_wrong_targets,
    contract.test_nan_activations_name_the_layer,
    contract.test_autocast,
    contract.test_deterministic_algorithms,
    contract.test_names,
    contract.test_unknown_layer_lists_the_nearest,
)


def _module(name, text, folder, monkeypatch):
    (folder / f"{name}.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    importlib.invalidate_caches()
    monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module(name)


@pytest.fixture
def added(tmp_path, monkeypatch):
    """Steps 1 to 3: the class in a file of its own, exported, and its row in the table."""
    module = _module("channel_iba", FILE, tmp_path, monkeypatch)
    monkeypatch.setattr(attr, "ChannelIBA", module.ChannelIBA, raising=False)
    names: dict = {}
    exec(ROW, names)
    row = replace(names["row"], cls_path="channel_iba:ChannelIBA")
    monkeypatch.setitem(METHODS, row.name, row)
    yield module
    sys.modules.pop("channel_iba")


def case_of(added, kind):
    method = Method(lambda subject: added.ChannelIBA(subject.model, subject.layers[0]))
    return Case(method, SUBJECTS[kind]())


@pytest.mark.parametrize("kind", KINDS)
def test_the_contract_needs_one_row(added, kind):
    case = case_of(added, kind)
    before = contract.state(case.subject.model)
    for check in ALIKE:
        check(case)
    for size in (1, 4):
        contract.test_internal_batch_size_does_not_change_the_result(case, size)
    assert contract.same_state(before, contract.state(case.subject.model))


def test_the_rest_of_the_contract_on_a_vit(added):
    case = case_of(added, "vit")
    before = contract.state(case.subject.model)
    for check in ON_ONE:
        check(case)
    contract.test_works_where_gradients_are_off(case, torch.no_grad)
    contract.test_half_precision_is_close_to_single(case, torch.bfloat16)
    contract.test_the_model_comes_back_when_a_layer_raises(case, OSError)
    assert contract.same_state(before, contract.state(case.subject.model))


def test_one_lambda_per_channel(added):
    """KL = ½λ²R̂² + a number of the channel: over its positions a line in R̂², of slope ½λ²."""
    case = case_of(added, "conv")
    settings = {"reduce": "none", "beta": 1e-4, "n_steps": 8}
    bits = case.attribute(added.ChannelIBA(case.subject.model, "conv1"), **settings)
    R = case.subject.model.conv1(case.subject.inputs).detach()
    mean, std = R.mean(dim=(2, 3), keepdim=True), R.std(dim=(2, 3), keepdim=True, correction=0)
    nats, square = bits * torch.log(torch.tensor(2.0)), ((R - mean) / std).square()
    nats, square = nats.flatten(2), square.flatten(2)
    x, y = square - square.mean(-1, keepdim=True), nats - nats.mean(-1, keepdim=True)
    slope = (x * y).sum(-1, keepdim=True) / x.square().sum(-1, keepdim=True)
    assert (y - slope * x).abs().max() < 1e-4
    assert ((slope > 0) & (slope <= 0.5)).all() and (slope.amax(1) - slope.amin(1)).max() > 0.05


def test_the_method_is_short():
    """Without its imports, docstrings, facts and empty lines."""
    tree = ast.parse(FILE)
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    lines = set()
    for node in classes:
        lines |= set(range(node.lineno, node.end_lineno + 1))
        for part in ast.walk(node):
            told = isinstance(part, ast.Assign) and ast.unparse(part.targets[0]) == "facts"
            text = isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)
            if told or text:
                lines -= set(range(part.lineno, part.end_lineno + 1))
    text = FILE.splitlines()
    assert len([line for line in lines if text[line - 1].strip()]) < 40


def test_the_row_is_enough_for_the_command_line(added, tmp_path, capsys):
    assert METHODS["channeliba"] in for_kind("classifier")
    Image.new("RGB", (64, 64), "red").save(tmp_path / "x.png")
    command = "explain --model vit-scenes --method channeliba --steps 3 --image".split()
    assert main([*command, str(tmp_path / "x.png"), "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "x-channeliba.png").is_file()
    assert main(["methods"]) == 0
    assert "channeliba" in capsys.readouterr().out


def test_its_numbers_and_its_example(added):
    exec(NUMBERS, {"ChannelIBA": added.ChannelIBA})
    assert doctest.testmod(added, extraglobs={}) == (0, 3)


@pytest.mark.parametrize("kind", ["swin", "clip"])
def test_the_comparator_keeps_the_contract(tmp_path, monkeypatch, kind):
    module = _module("gradient_activation", COMPARATOR, tmp_path, monkeypatch)
    monkeypatch.setattr(baselines, "GradientActivation", module.GradientActivation, raising=False)
    method = comparators.Method((kind,), signed=True)
    case = comparators.Case("GradientActivation", method, SUBJECTS[kind]())
    comparators.test_shape_and_sign(case)
    comparators.test_samples_do_not_influence_each_other(case)
    comparators.test_batch_sizes_do_not_change_the_result(case)
    comparators.test_nan_inside_the_model_never_comes_out(case)
    sys.modules.pop("gradient_activation")


def test_the_comparators_numbers_are_captums_on_feature_maps(tmp_path, monkeypatch):
    module = _module("gradient_activation", COMPARATOR, tmp_path, monkeypatch)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(144, 5)
    )
    images = torch.rand(2, 3, 8, 8)
    theirs = LayerGradientXActivation(model, model[0]).attribute(images, target=1)
    ours = module.GradientActivation(model, "0").attribute(images, target=1)
    torch.testing.assert_close(ours, theirs.sum(dim=1, keepdim=True))
    sys.modules.pop("gradient_activation")


def test_the_page_uses_public_names_only():
    for text in (FILE, COMPARATOR):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom):
                names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
                assert all(not n.startswith("_") or n == "__future__" for n in names), names
            if isinstance(node, ast.Attribute):
                assert not node.attr.startswith("_") or node.attr == "__init__", node.attr


def test_the_page_names_what_is_there():
    places = "forward bottleneck hooks layout attr.base baselines.one_layer".split()
    homes = [importlib.import_module(f"captum_ib.{place}") for place in places]
    assert all(f"`captum_ib.{place}`" in PAGE for place in places)
    table = PAGE.split("| part | does |")[1].split("\n\n")[0]
    parts = [cell for line in table.splitlines()[2:] for cell in line.split("|")[1].split(",")]
    assert len(parts) == 38
    for part in parts:
        name = part.strip().strip("`")
        assert any(hasattr(home, name) for home in homes), name
