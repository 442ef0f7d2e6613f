"""Blocks, stages and default layers of architectures."""

from __future__ import annotations

import pytest
import timm
import torch
import transformers
from torch import nn

from captum_ib import IBA, M2IB, NIB, CoIBA, DualEncoder
from captum_ib.models.architectures import ARCHITECTURES, stages
from captum_ib.models.layers import CHOICES, blocks, default_layers
from tests.models.duals import DUAL_ENCODERS


def names(model: nn.Module, method: str) -> list[str]:
    return [name for name, _ in default_layers(model, method)]


def narrow(name: str, **settings) -> nn.Module:
    """A model of full depth, but so narrow that it is built at once."""
    return timm.create_model(name, pretrained=False, **settings)


SWIN = {"embed_dim": 8, "num_heads": (1, 1, 2, 2)}


def test_vit_base_has_the_layers_of_the_papers() -> None:
    model = narrow("vit_base_patch16_224", embed_dim=24)
    assert names(model, "coiba") == [f"blocks.{i}.norm1" for i in range(4, 12)]  # Hong et al.
    assert names(model, "nib") == ["blocks.9"]  # Zhu et al.
    assert names(model, "iba") == ["blocks.6"]


def test_swin_has_the_stage_of_the_paper() -> None:
    model = narrow("swin_tiny_patch4_window7_224", **SWIN)
    assert names(model, "coiba") == [f"layers.2.blocks.{i}.norm1" for i in range(6)]
    assert names(model, "nib") == ["layers.2.blocks.5"]


def test_blocks_that_normalise_last_are_taken_whole() -> None:
    model = narrow("swinv2_tiny_window8_256", **SWIN)
    assert names(model, "coiba") == [f"layers.2.blocks.{i}" for i in range(6)]


def test_resnet50_has_the_layer_of_the_iba_paper() -> None:
    model = narrow("resnet50")
    assert names(model, "iba") == ["layer2.3"]  # conv3_4, Schulz et al.
    assert names(model, "coiba") == [f"layer3.{i}" for i in range(6)] + [
        f"layer4.{i}" for i in range(3)
    ]


def test_stages_in_their_own_module_class_count() -> None:
    """RegNet's stages are no containers of torch's."""
    found = stages(narrow("regnetx_002"))
    assert [len(stage) for stage in found.stages] == [1, 1, 4, 7]
    assert found.stages[2][0][0] == "s3.b1"


def test_class_attention_of_cait_is_no_block() -> None:
    assert {name.split(".")[0] for name, _ in blocks(narrow("cait_xxs24_224", embed_dim=16))} == {
        "blocks"
    }


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4)
        self.mix = nn.Linear(4, 4)

    def forward(self, tokens):
        return tokens + self.mix(self.norm(tokens))


class Tower(nn.Module):
    def __init__(self, depth: int) -> None:
        super().__init__()
        self.stack = nn.ModuleList(Block() for _ in range(depth))


def test_an_unknown_transformer_is_found_by_its_equal_blocks() -> None:
    model = nn.Sequential(nn.Linear(4, 4), Tower(6))
    assert names(model, "coiba") == [f"1.stack.{i}.norm" for i in range(2, 6)]
    assert names(model, "nib") == ["1.stack.4"]


def test_a_model_without_blocks_says_what_to_pass() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    with pytest.raises(ValueError, match="no stack of equal blocks .*pass layer="):
        NIB(model)


@pytest.mark.parametrize("depths", [(4, 4), (4, 3)])
def test_several_stacks_are_ambiguous(depths: tuple[int, int]) -> None:
    model = nn.ModuleDict({"image": Tower(depths[0]), "text": Tower(depths[1])})
    with pytest.raises(
        ValueError,
        match=r"several stacks of blocks \(image.stack, text.stack\), so there is no default layer",
    ):
        IBA(model)


