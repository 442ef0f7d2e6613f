"""Kernel SHAP against all coalitions one by one; Saliency against closed forms; both on pairs."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from captum_ib.baselines import KernelSHAP, Saliency
from tests.attr.cases import SUBJECTS
from tests.baselines.models import IDS, MASK, bert


def shapley(score, players):
    """φ_i = Σ_S |S|! (M − |S| − 1)! / M! · (f(S ∪ i) − f(S)) over all S without i."""
    found = torch.zeros(players, dtype=torch.float64)
    for i in range(players):
        others = [j for j in range(players) if j != i]
        for size in range(players):
            weight = math.factorial(size) * math.factorial(players - size - 1)
            for S in itertools.combinations(others, size):
                gain = score({*S, i}) - score({*S})
                found[i] += weight / math.factorial(players) * gain
    return found


@pytest.mark.parametrize("blank", [None, 3])
def test_tokens_have_their_shapley_values(blank):
    model = bert("sdpa")
    found = KernelSHAP(model).attribute(
        IDS, blank, target=1, additional_forward_args=MASK, perturbations_per_eval=5
    )
    table = model.bert.embeddings.word_embeddings
    for row in range(2):
        places = MASK[row].nonzero().flatten().tolist()
        floor = torch.zeros(table.embedding_dim) if blank is None else table.weight[blank]
        assert len(places) <= 6

        def score(kept, row=row, places=places, floor=floor):
            embedded = table(IDS[row : row + 1]).clone()
            for number, place in enumerate(places):
                if number not in kept:
                    embedded[0, place] = floor
            with torch.no_grad():
                out = model(inputs_embeds=embedded, attention_mask=MASK[row : row + 1])
            return out.logits[0, 1].double()

        expected = shapley(score, len(places))
        assert torch.allclose(found[row, places].double(), expected, atol=2e-4)
        assert found[row][MASK[row] == 0].eq(0).all()


def test_regions_of_a_picture_have_their_shapley_values():
    x = torch.rand(1, 2, 6, 4, generator=torch.Generator().manual_seed(0))
    weight = torch.rand(2, 6, 4, generator=torch.Generator().manual_seed(1))

    def model(pixels):
        return (pixels * weight).flatten(1).sum(1).square()

    found = KernelSHAP(model).attribute(x, 0.25, grid=2)

    def score(kept):
        seen = torch.full_like(x, 0.25)
        for player in kept:
            rows = slice(3 * (player // 2), 3 * (player // 2) + 3)
            columns = slice(2 * (player % 2), 2 * (player % 2) + 2)
            seen[..., rows, columns] = x[..., rows, columns]
        return model(seen)[0].double()

    expected = shapley(score, 4).view(2, 2).repeat_interleave(3, 0).repeat_interleave(2, 1)
    assert torch.allclose(found[0, 0].double(), expected, rtol=1e-3)


def test_random_coalitions_are_exact_where_players_add_up():
    weight = torch.arange(1.0, 13.0)
    found = KernelSHAP(lambda v: v[..., 0] @ weight).attribute(
        torch.ones(2, 12, 1), n_samples=40, seed=3
    )
    assert torch.allclose(found, weight.expand(2, 12), rtol=1e-3)


def test_superpixels_and_a_single_player():
    x = torch.ones(1, 1, 2, 3)
    regions = torch.tensor([[4, 4, 9], [4, 7, 9]])
    found = KernelSHAP(lambda v: v.sum((1, 2, 3))).attribute(x, feature_mask=regions)
    assert torch.allclose(found[0, 0], torch.tensor([[3.0, 3, 2], [3, 1, 2]]), atol=1e-4)
    whole = KernelSHAP(lambda v: v.sum((1, 2, 3))).attribute(x, grid=1)
    assert torch.equal(whole, torch.full((1, 1, 2, 3), 6.0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_samples": 50}, "n_samples must be at least 51, given 50: the regression has 49"),
        ({"feature_mask": torch.zeros(3, 3)}, r"feature_mask of shape \(3, 3\) for images of 14"),
        ({"grid": 0}, "grid must be at least 1, given 0"),
    ],
)
def test_settings_of_kernel_shap_are_checked(settings, message):
    model = nn.Sequential(nn.Flatten(), nn.Linear(14 * 14, 2))
    with pytest.raises(ValueError, match=message):
        KernelSHAP(model).attribute(torch.rand(1, 1, 14, 14), target=0, **settings)


def test_saliency_of_a_linear_classifier_and_its_sign():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    x, weight = torch.rand(2, 3, 2, 2), model[1].weight.detach()
    assert torch.allclose(Saliency(model).attribute(x, 1)[0].flatten(), weight[1].abs())
    signed = Saliency(model).attribute(x, 1, False)
    assert torch.allclose(signed[1].flatten(), weight[1])


def test_saliency_of_a_pair_is_the_gradient_of_its_cosine():
    subject = SUBJECTS["clip"]()
    dual, (pixels, ids), mask = subject.model, subject.inputs, subject.extra
    image, text = Saliency(dual).attribute((pixels, ids), additional_forward_args=mask)
    x = pixels.clone().requires_grad_()
    embedding = dual.model.text_model.embeddings.token_embedding
    seen = []
    handle = embedding.register_forward_hook(
        lambda m, a, out: seen.append(out.detach().requires_grad_()) or seen[-1]
    )
    dual(x, ids, mask).sum().backward()
    handle.remove()
    dual.zero_grad(set_to_none=True)
    assert torch.allclose(image, x.grad.abs().sum(1, keepdim=True), rtol=1e-4, atol=1e-7)
    assert torch.allclose(text, seen[0].grad.abs().sum(-1) * mask, rtol=1e-4, atol=1e-7)
