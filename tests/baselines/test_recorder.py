"""What the recorder computes in the place of fused attention is what torch computes."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from captum_ib.baselines._recorder import AttentionRecorder

MASK = torch.tensor([[True, True, False, False]] * 4)


def tensors(*shape: int, count: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for _ in range(count)]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"scale": 0.3},
        {"is_causal": True},
        {"attn_mask": MASK},
        {"attn_mask": torch.where(MASK, 0.5, -torch.inf)},
    ],
    ids=["plain", "scale", "causal", "boolean", "additive"],
)
def test_fused_attention(settings):
    query, key, value = tensors(2, 3, 4, 5)
    expected = F.scaled_dot_product_attention(query, key, value, **settings)
    with AttentionRecorder() as recorder:
        found = F.scaled_dot_product_attention(query, key, value, **settings)
    assert torch.allclose(found, expected, atol=1e-6)
    (layer,) = recorder.layers
    assert layer.values is value
    assert torch.allclose(layer.probabilities @ value, expected, atol=1e-6)
    assert torch.allclose(layer.probabilities.sum(dim=-1), torch.ones(2, 3, 4))


def test_fused_attention_without_an_axis_for_heads():
    query, key, value = tensors(6, 4, 5)
    expected = F.scaled_dot_product_attention(query, key, value)
    with AttentionRecorder(rows=3) as recorder:
        found = F.scaled_dot_product_attention(query, key, value)
    assert torch.allclose(found, expected, atol=1e-6)
    layer = recorder.layers[0]
    assert layer.probabilities.shape == (3, 2, 4, 4) and layer.values.shape == (3, 2, 4, 5)
    with AttentionRecorder() as blind:
        F.scaled_dot_product_attention(query, key, value)
    assert not blind.layers


def test_grouped_queries():
    query, (key, value) = tensors(2, 4, 5, 6)[0], tensors(2, 2, 5, 6, count=2)
    expected = F.scaled_dot_product_attention(query, key, value, enable_gqa=True)
    with AttentionRecorder() as recorder:
        found = F.scaled_dot_product_attention(query, key, value, enable_gqa=True)
    assert torch.allclose(found, expected, atol=1e-6)
    assert recorder.layers[0].probabilities.shape == (2, 4, 5, 5)


@pytest.mark.parametrize("average", [True, False])
@pytest.mark.parametrize("mask", [None, ~MASK, torch.where(MASK, 0.5, -torch.inf)])
@pytest.mark.parametrize("batch_first", [True, False])
def test_multi_head_attention(batch_first, mask, average):
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(6, 2, batch_first=batch_first).eval()
    (x,) = tensors(*((3, 4, 6) if batch_first else (4, 3, 6)), count=1)
    settings = {"attn_mask": mask, "average_attn_weights": average}
    expected, weights = layer(x, x, x, **settings)
    with AttentionRecorder() as recorder:
        found, seen = layer(x, x, x, **settings)
        silent, nothing = layer(x, x, x, attn_mask=mask, need_weights=False)
    assert torch.allclose(found, expected, atol=1e-6) and torch.allclose(silent, found)
    assert torch.allclose(seen, weights, atol=1e-6) and nothing is None
    recorded = recorder.layers[0]
    assert recorded.probabilities.shape == (3, 2, 4, 4)
    assert recorded.projection is layer.out_proj.weight


def test_a_mask_per_head():
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(6, 2, batch_first=True).eval()
    (x,) = tensors(3, 4, 6, count=1)
    mask = torch.rand(6, 4, 4)
    expected, _ = layer(x, x, x, attn_mask=mask)
    with AttentionRecorder():
        found, _ = layer(x, x, x, attn_mask=mask)
    assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("mask", [None, ~MASK])
def test_padding(mask):
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(6, 2, batch_first=True).eval()
    (x,) = tensors(3, 4, 6, count=1)
    padding = torch.tensor([[False, True, False, False]] * 3)
    expected, _ = layer(x, x, x, key_padding_mask=padding, attn_mask=mask)
    with AttentionRecorder() as recorder:
        found, _ = layer(x, x, x, key_padding_mask=padding, attn_mask=mask)
    assert torch.allclose(found, expected, atol=1e-6)
    assert (recorder.layers[0].probabilities[..., 1] == 0).all()


def test_what_is_no_self_attention_is_left_alone():
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(6, 2, batch_first=True).eval()
    x, other = tensors(3, 4, 6, count=2)
    expected = [
        layer(x, other, other)[0],
        F.scaled_dot_product_attention(x[:, None, :1], x[:, None], x[:, None]),
    ]
    with AttentionRecorder() as recorder:
        found = [
            layer(x, other, other)[0],
            F.scaled_dot_product_attention(x[:, None, :1], x[:, None], x[:, None]),
        ]
    assert not recorder.layers
    for one, two in zip(found, expected, strict=True):
        assert torch.allclose(one, two, atol=1e-6)


def test_transform_changes_what_goes_on():
    query, key, value = tensors(1, 1, 3, 2)
    expected = F.scaled_dot_product_attention(query, key, value) / 4
    with AttentionRecorder(lambda index, probabilities: probabilities / 4):
        found = F.scaled_dot_product_attention(query, key, value)
    assert torch.allclose(found, expected, atol=1e-6)


def test_nothing_is_left_behind():
    query, key, value = tensors(1, 1, 3, 2)
    with pytest.raises(OSError, match="inside"), AttentionRecorder() as recorder:
        raise OSError("inside")
    F.scaled_dot_product_attention(query, key, value)
    assert not recorder.layers
