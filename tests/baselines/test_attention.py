"""The attention methods against authors' outputs and eager attention, in every implementation."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from captum_ib.baselines import (
    AttentionGradCAM,
    AttentionRollout,
    BeyondIntuition,
    GenericAttention,
    TransformerAttribution,
)
from captum_ib.layout import TokenLayout
from captum_ib.loading.load import load
from captum_ib.models.dual_encoder import DualEncoder
from tests.baselines.models import (
    IDS,
    MASK,
    bert,
    hf_vit,
    images,
    same_as_hf,
    timm_vit,
    torchvision_vit,
)

ALL = [AttentionGradCAM, AttentionRollout, GenericAttention, TransformerAttribution]


def differences(found, expected):
    """Largest one per sample, relative to its largest value; Grad-CAM's can be 0 everywhere."""
    gap = (found.flatten(1) - expected.flatten(1)).abs().amax(dim=1)
    return gap / expected.flatten(1).abs().amax(dim=1).clamp_min(1e-12)


@pytest.fixture(scope="module")
def vit_data(conformance):
    return load(str(conformance / "vit")).model, load_file(conformance / "vit_images.safetensors")


@pytest.fixture(scope="module")
def clip_data(conformance):
    model = load(str(conformance / "clip"), mean=[0.5] * 3, std=[0.5] * 3).model
    return DualEncoder.from_model(model), load_file(conformance / "clip_pairs.safetensors")


@pytest.mark.parametrize(
    ("method", "key"), [(AttentionRollout, "rollout"), (AttentionGradCAM, "attention_gradcam")]
)
def test_authors_output_on_the_vit(vit_data, method, key):
    model, data = vit_data
    found = method(model).attribute(data["pixel_values"], target=data["target"])
    assert found.shape == (6, 1, 8, 8)
    assert differences(found, data[key]).max() < 1e-5


@pytest.mark.parametrize(("key", "start_layer"), [("", 0), ("_start1", 1)])
def test_authors_output_of_transformer_attribution(vit_data, key, start_layer):
    """Its shares divide by products close to 0, which blows rounding up: on one of the images the
    authors' single precision is 1.1e-2 from double precision (docs/baselines.md)."""
    model, data = vit_data
    found = TransformerAttribution(model).attribute(
        data["pixel_values"], target=data["target"], start_layer=start_layer
    )
    gaps = differences(found, data[f"transformer_attribution{key}"])
    assert gaps.median() < 1e-3 and gaps.max() < 2e-2


@pytest.mark.parametrize(("key", "start_layer"), [("all", 0), ("last", -1)])
def test_authors_output_on_the_clip(clip_data, key, start_layer):
    dual, data = clip_data
    image, text = GenericAttention(dual).attribute(
        (data["pixel_values"], data["input_ids"]),
        additional_forward_args=data["attention_mask"],
        start_layer=start_layer,
    )
    assert image.shape == (8, 1, 7, 7)
    assert differences(image, data[f"generic_image_{key}"]).max() < 1e-5
    assert differences(text, data[f"generic_text_{key}"]).max() < 1e-5


def eager_maps(model, target, **inputs):
    """transformers' own eager attention maps, and gradients by plain autograd."""
    outputs = model(**inputs, output_attentions=True)
    gradients = torch.autograd.grad(outputs.logits[:, target].sum(), outputs.attentions)
    return [a.detach() for a in outputs.attentions], gradients


def rollout_oracle(maps, gradients):
    eye = torch.eye(maps[0].shape[-1])
    product = eye
    for attention in maps:
        mixed = attention.mean(dim=1) / 2 + eye / 2
        product = mixed @ product
    return product[:, 0]


def generic_oracle(maps, gradients):
    relevance = torch.eye(maps[0].shape[-1]).expand(len(maps[0]), -1, -1)
    for attention, gradient in zip(maps, gradients, strict=True):
        relevance = relevance + (attention * gradient).clamp(min=0).mean(dim=1) @ relevance
    return relevance[:, 0]


