"""IIA and Beyond Intuition against plain loops over models whose attention is written out."""

from __future__ import annotations

import pytest
import torch

from captum_ib.baselines import IIA, BeyondIntuition, ScoreCAM
from tests.attr.cases import SUBJECTS
from tests.baselines.models import hf_vit, images, timm_vit


class Attended:
    """A timm ViT run block by block: attention maps that can be scaled and differentiated."""

    def __init__(self, model):
        self.model = model

    def __call__(self, pixels, scales=None):
        """Logits, maps, the tokens that enter each block, and their values behind the heads."""
        m = self.model
        x = m.norm_pre(m._pos_embed(m.patch_embed(pixels)))
        maps, entering, values = [], [], []
        for depth, block in enumerate(m.blocks):
            entering.append(x)
            n, tokens, width = x.shape
            attn = block.attn
            q, k, v = (
                attn.qkv(block.norm1(x))
                .reshape(n, tokens, 3, attn.num_heads, -1)
                .permute(2, 0, 3, 1, 4)
            )
            weights = (q @ k.transpose(-2, -1) * attn.scale).softmax(dim=-1)
            weights = weights * (scales or {}).get(depth, 1.0)
            maps.append(weights)
            joined = v.transpose(1, 2).reshape(n, tokens, width)
            values.append(joined @ attn.proj.weight.T)
            x = x + attn.proj((weights @ v).transpose(1, 2).reshape(n, tokens, width))
            x = x + block.mlp(block.norm2(x))
        return m.head(m.norm(x)[:, 0]), maps, entering, values


def gradients(logits, maps, target):
    return torch.autograd.grad(logits[:, target].sum(), maps)


def rollout(maps, slopes):
    product = torch.eye(17)
    for weights, slope in zip(maps, slopes, strict=True):
        product = (torch.eye(17) + (weights * slope).clamp(min=0).mean(dim=1)) @ product
    return product[:, 0, 1:]


@pytest.mark.parametrize("integrals", [2, 3])
def test_iia_as_nested_loops(integrals):
    model, x, steps, floor = timm_vit(), images(), 3, 0.2
    written = Attended(model)
    points = [step / steps for step in range(1, steps + 1)]
    expected, count = torch.zeros(2, 16), 0
    for a in points:
        for b in points:
            for c in points if integrals == 3 else [1.0]:
                logits, maps, *_ = written(floor + a * (x - floor), {2: b, 1: c})
                expected += rollout(maps, gradients(logits, maps, 1)).detach()
                count += 1
    found = IIA(model).attribute(x, floor, target=1, n_steps=steps, n_integrals=integrals)
    assert torch.allclose(found.flatten(1), expected / count, rtol=1e-4, atol=1e-5)


def feedback(written, x, steps):
    total = 0
    for alpha in torch.linspace(0, 1, steps):
        logits, maps, *_ = written(alpha * x)
        total = total + gradients(logits, maps[-1:], 1)[0]
    return (total / steps).clamp(min=0).mean(dim=1)


@pytest.mark.parametrize("start", [0, 1])
def test_beyond_intuition_by_heads(start):
    model, x = timm_vit(), images()
    written = Attended(model)
    logits, maps, *_ = written(x)
    slopes = gradients(logits, maps, 1)
    expected = []
    reasoning = feedback(written, x, 4)
    for n in range(2):
        perception = torch.eye(17)
        for weights, slope in list(zip(maps, slopes, strict=True))[start:]:
            sizes = [(a.T @ g).abs().mean() for a, g in zip(weights[n], slope[n], strict=True)]
            mixed = sum(s / sum(sizes) * a for s, a in zip(sizes, weights[n], strict=True))
            perception = perception + mixed @ perception
        expected.append((perception * reasoning[n])[0, 1:])
    found = BeyondIntuition(model).attribute(x, target=1, n_steps=4, start_layer=start)
    assert torch.allclose(found.flatten(1), torch.stack(expected), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("start", [0, 2])
def test_beyond_intuition_by_tokens(start):
    model, x = timm_vit(), images()
    written = Attended(model)
    _, maps, entering, values = written(x)
    perception = torch.eye(17)
    for weights, z, value in list(zip(maps, entering, values, strict=True))[start:]:
        ratio = torch.diag_embed(value.norm(dim=-1) / z.norm(dim=-1))
        perception = perception + weights.mean(dim=1) @ ratio @ perception
    expected = (perception * feedback(written, x, 4))[:, 0, 1:]
    found = BeyondIntuition(model).attribute(
        x, target=1, n_steps=4, start_layer=start, variant="token"
    )
    assert torch.allclose(found.flatten(1), expected, rtol=1e-4, atol=1e-6)


def test_by_tokens_where_attention_is_open():
    """The softmax of eager attention is followed to its values and projection as well."""
    settings = {"target": 1, "n_steps": 2, "variant": "token"}
    found = BeyondIntuition(hf_vit("eager")).attribute(images(), **settings)
    expected = BeyondIntuition(hf_vit("sdpa")).attribute(images(), **settings)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("method", [IIA, BeyondIntuition])
def test_steps_that_are_refused(method):
    with pytest.raises(ValueError, match="n_steps must be at least 1, given 0"):
        method(timm_vit()).attribute(images(), target=0, n_steps=0)
    with pytest.raises(TypeError, match="n_steps must be an int, given bool"):
        method(timm_vit()).attribute(images(), target=0, n_steps=True)


def test_integrals_that_are_refused():
    with pytest.raises(ValueError, match="n_integrals must be 2 or 3, given 4"):
        IIA(timm_vit()).attribute(images(), target=0, n_integrals=4)
    with pytest.raises(ValueError, match="needs 2 attention layers, the model has 1"):
        IIA(timm_vit(depth=1)).attribute(images(), target=0, n_integrals=3)


def test_variants_that_are_refused():
    model = timm_vit()
    with pytest.raises(ValueError, match='variant must be "head" or "token", given \'row\''):
        BeyondIntuition(model).attribute(images(), target=0, variant="row")
    with pytest.raises(ValueError, match="forward_func is a plain function, so the blocks"):
        BeyondIntuition(lambda x: model(x)).attribute(images(), target=0, variant="token")


@pytest.mark.parametrize("cls", [IIA, BeyondIntuition])
def test_every_sample_has_its_own_baseline_in_parts_of_the_batch(cls):
    method, x = cls(timm_vit()), images()
    floor = x.flip(0) / 2
    whole = method.attribute(x, floor, target=1, n_steps=2)
    for row in (0, 1):
        one = slice(row, row + 1)
        alone = method.attribute(x[one], floor[one], target=1, n_steps=2)
        assert torch.allclose(whole[one], alone, rtol=1e-4, atol=1e-7)
    parts = method.attribute(x, floor, target=1, n_steps=2, internal_batch_size=1)
    assert torch.allclose(parts, whole, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("cls", [IIA, BeyondIntuition, ScoreCAM])
def test_each_tower_of_a_pair_takes_its_own_baseline(cls):
    clip = SUBJECTS["clip"]()
    settings = {"relu_attributions": False} if cls is ScoreCAM else {"n_steps": 2}

    def maps(baselines):
        return cls(clip.model).attribute(
            clip.inputs, baselines, additional_forward_args=clip.extra, **settings
        )

    image, text = maps((0.5, 3))
    assert torch.equal(text, maps(3)[1])
    assert torch.equal(image, maps((0.5, None))[0])
    assert not torch.allclose(image, maps(None)[0])
