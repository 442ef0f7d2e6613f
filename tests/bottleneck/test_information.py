"""The information per element against numerical integration, and at the edge of float32."""

import math

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from captum_ib.bottleneck import damping_ratio, gaussian_kl, to_bits


def integrated_kl(r: float, mu: float, sigma: float, lam: float) -> float:
    """∫ p log(p/q) for p = N(λr + (1−λ)μ, ((1−λ)σ)²) and q = N(μ, σ²), without the closed form."""
    p = norm(lam * r + (1 - lam) * mu, (1 - lam) * sigma)
    q = norm(mu, sigma)
    low, high = p.ppf(1e-13), p.ppf(1 - 1e-13)
    return quad(lambda z: p.pdf(z) * (p.logpdf(z) - q.logpdf(z)), low, high, limit=200)[0]


@pytest.mark.parametrize("lam", [0.01, 0.3, 0.7, 0.95])
@pytest.mark.parametrize(("r", "mu", "sigma"), [(2.0, 0.0, 1.0), (-1.5, 0.7, 0.4), (0.2, 0.2, 3.0)])
def test_kl_equals_numerical_integration(r, mu, sigma, lam):
    alpha = torch.tensor(math.log(lam / (1 - lam)), dtype=torch.float64)
    normalized = torch.tensor((r - mu) / sigma, dtype=torch.float64)
    kl = gaussian_kl(normalized, damping_ratio(alpha)).item()
    assert kl == pytest.approx(integrated_kl(r, mu, sigma, lam), abs=1e-7)


def test_kl_is_exact_where_float32_rounds_lambda_to_one():
    ratio = damping_ratio(torch.tensor([17.0, 60.0, 500.0]))
    assert ratio.lam.tolist() == [1.0, 1.0, 1.0]
    kl = gaussian_kl(torch.tensor(0.0), ratio)
    # ½(λR̂)² + ½(1−λ)² − ½ + log(1 + e^α) with R̂ = 0 and λ → 1: α − ½
    assert torch.allclose(kl, torch.tensor([16.5, 59.5, 499.5]))


def test_gradient_is_finite_at_any_alpha():
    alpha = torch.tensor([-500.0, -60.0, 0.0, 60.0, 500.0], requires_grad=True)
    gaussian_kl(torch.tensor(3.0), damping_ratio(alpha)).sum().backward()
    assert torch.isfinite(alpha.grad).all()


def test_no_information_passes_a_closed_channel():
    kl = gaussian_kl(torch.randn(1000) * 10, damping_ratio(torch.full((1000,), -60.0)))
    assert to_bits(kl).max() < 1e-20


def test_bits_are_nats_over_log_two_and_never_negative():
    assert to_bits(torch.tensor([math.log(8.0), -1e-9])).tolist() == pytest.approx([3.0, 0.0])