@pytest.mark.parametrize(
    ("method", "oracle"),
    [(AttentionRollout, rollout_oracle), (GenericAttention, generic_oracle)],
)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_against_eager_attention_of_transformers(method, oracle, attention):
    pixels = images()
    maps, gradients = eager_maps(hf_vit("eager"), 3, pixel_values=pixels)
    found = method(hf_vit(attention)).attribute(pixels, target=3)
    assert torch.allclose(found.flatten(1), oracle(maps, gradients)[:, 1:], rtol=1e-4, atol=1e-6)
    maps, gradients = eager_maps(bert("eager"), 3, input_ids=IDS, attention_mask=MASK)
    found = method(bert(attention)).attribute(IDS, target=3, additional_forward_args=MASK)
    expected = oracle(maps, gradients) * MASK
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ALL)
def test_same_weights_in_other_implementations(method):
    """In double precision: relevance divides by products that can come close to 0."""
    pixels = images().double()
    source = hf_vit("sdpa").double()
    expected = method(source).attribute(pixels, target=1)
    assert torch.allclose(
        method(hf_vit("eager").double()).attribute(pixels, target=1), expected, rtol=1e-4, atol=1e-6
    )
    for fused in (True, False):
        model = same_as_hf(timm_vit(mlp_ratio=4).double(), source)
        for block in model.blocks:
            block.attn.fused_attn = fused
        found = method(model).attribute(pixels, target=1)
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-6)
        assert all(block.attn.fused_attn == fused for block in model.blocks)


