"""ExCLIP, FIxLIP and Sobol indices: the authors' output, plain enumeration, closed forms."""

from __future__ import annotations

import itertools

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import CLIPConfig, CLIPModel

from captum_ib import CAM2IB, DualEncoder
from captum_ib.baselines import ExCLIP, FIxLIP, GenericAttention, SobolAttribution
from captum_ib.forward import WordRegions
from captum_ib.loading import load
from tests.attr.cases import SUBJECTS
from tests.baselines.models import seeded


@pytest.fixture(scope="module")
def clip(conformance):
    path = conformance / "clip_comparators.safetensors"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    model = load(str(conformance / "clip"), mean=[0.5] * 3, std=[0.5] * 3).model
    data = load_file(conformance / "clip_pairs.safetensors")
    pair = (data["pixel_values"][:3], data["input_ids"][:3])
    return DualEncoder.from_model(model), pair, data["attention_mask"][:3], load_file(path)


@pytest.mark.parametrize(
    ("key", "layer"),
    [("", None), ("_last", ["vision_model.encoder.layers.7", "text_model.encoder.layers.5"])],
)
def test_authors_output_of_exclip(clip, key, layer):
    dual, pair, mask, expected = clip
    found = ExCLIP(dual, layer).interactions(
        pair, additional_forward_args=mask, method="riemann_right", reference="published"
    )
    assert found.shape == (3, 16, 7, 7)
    gap = (found.flatten(2) - expected[f"exclip_interaction{key}"]).abs().max()
    assert gap < 1e-5 * expected[f"exclip_interaction{key}"].abs().max()


def test_exclip_adds_up_to_four_similarities():
    """With references that are read where the caption is, not with the published ones."""
    subject = SUBJECTS["clip"]()
    dual, (pixels, ids), mask = subject.model, subject.inputs, subject.extra
    blank = torch.zeros_like(ids)
    for row, (begin, end) in enumerate([(0, 4), (0, 2), (0, 3)]):
        blank[row, begin], blank[row, end] = ids[row, begin], ids[row, end]
    blank = torch.where(mask.bool(), blank, ids)
    image, text = (dual.tower(name) for name in dual.modalities)
    with torch.no_grad():
        f, f_r = image.pooled(pixels), image.pooled(torch.zeros_like(pixels))
        g, g_r = text.pooled(ids, mask), text.pooled(blank, mask)
    norms = f.norm(dim=1) * g.norm(dim=1)
    terms = ((f * g) - (f_r * g) - (f * g_r) + (f_r * g_r)).sum(dim=1) / norms
    layer = ["vision_model.encoder.layers.3", "text_model.encoder.layers.3"]
    settings = {"additional_forward_args": mask, "n_steps": 40}
    method = ExCLIP(dual, layer)
    maps, delta = method.interactions(subject.inputs, return_convergence_delta=True, **settings)
    assert maps.shape == (3, 5, 4, 4) and (maps[1, 3:] == 0).all()
    # The text's marginals are sums over all of the image's tokens.
    _, words = method.attribute(subject.inputs, **settings)
    assert torch.allclose(words.sum(dim=1) - delta, terms, atol=1e-5)
    assert delta.abs().max() < 0.02 * terms.abs().max()
    given = method.interactions(subject.inputs, (0.0, blank), **settings)
    assert torch.allclose(given, maps, atol=1e-6)


