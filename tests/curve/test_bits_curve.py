"""Fits that converge: the closed forms, a linear-Gaussian model's whole curve, and the contract."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import NoiseTunnel
from torch import nn

from captum_ib import CAM2IB, IBA, M2IB, CoIBA, CoM2IB, DualEncoder, zoo
from captum_ib.bottleneck import Channel, Damping, NoiseStream, Prior
from captum_ib.bottleneck.quadratic import LEAST_REST, Cost, alpha_of
from captum_ib.curve import BitsCurve
from captum_ib.layout import TokenLayout

N, D = 3, 5


def weights() -> torch.Tensor:
    return torch.tensor([2.0, 1.0, 0.5, 0.1, 0.0])


def activations() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(N, D, generator=generator)


class Signs(NoiseStream):
    """Noise of ±1: its variance is 1 in every draw, so that means over draws are exact."""

    def draw(self) -> list[torch.Tensor]:
        return [torch.where(noise > 0, 1.0, -1.0) for noise in super().draw()]

    def branch(self, number: int) -> NoiseStream:
        other = super().branch(number)
        other.__class__ = Signs
        return other


def oracle(beta: float) -> tuple[np.ndarray, np.ndarray]:
    """Rest r and bits of the linear-Gaussian model, one entry at a time, in float64.

    Z = (1 − r)R + rε with ε ~ N(μ, σ²), μ and σ those of the sample's own D elements, and the
    objective Σ w²(Z − R)², whose mean is Σ w²r²((R − μ)² + σ²).
    """
    R, w = activations().double().numpy(), weights().double().numpy()
    rest, bits = np.zeros((N, D)), np.zeros((N, D))
    for n in range(N):
        mu, sigma = R[n].mean(), R[n].std()
        for d in range(D):
            h = 2 * w[d] ** 2 * ((R[n, d] - mu) ** 2 + sigma**2)
            S, C = ((R[n, d] - mu) / sigma) ** 2 / D, 1 / D
            A, B = h + beta * (S + C), beta * S
            r = (B + math.sqrt(B * B + 4 * A * beta * C)) / (2 * A)
            rest[n, d] = r
            kl = 0.5 * (S * D * (1 - r) ** 2 + r * r - 1) - math.log(r)
            bits[n, d] = kl / math.log(2)
    return rest, bits


def linear(monkeypatch: pytest.MonkeyPatch) -> tuple[BitsCurve, Any, Any]:
    """The curve of that model: an identity, a layer of weights, and the squared error."""
    monkeypatch.setattr("captum_ib.attr.fitting.NoiseStream", Signs)
    model = nn.Sequential(nn.Identity(), Weighted())
    clean = activations() * weights()

    def error(output: torch.Tensor, index: Any) -> torch.Tensor:
        return (output - clean.repeat(len(output) // N, 1)).square().sum(dim=1)

    return BitsCurve(IBA(model, "0")), activations(), error


class Weighted(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * weights()


TOLD = pytest.mark.filterwarnings("ignore:for . of 3 maps noise everywhere:UserWarning")

BETAS = [0.01, 0.1, 1.0, 10.0, 100.0]


@TOLD
def test_a_linear_gaussian_model_has_its_curve_in_closed_form(monkeypatch) -> None:
    curves, x, error = linear(monkeypatch)
    bits, curve = curves.attribute(
        x, target=0, objective=error, betas=BETAS, keep=None, seed=0, return_curve=True
    )
    for number, beta in enumerate(BETAS):
        expected = oracle(beta)[1]
        assert np.allclose(curve.maps[:, number].numpy(), expected, rtol=1e-4, atol=1e-5)
        assert np.allclose(curve.bits[:, number].numpy(), expected.sum(1), rtol=1e-4, atol=1e-5)
    assert torch.equal(bits, curve.maps[:, -1])
    assert curve.agreement.tolist() == [1.0] * N and not curve.competing.any()
    assert (curve.bits.diff(dim=1) < 0).all() and (curve.loss.diff(dim=1) > 0).all()


@TOLD
def test_bisection_meets_the_share_on_the_path(monkeypatch) -> None:
    """The map at `keep` is the closed form at a β that three halvings of the path can reach."""
    curves, x, error = linear(monkeypatch)
    targets = (activations() * weights()).argmax(dim=1)
    _, curve = curves.attribute(
        x, target=targets, objective=error, betas=BETAS, keep=0.9, seed=0, return_curve=True
    )
    reachable = np.geomspace(0.01, 100, 4 * 8 + 1)
    totals = np.stack([oracle(beta)[1].sum(1) for beta in reachable])
    gap = np.abs(totals / curve.bits_at_keep.numpy() - 1).min(axis=0)
    assert (gap < 1e-4).all()
    assert curve.reached.all() and (curve.kept_at_keep >= 0.9).all()
    # One step further on what the halvings can reach, too little is kept.
    place = np.abs(totals / curve.bits_at_keep.numpy() - 1).argmin(axis=0)
    for n in range(N):
        assert place[n] + 1 < len(reachable)
        following = curves.attribute(
            x,
            target=targets,
            objective=error,
            betas=[float(reachable[place[n] + 1])],
            keep=None,
            seed=0,
            return_curve=True,
        )[1]
        assert following.kept[n, 0] < 0.9


def test_the_cost_is_the_channels_information() -> None:
    """C and S from two slopes, against the KL of the channel itself at other λ."""
    R = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float32)
    layout = TokenLayout("sequence")
    channel = Channel(Prior.of_sample(R, layout), R, layout)
    damping = Damping.shared([R], [layout], uniform=True)

    def nats(rest: torch.Tensor) -> torch.Tensor:
        damping.alphas[0].data.copy_(alpha_of(rest))
        return channel.mean(channel.information(damping(0)))

    def slope(share: float) -> torch.Tensor:
        alpha = damping.alphas[0]
        total = nats(torch.full((2, 3, 1), share)).sum()
        return -torch.autograd.grad(total, alpha)[0] / (share * (1 - share))

    cost = Cost.from_slopes(slope(0.5), slope(0.25))
    torch.testing.assert_close(cost.C, torch.full((2, 3, 1), 1 / 3))
    torch.testing.assert_close(
        cost.S, channel.R_hat.square().sum(-1, keepdim=True) / 12, rtol=1e-4, atol=1e-6
    )
    rest = torch.rand(2, 3, 1, generator=torch.Generator().manual_seed(2)) * 0.9 + 0.05
    torch.testing.assert_close(cost.nats(rest), nats(rest).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("h", [-1.0, 0.0, 0.3, 50.0])
@pytest.mark.parametrize("beta", [0.01, 1.0, 30.0])
def test_the_optimum_is_the_smallest_value_on_a_fine_grid(h: float, beta: float) -> None:
    cost = Cost(torch.tensor([[0.2]]), torch.tensor([[0.7]]))
    grid = torch.linspace(LEAST_REST, 1, 200_001, dtype=torch.float64)[:, None]
    fine = Cost(cost.C.double(), cost.S.double())
    values = 0.5 * max(h, 0.0) * grid[:, 0] ** 2 + beta * fine.nats(grid)
    found = cost.optimum(torch.tensor([[h]]), torch.tensor([[beta]]))
    assert found.item() == pytest.approx(grid[values.argmin()].item(), abs=2e-5)


@pytest.fixture(scope="module")
def scenes() -> tuple[Any, torch.Tensor, torch.Tensor]:
    vit = zoo.load("vit-scenes")
    data = zoo.scenes.labelled(3, seed=1_000_003, size=vit.image_size)
    return vit.model, vit.normalize(data.images), data.labels


def references() -> torch.Tensor:
    vit = zoo.load("vit-scenes")
    return vit.normalize(zoo.scenes.labelled(32, seed=7, size=vit.image_size).images)


SHORT: dict[str, Any] = {"betas": [0.1, 1.0], "max_passes": 6, "n_draws": 8, "seed": 0}


def test_batches_seeds_and_parts_change_nothing(scenes) -> None:
    model, images, labels = scenes
    curves = BitsCurve(CoIBA(model))
    curves.method.estimate([references()])
    whole, curve = curves.attribute(images, target=labels, **SHORT, return_curve=True)
    again = curves.attribute(images, target=labels, **SHORT)
    assert torch.equal(whole, again)
    alone = curves.attribute(images[1:2], target=labels[1:2], **SHORT)
    torch.testing.assert_close(alone, whole[1:2], rtol=1e-4, atol=1e-4)
    parts, joined = curves.attribute(
        images, target=labels, **SHORT, internal_batch_size=2, return_curve=True
    )
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-4)
    for name in ("bits", "kept", "agreement", "stays", "floor"):
        torch.testing.assert_close(
            getattr(joined, name), getattr(curve, name), rtol=1e-4, atol=1e-4, msg=name
        )


def pairs(n: int = 3) -> tuple[Any, tuple[torch.Tensor, torch.Tensor], torch.Tensor]:
    clip = zoo.load("clip-scenes")
    data = zoo.scenes.captioned(n, seed=1_000_003, size=clip.image_size)
    ids, mask = clip.tokenizer(data.captions)
    return DualEncoder.from_model(clip.model), (clip.normalize(data.images), ids), mask


def test_without_a_share_a_pair_does_not_depend_on_its_batch() -> None:
    """What is kept is a sample's own, so its certificate is too."""
    dual, (images, ids), mask = pairs()
    curves = BitsCurve(CoM2IB(dual))
    options: dict[str, Any] = {**SHORT, "keep": None, "return_curve": True}
    _, whole = curves.attribute((images, ids), additional_forward_args=mask, **options)
    _, alone = curves.attribute((images[:1], ids[:1]), additional_forward_args=mask[:1], **options)
    for batch, one in zip(whole, alone, strict=True):
        assert batch.keep is None and one.keep is None
        for name in ("bits", "kept", "agreement", "stays"):
            torch.testing.assert_close(
                getattr(batch, name)[:1], getattr(one, name), rtol=1e-4, atol=1e-4, msg=name
            )


