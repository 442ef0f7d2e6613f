"""InputIBA: its equations by plain loops, the authors' outputs, words, and what is refused."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from captum_ib import ActivationStatistics, InputIBA
from captum_ib.attr.fitting import Layers
from captum_ib.attr.input_iba import steps
from captum_ib.attr.input_iba.bottlenecks import Features, PriorMatch, behind, start_of
from captum_ib.attr.input_iba.entry import Entry, spread_over
from captum_ib.bottleneck import FitSettings, Noise, NoiseStream, damping_ratio, gaussian_kl
from captum_ib.bottleneck.moments import Moments
from captum_ib.forward import prepare, session_of
from captum_ib.layout import TokenLayout
from captum_ib.models.text_classifier import by_name


def test_what_the_prior_knows_costs_nothing():
    """The paper's form: v = (1 − Λ)²/(1 − ΛΛ_G)², μ = Λ(1 − Λ_G)x/(1 − ΛΛ_G)."""
    generator = torch.Generator().manual_seed(0)
    alpha, x = (torch.randn(50, generator=generator, dtype=torch.float64) * 3 for _ in range(2))
    given = torch.rand(50, generator=generator, dtype=torch.float64)
    lam = torch.sigmoid(alpha)
    v = (1 - lam) ** 2 / (1 - lam * given) ** 2
    mu = lam * (1 - given) * x / (1 - lam * given)
    expected = -0.5 * (1 + v.log() - mu**2 - v)
    torch.testing.assert_close(gaussian_kl(x, behind(damping_ratio(alpha), given)), expected)
    nothing = gaussian_kl(x, behind(damping_ratio(alpha), torch.ones_like(given)))
    torch.testing.assert_close(nothing, torch.zeros_like(x), atol=1e-12, rtol=0)
    plain = gaussian_kl(x, behind(damping_ratio(alpha), torch.zeros_like(given)))
    torch.testing.assert_close(plain, gaussian_kl(x, damping_ratio(alpha)))


@pytest.fixture
def match():
    """A prior to be matched on a linear feature layer, f(x) = Wx."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4, bias=False), nn.Linear(4, 3)).eval()
    entry = Entry(model)
    call = prepare(entry, torch.randn(2, 5), None, 1)
    both = [("ahead", entry.ahead), ("0", model[0])]
    with session_of(call, both) as session:
        layers = Layers(call, session, [TokenLayout("flat")] * 2, Noise(None, 1.0))
        R = layers.R[1].float()
        ratio = damping_ratio(torch.randn(2, 4))
        features = Features(
            R, ratio, torch.zeros(1, 4), torch.full((1, 4), 0.7), R, TokenLayout("flat")
        )
        yield PriorMatch(layers, features, torch.full((2, 5), 0.4))


def test_the_distance_is_that_of_gaussians(match):
    """W₂² of N(a, b²) and N(c, d²) is (a − c)² + (b − d)², and f(Z_G) is Gaussian here."""
    draws = torch.randn(40_000, 5, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        F = match.generated(draws)
        found = match.distance(F)
        x, W = match.layers.R[0], match.layers.call.forward_func.inner[0].weight
        mean, spread = 0.4 * x @ W.T, 0.6 * W.square().sum(dim=1).sqrt()
        ratio = match.features.ratio
        wanted = ratio.lam * match.features.R
        expected = ((mean - wanted) ** 2 + (spread - 0.7 * ratio.rest) ** 2).sum(dim=1) / 0.49
    torch.testing.assert_close(found, expected, rtol=0.03, atol=0.03)


@pytest.mark.parametrize("at_once", [None, 1, 3])
def test_its_gradient_in_parts_is_that_of_the_whole(match, at_once):
    draws = torch.randn(8, 5, generator=torch.Generator().manual_seed(1))
    found = match.gradients(draws, at_once)
    whole = match.distance(match.generated(draws)).sum()
    expected = torch.autograd.grad(whole, [match.alpha, match.m, match.s])
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_matching_brings_the_features_together(match):
    stream = NoiseStream(0, [(5,)], 16, antithetic=True)
    draws = torch.randn(500, 5, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = match.distance(match.generated(draws))
    match.fit(stream, FitSettings(100, 16, True, 0.1), lambda: None)
    with torch.no_grad():
        after = match.distance(match.generated(draws))
    assert bool((after < 0.5 * before).all())


def test_where_the_features_need_nothing_a_pixel_costs_all_it_passes():
    """Without a prior the bits are IBA's at the input, with noise N(0, 1)."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()
    x = torch.randn(2, 3, 8, 8)
    settings = {"target": 1, "seed": 0, "n_steps": 12, "n_samples": 4, "smoothing": None}
    found = InputIBA(model, "0").attribute(x, prior="none", reduce="none", **settings)
    lam = InputIBA(model, "0").attribute(x, prior="none", reduce="mask", **settings)
    alpha = torch.full((2, 3, 8, 8), 5.0, requires_grad=True)
    optimizer = torch.optim.Adam([alpha], lr=1.0)
    stream = NoiseStream(0, [(3, 8, 8)], 4, antithetic=False)
    for _ in range(11):  # the last step evaluates
        ratio, draw = damping_ratio(alpha), stream.draw()[0]
        Z = ratio.lam * x + ratio.rest * draw.unsqueeze(1)
        logits = model(Z.flatten(0, 1))
        entropy = nn.functional.cross_entropy(logits, torch.ones(8).long(), reduction="sum") / 4
        nats = gaussian_kl(x, ratio).flatten(1).mean(dim=1).sum()
        optimizer.zero_grad()
        (entropy + 20 * nats).backward()
        optimizer.step()
    ratio = damping_ratio(alpha.detach())
    torch.testing.assert_close(found, gaussian_kl(x, ratio) / math.log(2), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(lam[:, 0], ratio.lam.mean(dim=1), rtol=1e-3, atol=1e-4)


class Words(nn.Module):
    """A classifier of texts of four words, with a table of positions beside that of the words."""

    def __init__(self):
        super().__init__()
        self.words, self.positions = nn.Embedding(9, 6), nn.Embedding(4, 6)
        self.mix, self.head = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, ids):
        hidden = self.words(ids) + self.positions(torch.arange(ids.shape[1]))
        return self.head(self.mix(hidden).relu().mean(dim=1))