def test_a_pair_of_encoders_as_a_classifier_is_ambiguous() -> None:
    tower = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2}
    config = transformers.CLIPConfig(text_config=tower, vision_config=tower, projection_dim=8)
    with torch.device("meta"):
        model = transformers.CLIPModel(config)
    with pytest.raises(ValueError, match=r"use DualEncoder.from_model\(model\)"):
        CoIBA(model)


def test_a_short_second_stack_does_not_matter() -> None:
    model = nn.ModuleDict({"encoder": Tower(6), "decoder": Tower(2)})
    assert names(model, "iba") == ["encoder.stack.3"]


def test_every_row_names_a_class_that_exists() -> None:
    """A misspelt class would silently leave its models to the fallback."""
    known = {
        f"{module.__module__.partition('.')[0]}:{name}"
        for home in _homes()
        for name, module in vars(home).items()
        if isinstance(module, type)
    }
    rows = {name for row in ARCHITECTURES for name in row.blocks}
    optional = {
        "open_clip:Bottleneck",
        "transformers:DINOv3ViTLayer",
        "transformers:Dinov2WithRegistersLayer",
    }
    assert rows - known <= optional


def _homes() -> list:
    from importlib import import_module

    timm_homes = (
        "beit byobnet cait convnext eva maxxvit mlp_mixer mobilevit resnet swin_transformer "
        "swin_transformer_v2 vision_transformer _efficientnet_blocks"
    )
    transformers_homes = "vit deit beit dinov2 bert roberta distilbert swin swinv2 convnext"
    torchvision_homes = (
        "vision_transformer swin_transformer convnext resnet mobilenetv2 mobilenetv3 efficientnet"
    )
    homes = [f"timm.models.{name}" for name in timm_homes.split()]
    homes += [f"torchvision.models.{name}" for name in torchvision_homes.split()]
    homes += [
        f"transformers.models.{name}.modeling_{name}"
        for name in [*transformers_homes.split(), "convnextv2", "resnet"]
    ]
    return [import_module(name) for name in homes]


class TestChoices:
    """`"paper"` and `"auto"`, in the place of layers."""

    @pytest.mark.parametrize("method", [IBA, CoIBA, NIB])
    def test_paper_is_the_default(self, method: type) -> None:
        model = narrow("vit_base_patch16_224", embed_dim=24)
        assert method(model, "paper").layers == method(model).layers

    def test_auto_takes_the_measured_depths(self) -> None:
        model = narrow("vit_base_patch16_224", embed_dim=24)
        depths = CHOICES["auto"]
        assert IBA(model, "auto").layers[0][0] == f"blocks.{int(depths.iba * 12)}"
        assert NIB(model, "auto").layers[0][0] == f"blocks.{int(depths.nib * 12)}"
        first = int(depths.coiba * 12)
        names = [name for name, _ in CoIBA(model, "auto").layers]
        assert names == [f"blocks.{index}.norm1" for index in range(first, 12)]

    def test_auto_is_the_papers_choice_where_nothing_was_measured(self) -> None:
        model = narrow("swin_tiny_patch4_window7_224", **SWIN)
        for method in (IBA, CoIBA, NIB):
            assert method(model, "auto").layers == method(model, "paper").layers

    def test_towers_have_depths_of_their_own(self) -> None:
        dual = DualEncoder.from_model(DUAL_ENCODERS[0].model())  # five blocks per tower
        depths = CHOICES["auto"]
        for method, share in ((M2IB, depths.pair_m2ib), (NIB, depths.pair_nib)):
            assert [name for name, _ in method(dual, "auto").layers] == [
                f"{tower}_model.encoder.layers.{int(share * 5)}" for tower in ("vision", "text")
            ]
            assert method(dual, "paper").layers == method(dual).layers

    def test_a_plain_function_has_no_choice(self) -> None:
        with pytest.raises(ValueError, match="no model to choose a default layer from"):
            IBA(lambda pixels: pixels, "auto")

    def test_an_unknown_choice_is_refused(self) -> None:
        with pytest.raises(ValueError, match="unknown choice of layers 'best', expected one of"):
            default_layers(Tower(4), "iba", "best")