def test_a_caption_that_noise_fits_as_well_needs_no_bits() -> None:
    """Captions of other pictures: three of six are less similar than noise, which keeps all."""
    dual, (images, ids), mask = pairs(6)
    with pytest.warns(UserWarning, match="for 9 of 12 maps noise everywhere keeps 90%"):
        _, (image, text) = BitsCurve(CoM2IB(dual)).attribute(
            (images, ids.roll(1, 0)),
            additional_forward_args=mask.roll(1, 0),
            **{**SHORT, "betas": [0.03, 100.0]},
            return_curve=True,
        )
    told = image.floor >= 1
    assert told.tolist() == [False, False, False, True, True, True]
    assert (image.floor[~told] == 0).all() and (text.floor >= 1).all()
    for curve in (image, text):
        told = curve.floor >= 1
        assert curve.reached.all()
        assert (curve.bits_at_keep[told] < 1).all() and (curve.bits_at_keep[~told] > 100).all()


def test_a_scalar_that_equals_noise_keeps_all() -> None:
    """One logit that reads nothing of the layer's input: s = s₀ in every draw."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
    with torch.no_grad():
        model[1].weight.mul_(1e-20)
    x = torch.rand(2, 4, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match="for 2 of 2 maps"):
        _, curve = BitsCurve(IBA(model, "0")).attribute(x, **SHORT, return_curve=True)
    torch.testing.assert_close(curve.floor, torch.ones(2), rtol=0, atol=1e-6)
    assert curve.reached.all()


def test_progress_ends_where_the_passes_do(scenes, capsys) -> None:
    model, images, labels = scenes
    curves = BitsCurve(CoIBA(model))
    _, curve = curves.attribute(
        images, references(), labels, **SHORT, show_progress=True, return_curve=True
    )
    most = 2 * (6 + 2) + (6 + 2 * 2)
    assert curve.passes <= most
    assert f"{curve.passes}/{most}" in capsys.readouterr().err


def test_noise_tunnel_takes_it(scenes) -> None:
    model, images, labels = scenes
    curves = BitsCurve(CoIBA(model))
    curves.method.estimate([references()])
    maps = NoiseTunnel(curves).attribute(
        images, nt_samples=1, stdevs=0.0, target=labels, nt_type="smoothgrad", **SHORT
    )
    expected = curves.attribute(images, target=labels, **SHORT)
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-4)


def test_a_converged_fit_has_a_smaller_loss_than_ten_steps_of_adam(scenes) -> None:
    """β = 1, references; the converged loss on 16 draws, Adam's last one on 64 others."""
    model, images, labels = scenes
    method = CoIBA(model)
    method.estimate([references()])
    _, curve = BitsCurve(method).attribute(
        images, target=labels, betas=[1.0], keep=None, seed=0, return_curve=True
    )
    _, trace = method.attribute(
        images, target=labels, beta=1.0, n_steps=10, n_samples=64, seed=1, return_trace=True
    )
    assert (curve.loss[:, 0] < trace.loss[-1]).all()
    assert curve.stays.tolist() == [1.0, 1.0, 1.0] and curve.n_draws == 100
    assert curve.low.tolist() == pytest.approx([0.9630] * 3, abs=1e-4)