@pytest.mark.parametrize("prior", ["matched", "none"])
def test_words_are_explained_behind_their_embedding(prior):
    torch.manual_seed(0)
    model, ids = Words().eval(), torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
    few = {"target": 1, "seed": 0, "n_steps": 6, "n_samples": 4, "prior": prior}
    found = InputIBA(model, "mix").attribute(ids, **few)
    assert found.shape == (2, 4) and float(found.min()) >= 0 and float(found.std()) > 0
    named = InputIBA(model, "mix", at="words").attribute(ids, **few)
    assert torch.equal(found, named)


def test_words_of_a_transformer():
    import transformers

    config = transformers.DistilBertConfig(
        vocab_size=20, dim=16, hidden_dim=32, n_layers=2, n_heads=2, max_position_embeddings=8
    )
    torch.manual_seed(0)
    model = by_name(transformers.DistilBertForSequenceClassification(config).eval())
    ids = torch.tensor([[2, 3, 4, 5, 0], [6, 7, 8, 9, 10]])
    found = InputIBA(model, model_layer(model)).attribute(
        ids, target=1, additional_forward_args=(ids > 0).long(), seed=0, n_steps=4, n_samples=2
    )
    assert found.shape == (2, 5) and float(found.std()) > 0


def model_layer(model: nn.Module) -> str:
    return next(name for name, _ in model.named_modules() if name.endswith("layer.1"))


def test_the_gan_is_of_the_sample_alone_and_repeats():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()
    x = torch.randn(2, 3, 8, 8)
    few = {"target": 1, "seed": 0, "n_steps": 3, "n_samples": 2, "prior": "gan"}
    torch.manual_seed(3)
    expected = torch.rand(())
    torch.manual_seed(3)
    both = InputIBA(model, "0").attribute(x, **few)
    assert torch.rand(()) == expected
    alone = InputIBA(model, "0").attribute(x[1:], **few)
    torch.testing.assert_close(both[1:], alone, rtol=1e-4, atol=1e-5)


def test_what_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 5)).eval()
    method, x = InputIBA(model, "0"), torch.randn(1, 3, 8, 8)
    for settings, message in [
        ({"prior": "normal"}, "prior must be"),
        ({"variant": "paper"}, "variant must be"),
        ({"variant": "published"}, "pass prior='gan', too"),
        ({"reduce": "mean"}, "reduce must be"),
        ({"prior_lr": 0.0}, "must be positive|positive"),
        ({"beta": -1.0}, "beta must be"),
    ]:
        with pytest.raises(ValueError, match=message):
            method.attribute(x, target=1, **settings)
    with pytest.raises(ValueError, match="explains one input, given 2"):
        method.attribute((x, x), target=1)
    with pytest.raises(ValueError, match="inputs of shape .* have unknown axes"):
        method.attribute(x[None, None], target=1)
    with pytest.raises(ValueError, match="takes one layer, given 2"):
        InputIBA(model, ["0", "2"])
    small = nn.Sequential(nn.Conv2d(3, 4, 6), nn.Flatten(), nn.Linear(36, 5)).eval()
    with pytest.raises(ValueError, match="features of at least 4 × 4 positions, given 3 × 3"):
        InputIBA(small, "0").attribute(x, target=1, prior="gan", n_samples=2)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(192, 6), nn.Linear(6, 5)).eval()
    with pytest.raises(ValueError, match="has a critic for feature maps, and the layer is 'flat'"):
        InputIBA(flat, "1").attribute(x, target=1, prior="gan", n_samples=2)
    twice = nn.Module()
    twice.a, twice.b = nn.Embedding(5, 3), nn.Embedding(5, 3)
    twice.head = nn.Linear(3, 2)
    twice.forward = lambda ids: twice.head((twice.a(ids) + twice.b(ids)).mean(dim=1))
    with pytest.raises(ValueError, match=r"the ids go into these embeddings: a, b; name the one"):
        InputIBA(twice, "head").attribute(torch.tensor([[1, 2]]), target=1)


