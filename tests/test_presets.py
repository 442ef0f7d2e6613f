"""What is taken when a person names no method, layer or setting."""

from __future__ import annotations

import inspect

import pytest
import timm
import torch

from captum_ib import IBA, M2IB, NIB, CoIBA, DualEncoder, methods, zoo
from captum_ib.models.layers import CHOICES
from captum_ib.presets import PRESETS, Preset, preset_of, recommended_method

ROWS = [(name, method) for name, rows in PRESETS.items() for method in rows]


@pytest.mark.parametrize(("name", "method"), ROWS)
def test_a_row_names_what_exists(name, method):
    row, preset = methods.get(method), preset_of(method, name)
    parameters = inspect.signature(row.cls.attribute).parameters
    assert preset is PRESETS[name][method]
    assert preset.layers in CHOICES
    assert set(preset.settings) <= set(parameters)
    assert all(parameters[key].default != value for key, value in preset.settings.items())


@pytest.fixture(scope="module")
def vit():
    return zoo.load("vit-scenes")


@pytest.fixture(scope="module")
def scenes(vit):
    found = zoo.scenes.labelled(8, seed=77, size=vit.image_size)
    return vit.normalize(found.images), found.labels


def mapped(method, preset, inputs, **call):
    """The map that a preset gives, as the shell and the app ask for it."""
    return method(inputs[0], preset.layers).attribute(*inputs[1:], **preset.settings, **call)


class TestTheCallsBehindThePresets:
    """Layers and keywords written out: the zoo's models have eight blocks (text: six)."""

    def test_iba(self, vit, scenes):
        x, target = scenes
        call = {"target": target[:2], "seed": 0}
        found = mapped(IBA, preset_of("iba"), (vit.model, x[:2]), **call)
        written = IBA(vit.model, "blocks.2").attribute(x[:2], beta=1.0, **call)
        torch.testing.assert_close(found, written, rtol=0, atol=0)

    def test_coiba(self, vit, scenes):
        x, target = scenes
        call = {"target": target[:2], "seed": 0}
        found = mapped(CoIBA, preset_of("coiba"), (vit.model, x[:2]), **call)
        norms = [f"blocks.{index}.norm1" for index in range(8)]
        written = CoIBA(vit.model, norms).attribute(x[:2], beta=0.01, **call)
        torch.testing.assert_close(found, written, rtol=0, atol=0)

    def test_coiba_of_the_paper(self, vit, scenes):
        x, target = scenes
        call = {"target": target[:2], "seed": 0}
        found = mapped(CoIBA, preset_of("coiba", "paper"), (vit.model, x[:2]), **call)
        norms = [f"blocks.{index}.norm1" for index in range(2, 8)]
        written = CoIBA(vit.model, norms).attribute(
            x[:2], beta=1.0, n_samples=10, antithetic=False, **call
        )
        torch.testing.assert_close(found, written, rtol=0, atol=0)

    def test_nib(self, vit, scenes):
        x, target = scenes
        found = mapped(NIB, preset_of("nib"), (vit.model, x[:2]), target=target[:2])
        written = NIB(vit.model, "blocks.4").attribute(x[:2], target=target[:2])
        torch.testing.assert_close(found, written, rtol=0, atol=0)

    def test_m2ib(self):
        clip = zoo.load("clip-scenes")
        dual = DualEncoder.from_model(clip.model)
        pairs = zoo.scenes.captioned(2, seed=77, size=clip.image_size)
        ids, mask = clip.tokenizer(pairs.captions)
        inputs = (clip.normalize(pairs.images), ids)
        call = {"additional_forward_args": mask, "seed": 0}
        found = mapped(M2IB, preset_of("m2ib"), (dual, inputs), **call)
        places = ["vision_model.encoder.layers.2", "text_model.encoder.layers.1"]
        written = M2IB(dual, places).attribute(inputs, prior="estimated", **call)
        for one, other in zip(found, written, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)


def collapsed(bits):
    """Maps in which no position has a whole bit."""
    return int((bits.flatten(1).amax(1) < 1).sum())


def test_ibas_maps_do_not_collapse(vit, scenes):
    x, target = scenes
    call = {"target": target, "seed": 0}
    assert collapsed(mapped(IBA, preset_of("iba", "paper"), (vit.model, x), **call)) == 6
    assert collapsed(mapped(IBA, preset_of("iba"), (vit.model, x), **call)) == 0


def test_methods_without_a_row_keep_their_own_defaults():
    assert preset_of("genericattention").settings == {}
    assert preset_of("nib", "paper").layers == "paper"
    assert preset_of("nib", "paper").settings == {}


class TestOtherArchitectures:
    """What was chosen on plain transformers is not taken where it did no better."""

    def test_a_cnn_keeps_the_papers_settings(self):
        cnn = timm.create_model("resnet18", pretrained=False)
        assert recommended_method("classifier", cnn) == "iba"
        for method in ("iba", "coiba"):
            assert preset_of(method, model=cnn) == Preset("auto", {})

    def test_a_staged_transformer_too(self):
        swin = timm.create_model(
            "swin_tiny_patch4_window7_224", pretrained=False, embed_dim=8, num_heads=(1, 1, 2, 2)
        )
        assert recommended_method("classifier", swin) == "coiba"
        assert preset_of("coiba", model=swin) == Preset("auto", {})

    def test_a_model_without_blocks_too(self):
        head = torch.nn.Linear(4, 2)
        assert recommended_method("classifier", head) == "coiba"
        assert preset_of("iba", model=head) == Preset("auto", {})

    def test_a_plain_transformer_has_its_own(self, vit):
        assert recommended_method("classifier", vit.model) == "coiba"
        assert preset_of("coiba", model=vit.model) is PRESETS["recommended"]["coiba"]
        assert preset_of("coiba", "paper", vit.model) is PRESETS["paper"]["coiba"]


@pytest.mark.parametrize("kind", ["classifier", "dual"])
def test_the_recommended_method_explains_its_kind(kind):
    assert kind in methods.get(recommended_method(kind)).takes


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match="unknown preset 'best', expected one of .*recommended"):
        preset_of("iba", "best")