def test_pairs_have_a_curve_per_tower() -> None:
    dual, pair, mask = pairs()
    for kind in (M2IB, CoM2IB):
        maps, found = BitsCurve(kind(dual)).attribute(
            pair, additional_forward_args=mask, return_curve=True, **{**SHORT, "keep": None}
        )
        assert [tuple(one.shape) for one in maps] == [(3, 1, 7, 7), tuple(pair[1].shape)]
        assert (maps[1][mask == 0] == 0).all()
        for one, curve in zip(maps, found, strict=True):
            assert curve.bits.shape == (3, 2) and (curve.bits.diff(dim=1) <= 0).all()
            assert curve.maps.shape == (3, 2, *one.shape[1:])


def test_noise_that_tells_the_answer_is_said(scenes) -> None:
    """Without references the noise has the sample's own mean, and 0 bits keep 90 %."""
    model, images, labels = scenes
    with pytest.warns(
        UserWarning, match=r"for 2 of 3 maps noise everywhere keeps 90% .*pass baselines="
    ):
        bits, curve = BitsCurve(CoIBA(model)).attribute(
            images, target=labels, **{**SHORT, "betas": [1.0, 100.0]}, return_curve=True
        )
    assert (curve.floor >= 0.9).tolist() == [True, True, False]
    assert (curve.bits_at_keep[:2] < 1).all() and not curve.competing[:2].any()
    assert bits.shape == (3, 1, 8, 8)