@pytest.fixture(scope="module")
def published(conformance):
    """The authors' CNN, statistics and outputs."""
    found = load_file(conformance / "vit_comparators.safetensors")
    own = {k.removeprefix("inputiba_"): v for k, v in found.items() if k.startswith("inputiba_")}
    model = nn.Module()
    layers: list[nn.Module] = []
    for before, behind_, pooled in ((3, 16, True), (16, 32, True), (32, 32, True), (32, 32, False)):
        layers += [nn.Conv2d(before, behind_, 3, padding=1), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if pooled else []
    model.features, model.head = nn.Sequential(*layers), nn.Linear(2048, 10)
    model.load_state_dict({k[4:]: v for k, v in own.items() if k.startswith("cnn.")})
    whole = nn.Sequential(model.features, nn.Flatten(), model.head).eval()
    torch.testing.assert_close(whole(own["x"]), own["logits"])
    count = torch.full_like(own["mean"], 200.0).double()
    moments = Moments(
        count, own["mean"].double(), own["std"].double() ** 2 * count, own["active"] * count
    )
    return SimpleNamespace(
        **own, whole=whole, noise=ActivationStatistics({"0.7": moments}), index=own["target"].long()
    )


def agreement(one: torch.Tensor, other: torch.Tensor) -> float:
    """The lowest correlation over samples."""
    pairs = zip(one.flatten(1), other.flatten(1), strict=True)
    return min(float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in pairs)


def test_the_features_and_the_start_are_the_authors(published, monkeypatch):
    seen: dict[str, list[torch.Tensor]] = {"capacity": [], "start": []}

    def features(*given):
        found = features_of_a_call(*given)
        seen["capacity"].append(found.nats.sum(dim=1))
        return found

    def start(*given):
        found = start_of(*given)
        seen["start"].append(found.mean(dim=1))
        return found

    features_of_a_call = steps._features
    monkeypatch.setattr(steps, "_features", features)
    monkeypatch.setattr(steps, "start_of", start)
    for seed in range(3):
        InputIBA(published.whole, "0.7").attribute(
            published.x, published.noise, published.index, seed=seed, n_steps=1, n_prior_steps=1
        )
    capacity, begun = (torch.stack(seen[name]).mean(dim=0) for name in ("capacity", "start"))
    assert agreement(capacity, published.feature_capacity) > 0.99
    torch.testing.assert_close(
        capacity.mean(), published.feature_capacity.mean(), rtol=0.01, atol=0
    )
    assert agreement(begun, published.feature_map) > 0.95


@pytest.mark.slow
def test_the_generator_and_the_map_are_the_authors(published, monkeypatch):
    masks: list[torch.Tensor] = []
    prior_of_a_call = steps._prior

    def prior(*given):
        found = prior_of_a_call(*given)
        masks.append(found.mean(dim=1))
        return found

    monkeypatch.setattr(steps, "_prior", prior)
    maps = [
        InputIBA(published.whole, "0.7").attribute(
            published.x,
            published.noise,
            published.index,
            prior="gan",
            variant="published",
            reduce="mask",
            seed=seed,
        )[:, 0]
        for seed in range(3)
    ]
    assert agreement(torch.stack(maps).mean(dim=0), published.input_mask) > 0.85
    by_seed = torch.cat(masks).unflatten(0, (3, 2))
    assert agreement(by_seed.mean(dim=0), published.generator_mask) > 0.90
    torch.testing.assert_close(by_seed.mean(), published.generator_mask.mean(), rtol=0.01, atol=0)


def test_a_map_spreads_over_the_input():
    values = torch.arange(4.0).view(1, 1, 2, 2)
    assert spread_over(torch.zeros(1, 3, 4, 4))(values).shape == (1, 1, 4, 4)
    assert torch.equal(spread_over(torch.zeros(1, 3, 5))(torch.ones(1, 3)), torch.ones(1, 3, 1))
    assert spread_over(torch.zeros(1, 7))(values).tolist() == [[1.5]]
