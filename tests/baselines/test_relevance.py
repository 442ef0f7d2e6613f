"""The relevance rules, one operation at a time, against their equations written as loops."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from captum_ib.baselines._relevance import RelevanceMode


def relevance(function, *inputs, received):
    """What the inputs of an operation get of the relevance received."""
    leaves = [value.clone().requires_grad_() for value in inputs]
    with RelevanceMode():
        output = function(*leaves)
    return torch.autograd.grad(output, leaves, received)


def test_linear_is_z_plus():
    torch.manual_seed(0)
    x, weight, bias, received = torch.randn(4), torch.randn(3, 4), torch.randn(3), torch.rand(3)
    (found,) = relevance(lambda v: F.linear(v, weight, bias), x, received=received)
    expected = torch.zeros(4)
    for j in range(3):
        parts = [max(float(x[i] * weight[j, i]), 0.0) for i in range(4)]
        for i in range(4):
            expected[i] += parts[i] / sum(parts) * received[j]
    assert torch.allclose(found, expected, atol=1e-6)


def test_products_share_and_halve():
    torch.manual_seed(0)
    a, b, received = torch.randn(2, 3), torch.randn(3, 2), torch.rand(2, 2)
    one, other = relevance(torch.matmul, a, b, received=received)
    first, second = torch.zeros(2, 3), torch.zeros(3, 2)
    for i in range(2):
        for j in range(2):
            total = sum(float(a[i, k] * b[k, j]) for k in range(3))
            for k in range(3):
                share = a[i, k] * b[k, j] / total * received[i, j] / 2
                first[i, k] += share
                second[k, j] += share
    assert torch.allclose(one, first, atol=1e-5)
    assert torch.allclose(other, second, atol=1e-5)


def test_sums_are_normalised_per_sample():
    torch.manual_seed(0)
    a, b, received = torch.randn(2, 5), torch.randn(2, 5), torch.rand(2, 5)
    one, other = relevance(lambda x, y: x + y, a, b, received=received)
    for n in range(2):
        raw = [v[n] * received[n] / (a[n] + b[n]) for v in (a, b)]
        sizes = [abs(part.sum()) for part in raw]
        for found, part, size in zip((one, other), raw, sizes, strict=True):
            expected = part / part.sum() * size / sum(sizes) * received[n].sum()
            assert torch.allclose(found[n], expected, rtol=1e-3)
        assert torch.allclose(one[n].sum() + other[n].sum(), received[n].sum(), rtol=1e-4)


def test_means_share():
    x, received = torch.tensor([[[1.0, 2.0], [3.0, 2.0]]]), torch.tensor([[4.0, 6.0]])
    (found,) = relevance(lambda v: v.mean(dim=1), x, received=received)
    assert torch.allclose(found, torch.tensor([[[1.0, 3.0], [3.0, 3.0]]]))


def test_elementwise_operations_pass_relevance_on():
    x, received = torch.randn(2, 3), torch.rand(2, 3)
    for function in (
        nn.LayerNorm(3),
        nn.GELU(),
        nn.ReLU(inplace=True),
        nn.Tanh(),
        lambda v: v * 3,
        lambda v: v / 2 + 1,
        lambda v: v * torch.rand(3),
    ):
        (found,) = relevance(lambda v, f=function: f(v), x, received=received)
        assert torch.equal(found, received)


def test_outputs_stay_what_they_are():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    x = torch.randn(2, 5, 8, requires_grad=True)
    with RelevanceMode():
        found = layer(x)
    assert torch.allclose(found, layer(x), atol=1e-6)