def test_figures_and_lines(scenes, tmp_path) -> None:
    model, images, labels = scenes
    _, curve = BitsCurve(IBA(model)).attribute(
        images, references(), labels, **SHORT, return_curve=True
    )
    lines = str(curve).splitlines()
    assert len(lines) == 3 and lines[0].startswith("sample 0: ") and "fresh draws" in lines[0]
    curve.plot(tmp_path / "curve.png")
    curve.strip(1, tmp_path / "strip.png")
    assert (tmp_path / "curve.png").stat().st_size > 5000
    assert (tmp_path / "strip.png").stat().st_size > 3000


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"keep": 1.0}, ValueError, "keep must lie between 0 and 1, given 1.0"),
        ({"betas": []}, ValueError, "betas is empty"),
        ({"betas": [1.0, 0.1]}, ValueError, r"betas must rise, given \[1.0, 0.1\]"),
        ({"betas": [0.0, 1.0]}, ValueError, r"betas must be positive and finite, given 0.0"),
        ({"n_steps": 5}, TypeError, "n_steps: BitsCurve has no such argument"),
        ({"n_samples": 1}, ValueError, "n_samples must be at least 2, given 1"),
        ({"max_passes": 0}, ValueError, "max_passes must be at least 1, given 0"),
        ({"guidance": 1.0}, TypeError, "guidance: BitsCurve has no such argument"),
        ({"smoothing": 1.0}, ValueError, "pass smoothing=None"),
    ],
)
def test_bad_arguments(scenes, options, error, message) -> None:
    model, images, labels = scenes
    with pytest.raises(error, match=message):
        BitsCurve(IBA(model)).attribute(images, target=labels, **{**SHORT, **options})


def test_methods_that_have_no_curve(scenes) -> None:
    model, *_ = scenes
    with pytest.raises(TypeError, match="given CAM2IB"):
        BitsCurve(CAM2IB(DualEncoder.from_model(zoo.load("clip-scenes").model)))  # type: ignore
    with pytest.raises(ValueError, match="an IBA of 6 layers is as many separate fits"):
        BitsCurve(IBA(model, "coiba"))