def test_exclip_as_a_loop_over_dimensions():
    """Against J_gᵀ · J_f, column by column of the embedding."""
    subject = SUBJECTS["clip"]()
    dual, (pixels, ids) = subject.model, (subject.inputs[0][:1], subject.inputs[1][:1])
    found = ExCLIP(dual).interactions((pixels, ids), n_steps=2, method="riemann_right")
    sides = []
    blank = torch.tensor([[18, 0, 0, 0, 19]])
    for name, x, r in (("image", pixels, torch.zeros_like(pixels)), ("text", ids, blank)):
        tower, states = dual.tower(name), []
        block = tower.blocks[3][1]
        handle = block.register_forward_pre_hook(lambda m, a, k, s=states: s.append(
            a[0] if a else k["hidden_states"]), with_kwargs=True)  # fmt: skip
        with torch.no_grad():
            embedding = tower.pooled(x)
            tower.pooled(r)
        handle.remove()
        total = torch.zeros(embedding.shape[1], states[0].shape[1])
        for alpha in (0.5, 1.0):
            h = (states[1] + alpha * (states[0] - states[1])).detach().requires_grad_()
            handle = block.register_forward_pre_hook(lambda m, a, k, h=h: (
                (h, *a[1:]) if a else a, k if a else {**k, "hidden_states": h}),
                with_kwargs=True)  # fmt: skip
            moved = tower.pooled(x)
            handle.remove()
            for d in range(moved.shape[1]):
                (slope,) = torch.autograd.grad(moved[0, d], h, retain_graph=True)
                total[d] += (slope * (states[0] - states[1])).sum(dim=2)[0] / 2
        sides.append(total / embedding.norm())
    expected = (sides[1].T @ sides[0])[:, 1:].reshape(5, 4, 4)
    assert torch.allclose(found[0], expected, rtol=1e-4, atol=1e-6)


def few_players() -> DualEncoder:
    """CLIP with four patches."""
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
             "num_attention_heads": 2, "projection_dim": 8}  # fmt: skip
    text = {"vocab_size": 20, "max_position_embeddings": 8, "eos_token_id": 19,
            "bos_token_id": 18, "pad_token_id": 0}  # fmt: skip
    config = CLIPConfig(
        text_config={**tower, **text},
        vision_config={**tower, "image_size": 8, "patch_size": 4},
        projection_dim=8,
    )
    return DualEncoder.from_model(seeded(CLIPModel(config)))