@pytest.mark.parametrize("method", ALL)
def test_multi_head_attention_of_torch(method):
    """Against the same layers with their attention written out."""

    class Written(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, query, key, value, **kwargs):
            n, tokens, width = query.shape
            packed = nn.functional.linear(query, self.inner.in_proj_weight, self.inner.in_proj_bias)
            q, k, v = packed.view(n, tokens, 3, 2, width // 2).permute(2, 0, 3, 1, 4).unbind(0)
            weights = ((q / (width // 2) ** 0.5) @ k.transpose(-2, -1)).softmax(dim=-1)
            joined = (weights @ v).transpose(1, 2).reshape(n, tokens, width)
            return nn.functional.linear(
                joined, self.inner.out_proj.weight, self.inner.out_proj.bias
            ), None

    model = torchvision_vit()
    found = method(model).attribute(images(), target=2, layout=TokenLayout("tokens", 1, (4, 4)))
    for layer in model.encoder.layers:
        layer.self_attention = Written(layer.self_attention)
    expected = method(model).attribute(images(), target=2, layout=TokenLayout("tokens", 1, (4, 4)))
    assert found.std() > 0
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-6)


class Folded(nn.Module):
    """timm's attention with its heads folded into the samples, as transformers' CLIP had them."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x, **kwargs):
        n, tokens, width = x.shape
        packed = self.inner.qkv(x).reshape(n, tokens, 3, self.inner.num_heads, -1)
        q, k, v = (part.flatten(0, 1) for part in packed.permute(2, 0, 3, 1, 4).unbind(0))
        weights = nn.functional.softmax(torch.bmm(q * self.inner.scale, k.transpose(1, 2)), dim=-1)
        joined = torch.bmm(weights, v).unflatten(0, (n, -1)).transpose(1, 2)
        return self.inner.proj(joined.reshape(n, tokens, width))


@pytest.mark.parametrize("method", [*ALL, BeyondIntuition])
def test_heads_folded_into_the_samples(method):
    settings = {"target": 1, **({"variant": "token"} if method is BeyondIntuition else {})}
    model, pixels = timm_vit().double(), images().double()
    expected = method(model).attribute(pixels, **settings)
    for block in model.blocks:
        block.attn = Folded(block.attn)
    assert torch.allclose(method(model).attribute(pixels, **settings), expected, rtol=1e-4)


@pytest.mark.parametrize("method", ALL)
def test_mean_pooling_reads_all_patches(method):
    model = timm_vit(global_pool="avg", class_token=False)
    found = method(model).attribute(images(), target=1)
    assert found.shape == (2, 1, 4, 4)
    rows = [method(model).attribute(images(), target=1, readout=i) for i in range(16)]
    if method is not AttentionGradCAM:  # which is no linear function of the row
        assert torch.allclose(found, torch.stack(rows).mean(dim=0), rtol=1e-4, atol=1e-6)


def test_rollout_is_a_share():
    found = AttentionRollout(bert("sdpa")).attribute(IDS[:1], additional_forward_args=MASK[:1])
    assert torch.allclose(found.sum(dim=1), torch.ones(1), atol=1e-5)


def test_start_layer_counts_from_both_ends():
    instance = GenericAttention(timm_vit())
    assert torch.equal(
        instance.attribute(images(), target=1, start_layer=2),
        instance.attribute(images(), target=1, start_layer=-1),
    )
    with pytest.raises(ValueError, match="start_layer 3 is not one of the 3 attention layers"):
        instance.attribute(images(), target=1, start_layer=3)
    with pytest.raises(TypeError, match="start_layer must be an int, given float"):
        instance.attribute(images(), target=1, start_layer=1.0)


def test_readout():
    instance = GenericAttention(timm_vit())
    found = instance.attribute(images(), target=1)
    assert torch.equal(found, instance.attribute(images(), target=1, readout=0))
    assert torch.equal(found, instance.attribute(images(), target=1, readout=torch.tensor([0, 0])))
    with pytest.raises(ValueError, match="readout must be the index of one of 17 tokens"):
        instance.attribute(images(), target=1, readout=17)
    with pytest.raises(TypeError, match="readout must be an int or a tensor of ints"):
        instance.attribute(images(), target=1, readout=0.5)


def test_a_constant_output_is_read_from_nowhere():
    model = timm_vit()
    nn.init.zeros_(model.head.weight)
    with pytest.raises(ValueError, match="no gradient at the last attention map"):
        GenericAttention(model).attribute(images(), target=1)


@pytest.mark.parametrize("method", ALL)
def test_models_without_attention_are_named(method):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5))
    model(images())
    with pytest.raises(ValueError, match="the forward pass gave no attention maps"):
        method(model).attribute(images(), target=1)


@pytest.mark.parametrize("method", [m for m in ALL if m is not GenericAttention])
def test_windows_are_refused(method):
    from timm.models.swin_transformer import SwinTransformer

    model = SwinTransformer(
        img_size=32, patch_size=4, window_size=4, embed_dim=8, depths=(1, 1), num_heads=(2, 2)
    ).eval()
    with pytest.raises(ValueError, match="attention in windows or over several resolutions"):
        method(model).attribute(images(size=32), target=1)


def test_transformer_attribution_takes_classifiers(clip_folder):
    dual = DualEncoder.from_model(load(str(clip_folder)).model)
    with pytest.raises(TypeError, match="explains classifiers: .* use GenericAttention"):
        TransformerAttribution(dual)


def test_transformer_attribution_names_the_operation_without_a_rule():
    class Head(nn.Module):
        def forward(self, x):
            return x.exp()

    model = timm_vit()
    model.head = nn.Sequential(model.head, Head())
    with pytest.raises(RuntimeError, match="no relevance rule for exp; .* use GenericAttention"):
        TransformerAttribution(model).attribute(images(), target=1)


@pytest.mark.parametrize("method", ALL)
def test_a_layout_for_tokens_that_do_not_fit(method):
    with pytest.raises(ValueError, match="has 17 tokens; the layout has 0 prefix tokens"):
        method(timm_vit()).attribute(images(), target=1, layout=TokenLayout("tokens", 0, (4, 4)))
