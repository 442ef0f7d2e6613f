"""LeGrad, Grad-ECLIP, MaskCLIP, CLIP Surgery, TokenTM: oracles, implementations, failure paths."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import SiglipConfig, SiglipModel

from captum_ib.baselines import CLIPSurgery, GradECLIP, LeGrad, MaskCLIP, TokenTM
from captum_ib.models.dual_encoder import DualEncoder, ZeroShotClassifier
from tests.attr.cases import SUBJECTS
from tests.baselines.models import IDS, MASK, bert, hf_vit, images, same_as_hf, seeded, timm_vit
from tests.models.duals import OPEN_TEXT, OPEN_VISION, open_clip_model

TEXTS = torch.tensor([[18, 3, 4, 5, 19], [18, 7, 19, 0, 0]])


def siglip():
    tower = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3,
        "num_attention_heads": 2,
    }  # fmt: skip
    text = {**tower, "vocab_size": 20, "max_position_embeddings": 5, "projection_size": 16}
    vision = {**tower, "image_size": 16, "patch_size": 4}
    return seeded(SiglipModel(SiglipConfig(text_config=text, vision_config=vision)))


def eager_gradients(model, target, pixels):
    outputs = model(pixel_values=pixels, output_attentions=True)
    return torch.autograd.grad(outputs.logits[:, target].sum(), outputs.attentions)


def test_the_last_layer_of_legrad_is_the_gradient_of_the_model_itself():
    """s_L is the model's own output: nothing is pooled in a way that the model does not."""
    last = eager_gradients(hf_vit("eager"), 3, images())[-1].clamp(min=0).mean(dim=(1, 2))
    found = LeGrad(hf_vit("sdpa")).attribute(images(), target=3, start_layer=-1)
    assert torch.allclose(found.flatten(1), last[:, 1:], rtol=1e-4, atol=1e-9)


def test_legrad_of_earlier_layers_goes_through_the_models_head():
    model = hf_vit("eager")
    outputs = model(pixel_values=images(), output_attentions=True, output_hidden_states=True)
    expected = 0
    # hidden_states[l + 1] is the output of block l, of the last one too.
    for attention, state in zip(outputs.attentions, outputs.hidden_states[1:], strict=True):
        score = model.classifier(model.vit.layernorm(state)[:, 0])[:, 3].sum()
        (gradient,) = torch.autograd.grad(score, attention, retain_graph=True)
        expected = expected + gradient.clamp(min=0).mean(dim=(1, 2))[:, 1:] / 3
    found = LeGrad(hf_vit("sdpa")).attribute(images(), target=3)
    assert torch.allclose(found.flatten(1), expected, rtol=1e-4, atol=1e-9)


def test_without_its_similarity_grad_eclip_is_the_gradient_of_attention():
    """o = A v, so Σ_c ∂S/∂o_c v_jc is ∂S/∂A_j, summed over the heads."""
    last = eager_gradients(hf_vit("eager"), 3, images())[-1].sum(dim=1)[:, 0, 1:]
    found = GradECLIP(hf_vit("sdpa")).attribute(images(), target=3, similarity="none")
    assert torch.allclose(found.flatten(1), last, rtol=1e-4, atol=1e-5 * float(last.abs().max()))


