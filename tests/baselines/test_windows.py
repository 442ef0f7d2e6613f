"""Attention in windows: against plain loops over windows, in every implementation of Swin."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from torchvision.models import SwinTransformer as TorchvisionSwin
from transformers import SwinConfig, SwinForImageClassification

from captum_ib.baselines import BeyondIntuition, GenericAttention, ViTCX
from captum_ib.baselines._recorder import AttentionRecorder
from captum_ib.baselines._windows import refined, windows_of
from captum_ib.forward import prepare
from tests.baselines.models import images, seeded

WINDOW = 4


def swin(size=32, cls=SwinTransformer):
    model = cls(
        img_size=size, patch_size=4, window_size=WINDOW, embed_dim=8, depths=(2, 2),
        num_heads=(2, 2), num_classes=5,
    )  # fmt: skip
    return seeded(model)


def torchvision_swin():
    return seeded(
        TorchvisionSwin([4, 4], 8, [2, 2], [2, 2], [WINDOW, WINDOW], num_classes=5), std=0.1
    )


def hf_swin():
    config = SwinConfig(
        image_size=32, patch_size=4, embed_dim=8, depths=[2, 2], num_heads=[2, 2],
        window_size=WINDOW, num_labels=5,
    )  # fmt: skip
    return seeded(SwinForImageClassification(config))


def plain_windows(side, shift):
    """The tokens of every window, by loops: rolled, padded behind, cut."""
    padded = -(-side // WINDOW) * WINDOW
    grid = [[side * side] * padded for _ in range(padded)]
    for y, x in itertools.product(range(side), repeat=2):
        grid[y][x] = (y + shift) % side * side + (x + shift) % side
    starts = range(0, padded, WINDOW)
    return [
        [grid[top + y][left + x] for y in range(WINDOW) for x in range(WINDOW)]
        for top in starts
        for left in starts
    ]


def cases(side):
    """Side of the grid and shift of the four blocks; where one window is all, nothing shifts."""
    half = -(-side // 2)
    return [(side, 0), (side, 2), (half, 0), (half, 0 if half <= WINDOW else 2)]


def seen(model, x, target):
    """Every attention of a timm model, and its gradient, by hooks on its own softmax."""
    found = []

    def keep(module, args, output):
        output.retain_grad()
        found.append(output)

    handles = []
    for block in (block for stage in model.layers for block in stage.blocks):
        block.attn.fused_attn = False
        handles.append(block.attn.softmax.register_forward_hook(keep))
    model(x)[:, target].sum().backward()
    for handle in handles:
        handle.remove()
    model.zero_grad()
    return [(a.detach().numpy(), a.grad.numpy()) for a in found]


def dense(values, side, shift, n):
    """Windows' matrices ``(n · windows, T, T)`` as ``(n, L, L)``, entry by entry."""
    windows = plain_windows(side, shift)
    whole = np.zeros((n, side * side, side * side))
    for sample, (number, ids) in itertools.product(range(n), enumerate(windows)):
        matrix = values[sample * len(windows) + number]
        for (i, row), (j, column) in itertools.product(enumerate(ids), enumerate(ids)):
            if row < side * side and column < side * side:
                whole[sample, row, column] = matrix[i, j]
    return whole


