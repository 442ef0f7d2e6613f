"""LayerGradCAM, ScoreCAM and ViTCX against plain loops and Captum's own Grad-CAM."""

from __future__ import annotations

import pytest
import torch
from captum.attr import LayerGradCam
from timm.models.swin_transformer import SwinTransformer
from torch import nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock, ResNet

from captum_ib.baselines import LayerGradCAM, ScoreCAM, ViTCX
from captum_ib.baselines.vit_cx import merged
from captum_ib.layout import TokenLayout
from tests.baselines.models import IDS, MASK, bert, hf_vit, images, seeded, timm_vit


def resnet() -> ResNet:
    return seeded(ResNet(BasicBlock, [1, 1, 1, 1], num_classes=5), std=0.05)


def output_of(model, layer, *args, **kwargs):
    """A layer's output and the logits, by a plain hook."""
    found = []
    handle = layer.register_forward_hook(lambda module, inputs, output: found.append(output))
    logits = model(*args, **kwargs)
    handle.remove()
    if isinstance(found[0], tuple):  # transformers 4
        found = found[0]
    return found[0], getattr(logits, "logits", logits)


@pytest.mark.parametrize("relu", [False, True])
def test_captums_gradcam_on_feature_maps(relu):
    model, x = resnet(), images(size=64)
    expected = LayerGradCam(model, model.layer3).attribute(x, 1, relu_attributions=relu)
    found = LayerGradCAM(model, "layer3").attribute(x, 1, relu_attributions=relu)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_gradcam_on_tokens():
    model, x = timm_vit(), images()
    tokens, logits = output_of(model, model.blocks[-1].norm1, x)
    (slope,) = torch.autograd.grad(logits[:, 2].sum(), tokens)
    expected = (tokens * slope[:, 1:].mean(dim=1, keepdim=True)).sum(dim=-1)[:, 1:]
    found = LayerGradCAM(model).attribute(x, target=2)
    assert torch.allclose(found.flatten(1), expected, rtol=1e-4, atol=1e-6)


def test_gradcam_on_a_sequence_leaves_padding_out():
    model = bert("sdpa")
    layers = model.bert.encoder.layer
    tokens, logits = output_of(model, layers[1], IDS, attention_mask=MASK)
    (slope,) = torch.autograd.grad(logits[:, 2].sum(), tokens)
    valid = MASK.unsqueeze(-1)
    weight = (slope * valid).sum(dim=1, keepdim=True) / valid.sum(dim=1, keepdim=True)
    expected = (tokens * weight).sum(dim=-1) * MASK
    instance = LayerGradCAM(model)
    assert instance.layers[0][1] is layers[1]  # BERT normalises last: the last block but one
    found = instance.attribute(IDS, target=2, additional_forward_args=MASK)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_layer_input_and_layout():
    model, x = timm_vit(), images()
    found = LayerGradCAM(model, "blocks.1").attribute(x, 0, attribute_to_layer_input=True)
    assert torch.allclose(found, LayerGradCAM(model, "blocks.0").attribute(x, 0), atol=1e-6)
    sequence = LayerGradCAM(model, "blocks.1").attribute(x, 0, layout=TokenLayout("sequence"))
    assert sequence.shape == (2, 17)
    with pytest.raises(ValueError, match="has 17 tokens; the layout has 0 prefix tokens"):
        LayerGradCAM(model, "blocks.1").attribute(x, 0, layout=TokenLayout("tokens", 0, (4, 4)))
    with pytest.raises(ValueError, match="LayerGradCAM takes one layer, given 2"):
        LayerGradCAM(model, ["blocks.0", "blocks.1"])
    with pytest.raises(ValueError, match="forward_func is a plain function"):
        LayerGradCAM(lambda value: model(value))


def test_default_layers():
    vit, text, cnn = timm_vit(), bert("sdpa"), resnet()
    swin = SwinTransformer(img_size=32, embed_dim=8, depths=(1, 1), num_heads=(2, 2), window_size=4)
    for method, expected in (
        (LayerGradCAM, ["blocks.2.norm1", "bert.encoder.layer.1", "layer4.0", "norm1"]),
        (ViTCX, ["blocks.2.norm1", "bert.encoder.layer.1", "layer4.0", "norm1"]),
        (ScoreCAM, ["blocks.1", "bert.encoder.layer.1", "layer4.0", "blocks.0"]),
    ):
        names = [method(model).layers[0][0] for model in (vit, text, cnn, swin)]
        assert names[:3] == expected[:3] and names[3].endswith(expected[3])