def pooling_oracle(model, pixels, text):
    """Gradients of every layer's pooled embedding at SigLIP's pooling attention."""
    vision = model.vision_model
    states = vision(pixel_values=pixels, output_hidden_states=True).hidden_states[1:]
    head, pool = vision.head, vision.head.attention
    total = 0
    for state in states:
        tokens = vision.post_layernorm(state)
        n, count, width = tokens.shape
        q, k, v = (
            nn.functional.linear(given, weight, bias).unflatten(2, (2, width // 2)).transpose(1, 2)
            for given, weight, bias in zip(
                (head.probe.expand(n, -1, -1), tokens, tokens),
                pool.in_proj_weight.chunk(3), pool.in_proj_bias.chunk(3), strict=True,
            )
        )  # fmt: skip
        attention = (q @ k.transpose(-2, -1) / (width // 2) ** 0.5).softmax(dim=-1)
        pooled = pool.out_proj((attention @ v).transpose(1, 2).flatten(2))
        pooled = (pooled + head.mlp(head.layernorm(pooled)))[:, 0]
        score = torch.cosine_similarity(pooled, text).sum()
        (gradient,) = torch.autograd.grad(score, attention)
        assert gradient.shape == (n, 2, 1, count)
        total = total + gradient.clamp(min=0).mean(dim=(1, 2)) / len(states)
    return total


def test_legrad_reads_the_pooling_attention_of_siglip():
    model = siglip()
    dual = DualEncoder.from_model(model)
    image, text = LeGrad(dual).attribute((images(), TEXTS))
    expected = pooling_oracle(model, images(), dual.encode("text", TEXTS).detach())
    assert torch.allclose(image.flatten(1), expected, rtol=1e-4, atol=1e-7)
    assert text.shape == (2, 5)


SETTINGS = {
    GradECLIP: {"similarity": "projected", "start_layer": 0},
    LeGrad: {},
    TokenTM: {},
}


@pytest.mark.parametrize("method", SETTINGS)
def test_same_weights_in_other_implementations(method):
    """Open attention scales queries in one library and scores in the other; neither shows."""
    pixels = images().double()
    source = hf_vit("sdpa").double()
    settings = {"target": 1, **SETTINGS[method]}
    expected = method(source).attribute(pixels, **settings)
    same = {"rtol": 1e-4, "atol": 1e-6}
    found = method(hf_vit("eager").double()).attribute(pixels, **settings)
    assert torch.allclose(found, expected, **same)
    for fused in (True, False):
        model = same_as_hf(timm_vit(mlp_ratio=4).double(), source)
        for block in model.blocks:
            block.attn.fused_attn = fused
        assert torch.allclose(method(model).attribute(pixels, **settings), expected, **same)


@pytest.mark.parametrize(
    ("method", "settings"),
    [(GradECLIP, {"similarity": "projected"}), (LeGrad, {}), (TokenTM, {}), (CLIPSurgery, {}),
     (MaskCLIP, {"key_similarity": True})],
)  # fmt: skip
def test_a_text_alone_and_padded(method, settings):
    dual = SUBJECTS["clip"]().model
    pixels = images(1)
    short, long = torch.tensor([[18, 7, 9, 19]]), torch.tensor([[18, 7, 9, 19, 0, 0]])
    alone = method(dual).attribute((pixels, short), **settings)
    padded = method(dual).attribute(
        (pixels, long), additional_forward_args=(long != 0).long(), **settings
    )
    assert torch.allclose(padded[0], alone[0], rtol=1e-4, atol=1e-6)
    assert torch.allclose(padded[1][:, :4], alone[1], rtol=1e-4, atol=1e-6)
    assert (padded[1][:, 4:] == 0).all()


def test_feature_surgery_leaves_nothing_that_all_classes_share():
    subject = SUBJECTS["clip"]()
    model = ZeroShotClassifier(subject.model, subject.inputs[1], subject.extra)
    maps = [CLIPSurgery(model).attribute(subject.inputs[0], target=n) for n in range(3)]
    assert sum(maps).abs().max() < 1e-6 < maps[0].abs().max()
    with pytest.raises(ValueError, match="target out of range: given 3"):
        CLIPSurgery(model).attribute(subject.inputs[0], target=3)


def test_mask_clip_of_a_class_is_that_of_its_text():
    subject = SUBJECTS["clip"]()
    pixels, ids = subject.inputs
    model = ZeroShotClassifier(subject.model, ids, subject.extra)
    by_class = MaskCLIP(model).attribute(pixels, target=[0, 1, 2])
    by_text, _ = MaskCLIP(subject.model).attribute(
        (pixels, ids), additional_forward_args=subject.extra
    )
    assert torch.allclose(by_class, by_text, atol=1e-6)


def test_an_open_clip_has_all_five():
    pytest.importorskip("open_clip")
    model = seeded(open_clip_model(vision=OPEN_VISION, text=OPEN_TEXT)())
    pair = (images(2, 32), torch.tensor([[3, 4, 29, 0, 0, 0, 0], [5, 29, 0, 0, 0, 0, 0]]))
    for method in (GradECLIP, LeGrad, TokenTM, MaskCLIP, CLIPSurgery):
        image, text = method(DualEncoder.from_model(model)).attribute(pair)
        assert image.shape == (2, 1, 4, 4) and text.shape == (2, 7)
        assert (text[:, 3:] == 0).all() and image.std() > 0


@pytest.mark.parametrize("method", [MaskCLIP, CLIPSurgery])
def test_tokens_need_a_joint_space(method):
    with pytest.raises(
        TypeError, match=f"{method.__name__} explains pairs: forward_func must be a Dual"
    ):
        method(timm_vit())


def test_several_tokens_are_no_class_token():
    with pytest.raises(ValueError, match="the output is read from 16 tokens, and Grad-ECLIP"):
        GradECLIP(timm_vit(global_pool="avg", class_token=False)).attribute(images(), target=0)
    with pytest.raises(ValueError, match="compares keys with the class token's, and this model"):
        MaskCLIP(DualEncoder.from_model(siglip())).attribute((images(), TEXTS), key_similarity=True)


def test_wrong_settings_are_named():
    model = timm_vit()
    with pytest.raises(ValueError, match='must be one of "heads", "projected", "none", given'):
        GradECLIP(model).attribute(images(), target=0, similarity="keys")
    with pytest.raises(ValueError, match='pooling must be "model" or "mean", given'):
        LeGrad(model).attribute(images(), target=0, pooling="max")
    with pytest.raises(ValueError, match="start_layer 3 is not one of the 3 attention layers"):
        LeGrad(model).attribute(images(), target=0, start_layer=3)
    dual, pair = SUBJECTS["clip"]().model, (images(), TEXTS)
    with pytest.raises(TypeError, match="redundant must be a tensor, .* given str"):
        CLIPSurgery(dual).attribute(pair, redundant="")
    with pytest.raises(ValueError, match=r"ids of shape \(1, T\), given shape \(2, 5\)"):
        CLIPSurgery(dual).attribute(pair, redundant=TEXTS)
    classes = ZeroShotClassifier(dual, TEXTS)
    with pytest.raises(TypeError, match="forward_func must be a DualEncoder"):
        CLIPSurgery(classes).attribute(images(), target=0, redundant=TEXTS[:1])


def test_blocks_that_show_too_little_are_named():
    with pytest.raises(ValueError, match="block bert.encoder.layer.0 .* shows no such"):
        TokenTM(bert("sdpa")).attribute(IDS, target=0, additional_forward_args=MASK)
    model = timm_vit()
    with pytest.raises(ValueError, match="LeGrad looks between the blocks of a model, and forward"):
        LeGrad(lambda pixels: model(pixels)).attribute(images(), target=0)


def test_scaled_attention_has_no_second_path():
    pytest.importorskip("open_clip")
    vision = {**OPEN_VISION, "ls_init_value": 0.1}
    dual = DualEncoder.from_model(seeded(open_clip_model(vision=vision, text=OPEN_TEXT)()))
    pair = (images(1, 32), torch.tensor([[3, 4, 29, 0, 0, 0, 0]]))
    with pytest.raises(ValueError, match="does not add its attention as it is"):
        CLIPSurgery(dual).attribute(pair)
    assert MaskCLIP(dual).attribute(pair)[0].std() > 0  # the block scales by itself