@pytest.mark.parametrize("p", [0.5, 0.3])
def test_fixlip_is_the_weighted_banzhaf_interaction(p):
    """By its definition: the mean of second differences over all coalitions of the others."""
    dual = few_players()
    pixels = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[18, 4, 7, 19]])
    table = dual.model.text_model.embeddings.token_embedding
    words = table(ids).detach()

    def value(z):
        seen = torch.tensor(z, dtype=torch.float32)
        image = pixels * seen[:4].reshape(1, 1, 2, 2).repeat_interleave(4, 2).repeat_interleave(
            4, 3
        )
        kept = torch.cat([torch.ones(1), seen[4:], torch.ones(1)]).reshape(1, 4, 1)
        handle = table.register_forward_hook(lambda *_: words * kept)
        with torch.no_grad():
            found = dual(image, ids).item()
        handle.remove()
        return found

    game = {z: value(z) for z in itertools.product([0, 1], repeat=6)}

    def mean(players, signed):
        """E over the others of the signed sum over all settings of some players."""
        total = 0.0
        for z, nu in game.items():
            others = [z[i] for i in range(6) if i not in players]
            weight = torch.tensor([p if one else 1 - p for one in others]).prod().item()
            total += weight * nu * signed(*(z[i] for i in players))
        return total

    expected = torch.zeros(4, 2, 2)
    for i, k in itertools.product(range(4), range(2)):
        second = mean((i, 4 + k), lambda a, b: 1 if a == b else -1)
        expected[1 + k, i // 2, i % 2] = second
    single = [mean((i,), lambda a: 1 if a else -1) for i in range(6)]
    settings = {"n_masks": 16, "p": p, "seed": 0}
    found = FIxLIP(dual).interactions((pixels, ids), **settings)
    assert torch.allclose(found[0], expected, atol=1e-5)
    image, text = FIxLIP(dual).attribute((pixels, ids), **settings)
    assert torch.allclose(image.flatten(), torch.tensor(single[:4]), atol=1e-5)
    assert torch.allclose(text[0], torch.tensor([0.0, *single[4:], 0.0]), atol=1e-5)


def test_settings_that_make_no_sense():
    subject = SUBJECTS["clip"]()
    extra = {"additional_forward_args": subject.extra}
    for p in (0.0, 1.0):
        with pytest.raises(ValueError, match=r"p must be in \(0, 1\)"):
            FIxLIP(subject.model).interactions(subject.inputs, p=p, **extra)
    with pytest.raises(ValueError, match="reference must be"):
        ExCLIP(subject.model).interactions(subject.inputs, reference="none", **extra)
    with pytest.raises(ValueError, match="n_steps must be at least 2"):
        ExCLIP(subject.model).interactions(
            subject.inputs, n_steps=1, method="riemann_right", **extra
        )
    with pytest.raises(TypeError, match="ExCLIP explains pairs"):
        ExCLIP(nn.Linear(2, 2))
    with pytest.raises(TypeError, match="FIxLIP explains pairs"):
        FIxLIP(nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("method", "settings"),
    [(ExCLIP, {"n_steps": 2}), (FIxLIP, {"n_masks": 20, "seed": 0}),
     (CAM2IB, {"n_steps": 1, "n_samples": 2, "seed": 0})],
)  # fmt: skip
def test_one_contract_for_word_and_region(method, settings):
    subject = SUBJECTS["clip"]()
    instance = method(subject.model)
    assert isinstance(instance, WordRegions)
    maps = instance.interactions(subject.inputs, additional_forward_args=subject.extra, **settings)
    assert maps.shape == (3, 5, 4, 4)
    assert (maps[subject.extra == 0] == 0).all() and (maps[0, 1:4] != 0).any(dim=(1, 2)).all()
    assert not maps.requires_grad
    if method is CAM2IB:
        assert torch.allclose(maps[0, 1].sum(), torch.tensor(1.0), atol=1e-5)
    assert not isinstance(GenericAttention(subject.model), WordRegions)


def test_sobol_indices_of_a_linear_model():
    """f = Σ w_i M_i over cells: S_Ti = w_i² / Σ w²; halves of the picture, then tokens."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 1, bias=False))
    weight = torch.tensor([[3.0, 1.0], [0.0, 2.0]]).repeat_interleave(2, 0).repeat_interleave(2, 1)
    model[1].weight.data = weight.reshape(1, 16)
    settings = {"n_designs": 1024, "score": "output", "seed": 0, "perturbations_per_eval": 2048}
    found = SobolAttribution(model).attribute(torch.ones(1, 1, 4, 4), target=0, grid=2, **settings)
    expected = weight.square() / 14
    assert torch.allclose(found[0, 0], expected, atol=0.01)
    flat = SobolAttribution(lambda v: (v * torch.tensor([[[1.0], [2.0], [0.0]]])).sum(dim=(1, 2)))
    found = flat.attribute(torch.ones(1, 3, 1), **settings)
    assert torch.allclose(found, torch.tensor([[0.2, 0.8, 0.0]]), atol=0.01)


def test_sobol_indices_count_interactions_for_both():
    """f = M_1 M_2 on U[0,1]²: S_T = 4/7 each, as E[Var(f | M_2)] = 1/36 and Var f = 7/144."""
    settings = {"n_designs": 2048, "seed": 1, "perturbations_per_eval": 4096}
    found = SobolAttribution(lambda v: v[:, 0, 0] * v[:, 1, 0]).attribute(
        torch.ones(1, 2, 1), **settings
    )
    assert torch.allclose(found, torch.full((1, 2), 4 / 7), atol=0.01)


def test_a_score_that_nothing_moves_has_indices_of_0():
    found = SobolAttribution(lambda v: 0 * v.sum(dim=(1, 2)) + 1).attribute(
        torch.ones(2, 3, 1), n_designs=4, seed=0
    )
    assert torch.equal(found, torch.zeros(2, 3))