def test_gradcam_needs_a_gradient():
    model = timm_vit()
    with pytest.raises(RuntimeError, match="does not depend on layer Linear"):
        LayerGradCAM(lambda x: model(x).detach(), model.head).attribute(images(), 0)


@pytest.mark.parametrize(("build", "size"), [(timm_vit, 16), (resnet, 64)])
def test_score_cam_as_a_loop(build, size):
    model, x = build(), images(1, size)
    layer = model.blocks[-2] if build is timm_vit else model.layer4[-1]
    with torch.no_grad():
        activation, _ = output_of(model, layer, x)
        if build is timm_vit:
            activation = activation[:, 1:].transpose(1, 2).unflatten(2, (4, 4))
        scores, kept = [], []
        for channel in activation[0]:
            if channel.max() == channel.min():
                continue
            big = F.interpolate(channel[None, None], (size, size), mode="bilinear")
            mask = (big - big.min()) / (big.max() - big.min())
            scores.append(model(x * mask).softmax(dim=1)[0, 3])
            kept.append(channel)
        weights = torch.stack(scores).softmax(dim=0)
        expected = torch.einsum("c,chw->hw", weights, torch.stack(kept))
    found = ScoreCAM(model).attribute(x, target=3, perturbations_per_eval=5)
    assert torch.allclose(found[0, 0], expected.clamp_min(0), rtol=1e-4, atol=1e-6)
    signed = ScoreCAM(model).attribute(x, target=3, relu_attributions=False)
    assert torch.allclose(signed[0, 0], expected, rtol=1e-4, atol=1e-6)


def test_constant_layers_make_no_masks():
    model = timm_vit()
    nn.init.zeros_(model.blocks[-1].norm1.weight)
    for method in (ScoreCAM, ViTCX):
        with pytest.raises(ValueError, match="is constant over its positions"):
            method(model, "blocks.2.norm1").attribute(images(), target=0)


def test_vit_cx_as_a_loop():
    model, x = hf_vit("sdpa"), images(1)
    instance = ViTCX(model)
    with torch.no_grad():
        tokens, logits = output_of(model, instance.layers[0][1], x)
        channels = tokens[0, 1:].T.unflatten(1, (4, 4))
        big = F.interpolate(channels[None], (16, 16), mode="bilinear")[0].flatten(1)
        low, high = big.amin(dim=1, keepdim=True), big.amax(dim=1, keepdim=True)
        masks = ((big - low) / (high - low)).view(-1, 16, 16)
        generator = torch.Generator().manual_seed(3)
        noise = 0.1 * torch.randn(len(masks), 1, 3, 16, 16, generator=generator)
        base = logits.softmax(dim=1)[0, 1]
        top, bottom = torch.zeros(16, 16), torch.zeros(16, 16)
        for mask, drawn in zip(masks, noise, strict=True):
            hidden = drawn * (1 - mask)
            seen = model(x * mask + hidden).logits.softmax(dim=1)[0, 1]
            noisy = model(x + hidden).logits.softmax(dim=1)[0, 1]
            top += (seen - noisy + base) * mask
            bottom += mask
    settings = {"target": 1, "seed": 3, "distance_threshold": 0.0}
    found = instance.attribute(x, perturbations_per_eval=4, **settings)
    assert torch.allclose(found[0, 0], top / bottom, rtol=1e-4, atol=1e-6)


def test_merging_is_complete_linkage():
    """Cosines: a–b 0.995, b–c 0.995, a–c 0.980, d apart; at 0.01 only one pair can merge."""
    angles = torch.tensor([0.0, 0.1, 0.201, 1.2])
    masks = torch.stack([angles.cos(), angles.sin(), torch.zeros(4)], dim=1).view(4, 1, 3)
    joined = merged(masks, 0.01)
    pair = masks[0] + masks[1]
    expected = (pair - pair.min()) / (pair.max() - pair.min())
    assert len(joined) == 3
    assert any(torch.allclose(mask, expected, atol=1e-6) for mask in joined)
    assert len(merged(masks, 0.03)) == 2
    assert torch.equal(merged(masks, 0.0), masks)


def test_vit_cx_refuses_negative_settings():
    with pytest.raises(ValueError, match="must be at least 0, given -1 and 0.1"):
        ViTCX(timm_vit()).attribute(images(), target=0, distance_threshold=-1)