def merging(fine):
    """The mean over the tokens that were merged, ``(coarse², fine²)``."""
    coarse = -(-fine // 2)
    matrix = np.zeros((coarse**2, fine**2))
    for y, x in itertools.product(range(fine), repeat=2):
        matrix[y // 2 * coarse + x // 2, y * fine + x] = 1
    return matrix / matrix.sum(1, keepdims=True)


MODELS = [(swin, 32), (swin, 40), (lambda size: swin(size, SwinTransformerV2), 32)]


@pytest.mark.parametrize(("build", "size"), MODELS)
def test_generic_attention_equals_the_plain_loop_over_windows(build, size):
    model, x, side = build(size), images(size=size)[:2], size // 4
    found = GenericAttention(model).attribute(x, target=1)
    R = np.eye(side**2)[None].repeat(2, 0)
    for (attention, gradient), (width, shift) in zip(seen(model, x, 1), cases(side), strict=True):
        if R.shape[1] != width**2:
            R = merging(side) @ R
        R = R + dense((attention * gradient).clip(0).mean(1), width, shift, 2) @ R
    expected = R.mean(1).reshape(2, 1, side, side)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-6 * expected.max())


@pytest.mark.parametrize(("build", "size"), MODELS)
def test_beyond_intuition_equals_the_plain_loop_over_windows(build, size):
    model, x, side = build(size), images(size=size)[:2], size // 4
    found = BeyondIntuition(model).attribute(x, target=1, n_steps=2)
    P, last = np.eye(side**2)[None].repeat(2, 0), cases(side)[-1]
    for (attention, gradient), (width, shift) in zip(seen(model, x, 1), cases(side), strict=True):
        if P.shape[1] != width**2:
            P = merging(side) @ P
        weight = np.abs(attention.swapaxes(-2, -1) @ gradient).mean((-2, -1))
        weight = weight.reshape(2, -1, 2).mean(1)
        weight /= weight.sum(1, keepdims=True)
        weight = weight.repeat(len(attention) // 2, 0)[:, :, None, None]
        P = P + dense((weight * attention).sum(1), width, shift, 2) @ P
    ends = [seen(model, state, 1)[-1][1] for state in (torch.zeros_like(x), x)]
    F = dense(((ends[0] + ends[1]) / 2).clip(0).mean(1), *last, 2)
    of_merged = F @ (merging(side) > 0)  # each merged token's feedback for all it is made of
    expected = (P * of_merged).mean(1).reshape(2, 1, side, side)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-6 * expected.max())


@pytest.mark.parametrize(
    "build", [swin, lambda: swin(32, SwinTransformerV2), torchvision_swin, hf_swin]
)
def test_windows_are_those_of_the_plain_loop(build):
    model, x = build(), images(size=32)
    call = prepare(model, x, None, 1)
    with AttentionRecorder() as recorder:
        model(x)
    windows = windows_of(call, recorder.layers)
    assert [one.places.tolist() for one in windows] == [plain_windows(*case) for case in cases(8)]


@pytest.mark.parametrize("variant", ["head", "token"])
@pytest.mark.parametrize("build", [swin, lambda: swin(32, SwinTransformerV2), hf_swin])
def test_a_sample_alone_has_the_same_map(build, variant):
    method, x = BeyondIntuition(build()), images(size=32)
    both = method.attribute(x, target=1, n_steps=2, variant=variant)
    alone = method.attribute(x[1:2], target=1, n_steps=2, variant=variant)
    assert both.shape[1:] == (1, 8, 8)
    torch.testing.assert_close(both[1:2], alone, rtol=1e-4, atol=1e-7)


def test_the_sum_of_a_row_is_that_of_the_coarser_row():
    values = torch.rand(2, 3, 25, generator=torch.Generator().manual_seed(0))
    fine = refined(values, (5, 5), (10, 9), share=True)
    torch.testing.assert_close(fine.sum(-1), values.sum(-1))
    with pytest.raises(ValueError, match="no merging of equal squares"):
        refined(values, (5, 5), (12, 9), share=True)


@pytest.mark.parametrize("cls", [SwinTransformer, SwinTransformerV2])
def test_vit_cx_takes_the_last_stage_of_a_swin(cls):
    """Its masks are channels of the last block's grid, which windows don't touch."""
    model, x = swin(32, cls), images(size=32)
    method = ViTCX(model)
    found = method.attribute(x, target=1, seed=3)
    assert found.shape == (len(x), 1, 32, 32)
    torch.testing.assert_close(found[1:2], method.attribute(x[1:2], target=1, seed=3))


def test_a_plain_function_has_no_known_blocks():
    model = swin()
    with pytest.raises(ValueError, match="a plain function, so its blocks are unknown"):
        GenericAttention(lambda x: model(x)).attribute(images(size=32), target=1)
