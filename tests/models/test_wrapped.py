"""Models as people run them: with adapters, offloaded, with integer weights."""

from __future__ import annotations

import copy

import pytest
import torch
import transformers
from torch import nn

from captum_ib import IBA, NIB, CoIBA, InputWarning
from tests.models.rows import TOWER

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # peft's use of transformers
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
FEW = {"n_steps": 3, "n_samples": 2, "seed": 0}
EXACT = {"method": "gausslegendre", "n_steps": 20, "power": 4}
PROJECTIONS = ["q_proj", "v_proj", "query", "value"]


@pytest.fixture(scope="module")
def vit() -> nn.Module:
    torch.manual_seed(0)
    config = transformers.ViTConfig(image_size=32, patch_size=8, num_labels=3, **TOWER)
    model = transformers.ViTForImageClassification(config).eval()
    with torch.no_grad():  # the initial weights are so small that hardly anything matters
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(6)
    return model


def pixels() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def settings(method):
    return EXACT if method is NIB else FEW


@pytest.mark.parametrize("method", [IBA, NIB, CoIBA])
def test_a_lora_adapter_gives_the_map_of_the_merged_model(vit, method):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(target_modules=PROJECTIONS, r=4, init_lora_weights=False)
    torch.manual_seed(0)
    adapted = peft.get_peft_model(copy.deepcopy(vit), config).eval()
    merged = copy.deepcopy(adapted).merge_and_unload().eval()
    found = method(adapted).attribute(pixels(), target=1, **settings(method))
    expected = method(merged).attribute(pixels(), target=1, **settings(method))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    plain = method(vit).attribute(pixels(), target=1, **settings(method))
    assert float((found - plain).abs().max()) > 1e-2 * float(plain.abs().max())


def test_inside_an_adapter_that_does_nothing_yet_the_map_is_0_and_says_so(vit):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(target_modules=PROJECTIONS, r=4)  # B = 0
    adapted = peft.get_peft_model(copy.deepcopy(vit), config).eval()
    inside = next(n for n, _ in adapted.named_modules() if n.endswith("lora_A.default"))
    with pytest.warns(InputWarning, match="the map is 0 everywhere"):
        assert not NIB(adapted, inside).attribute(pixels(), target=1).any()
    with pytest.raises(RuntimeError, match="no gradient reaches layer"):
        IBA(adapted, inside).attribute(pixels(), target=1, **FEW)


@pytest.mark.parametrize("kind", ["cpu_offload", "disk_offload", "device_map"])
@pytest.mark.parametrize("method", [IBA, NIB, CoIBA])
def test_hooks_of_accelerate_change_nothing(vit, kind, method, tmp_path):
    accelerate = pytest.importorskip("accelerate")
    model, cpu = copy.deepcopy(vit), torch.device("cpu")
    moved = {
        "cpu_offload": lambda: accelerate.cpu_offload(model, execution_device=cpu),
        "disk_offload": lambda: accelerate.disk_offload(model, str(tmp_path), execution_device=cpu),
        "device_map": lambda: accelerate.dispatch_model(model, device_map={"": "cpu"}),
    }[kind]()
    found = method(moved).attribute(pixels(), target=1, **settings(method))
    expected = method(vit).attribute(pixels(), target=1, **settings(method))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", [IBA, NIB, CoIBA])
def test_weights_of_eight_bits_give_nearly_the_same_map(vit, method):
    quantization = pytest.importorskip("torchao.quantization")
    small = copy.deepcopy(vit)
    quantization.quantize_(small, quantization.Int8WeightOnlyConfig())
    found = method(small).attribute(pixels(), target=1, **settings(method))
    expected = method(vit).attribute(pixels(), target=1, **settings(method))
    both = torch.stack([found.flatten(), expected.flatten()])
    assert float(torch.corrcoef(both)[0, 1]) > 0.99


@pytest.mark.filterwarnings("ignore:torch.quantize_per")
@pytest.mark.parametrize("method", [IBA, NIB, CoIBA])
def test_operations_in_integers_have_no_gradient_which_is_said(vit, method):
    model = torch.ao.quantization.quantize_dynamic(
        copy.deepcopy(vit), {nn.Linear}, dtype=torch.qint8
    )
    with pytest.raises(RuntimeError, match="no gradient reaches .*int8 weights"):
        method(model).attribute(pixels(), target=1, **settings(method))
