"""RISE against plain loops, closed forms on linear models, and its masks one by one."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from captum_ib.baselines import RISE
from captum_ib.baselines._masks import GridMasks, TokenMasks
from tests.baselines.models import IDS, MASK, bert, images


def linear(pixels: int, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, 4))


def test_equation_6_as_a_loop():
    model, x = linear(3 * 12 * 10), torch.rand(2, 3, 12, 10)
    masks = GridMasks.draw(30, 3, 0.4, (12, 10), torch.Generator().manual_seed(7))
    expected = torch.zeros(2, 1, 12, 10)
    with torch.no_grad():
        for i in range(30):
            mask = masks.part(slice(i, i + 1), x.device)[0]
            for n in range(2):
                score = model((x[n] * mask)[None]).softmax(dim=1)[0, n]
                expected[n, 0] += score * mask / (30 * 0.4)
    settings = {"n_masks": 30, "grid": 3, "p": 0.4, "seed": 7}
    found = RISE(model).attribute(x, target=[0, 1], perturbations_per_eval=7, **settings)
    assert torch.allclose(found, expected, atol=1e-6)


def test_masks_as_the_paper_describes_them():
    masks = GridMasks.draw(40, 3, 0.5, (10, 7), torch.Generator().manual_seed(0))
    rows = masks.part(slice(3, 6), torch.device("cpu"))
    for found, index in zip(rows, range(3, 6), strict=True):
        bits, (y, x) = masks.bits[index].float(), masks.shifts[index]
        # cells of ceil(10 / 3) = 4 by ceil(7 / 3) = 3 pixels, one more cell than needed
        big = F.interpolate(bits[None, None], (16, 12), mode="bilinear")[0, 0]
        assert torch.equal(found, big[y : y + 10, x : x + 7])
    assert masks.shifts.min() == 0 and masks.shifts.max(dim=0).values.tolist() == [3, 2]
    assert masks.bits.dtype == torch.bool and masks.bits.shape == (40, 3, 3)


def test_all_masks_of_a_short_sequence():
    masks = TokenMasks.draw(16, 4, 0.5, torch.Generator())
    expected = set(itertools.product([False, True], repeat=4))
    assert len(masks) == 16 and {tuple(row) for row in masks.bits.tolist()} == expected
    assert len(TokenMasks.draw(15, 4, 0.5, torch.Generator())) == 15
    assert len(TokenMasks.draw(20, 4, 0.25, torch.Generator())) == 20


def test_closed_form_of_a_linear_model_over_all_masks():
    """With every mask once, S_t = E[f | t seen] = Σ_{u≠t} w_u x_u / 2 + w_t x_t."""
    weight, x = torch.randn(6), torch.randn(2, 6, 1)

    def model(embedded):
        return (embedded[..., 0] * weight).sum(dim=1)

    parts = weight * x[..., 0]
    expected = parts.sum(dim=1, keepdim=True) / 2 + parts / 2
    assert torch.allclose(RISE(model).attribute(x, n_masks=64), expected, atol=1e-5)


def test_token_ids_are_masked_in_their_embedding():
    model = bert("sdpa")
    found = RISE(model).attribute(
        IDS, target=1, additional_forward_args=MASK, n_masks=32, score="output"
    )
    table = model.bert.embeddings.word_embeddings
    expected = torch.zeros(2, 5)
    with torch.no_grad():
        for bits in itertools.product([0.0, 1.0], repeat=5):
            seen = torch.tensor(bits)
            logits = model(
                inputs_embeds=table(IDS) * seen[None, :, None], attention_mask=MASK
            ).logits
            expected += logits[:, 1:2] * seen / 16
    assert torch.allclose(found, expected * MASK, atol=1e-5)


@pytest.mark.filterwarnings("ignore:the text's ids hold padding")
def test_baselines_take_the_place_of_what_is_masked():
    model, x = linear(48), torch.rand(2, 3, 4, 4)
    floor = torch.rand(3, 1, 1)
    settings = {"n_masks": 12, "grid": 2, "seed": 1, "score": "output", "target": 2}
    found = RISE(model).attribute(x, floor, **settings)

    def shifted(value):
        return model(value + floor)

    expected = RISE(shifted).attribute(x - floor, **settings)
    assert torch.allclose(found, expected, atol=1e-5)
    ids = RISE(bert("sdpa")).attribute(IDS, 4, target=1, n_masks=32)
    assert not torch.allclose(ids, RISE(bert("sdpa")).attribute(IDS, target=1, n_masks=32))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"n_masks": 0}, ValueError, "n_masks must be at least 1, given 0"),
        ({"grid": 1.5}, TypeError, "grid must be an int, given float"),
        ({"p": 0.0}, ValueError, r"p must be in \(0, 1\], given 0.0"),
        ({"score": "logit"}, ValueError, "score must be 'probability' or 'output'|score must be"),
        ({"seed": 0.5}, TypeError, "seed must be an int or None, given float"),
        ({"baselines": "black"}, TypeError, "baselines must be a number or a tensor .* given str"),
        ({"baselines": torch.rand(5)}, ValueError, r"of shape \(5,\) do not broadcast"),
        ({"baselines": torch.tensor(float("nan"))}, ValueError, "baselines holds 1 NaN"),
    ],
)
def test_settings_that_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        RISE(linear(768)).attribute(images(), target=0, **settings)


@pytest.mark.filterwarnings("ignore:the text's ids hold padding")
def test_inputs_that_are_refused():
    instance = RISE(lambda *values: values[0].sum(dim=1))
    with pytest.raises(ValueError, match="given 2 inputs; masks are laid on one"):
        instance.attribute((torch.rand(2, 3, 4), torch.rand(2, 3, 4)))
    with pytest.raises(ValueError, match=r"inputs must be images .* given shape \(2, 3\)"):
        instance.attribute(torch.rand(2, 3))
    with pytest.raises(ValueError, match="no nn.Embedding of the model is called with them"):
        instance.attribute(torch.tensor([[1, 2], [3, 4]]))
    with pytest.raises(TypeError, match="baselines of token ids must be ids"):
        RISE(bert("sdpa")).attribute(IDS, 0.5, target=0)


def test_only_the_masks_of_one_pass_exist_at_full_size(monkeypatch):
    sizes, part = [], GridMasks.part

    def watched(self, rows, device):
        sizes.append(rows.stop - rows.start)
        return part(self, rows, device)

    monkeypatch.setattr(GridMasks, "part", watched)
    RISE(linear(768)).attribute(images(), target=0, n_masks=50, perturbations_per_eval=16)
    assert sizes == [16, 16, 16, 2]
