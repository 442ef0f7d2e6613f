"""FastIG and MFABA: closed forms on linear and homogeneous models, loops on the others."""

from __future__ import annotations

import pytest
import torch
from captum.attr import InputXGradient, IntegratedGradients
from torch import nn

from captum_ib.baselines import MFABA, FastIG
from tests.baselines.models import IDS, MASK, bert, hf_vit, images, timm_vit


def homogeneous() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(784, 5, bias=False)
    )


def test_fast_ig_is_the_integral_of_a_homogeneous_model():
    """F(λx) = λF(x), so ∇F(λx) = ∇F(x) (Hesse et al., proposition 3.1)."""
    model, x = homogeneous().double(), images().double()
    expected = IntegratedGradients(model).attribute(x, target=2, n_steps=300)
    found = FastIG(model).attribute(x, target=2)
    assert torch.allclose(found.double(), expected, rtol=1e-3, atol=1e-5)
    assert torch.allclose(found.flatten(1).sum(dim=1).double(), model(x)[:, 2], atol=1e-4)


def test_fast_ig_without_baseline_is_input_times_gradient():
    model, x = timm_vit(), images().requires_grad_()
    expected = InputXGradient(model).attribute(x, target=1)
    assert torch.allclose(FastIG(model).attribute(x, target=1), expected, atol=1e-6)
    floor = torch.rand(2, 3, 16, 16)
    (slope,) = torch.autograd.grad(model(x)[:, 1].sum(), x)
    found = FastIG(model).attribute(x, floor, target=1, internal_batch_size=1)
    assert torch.allclose(found, (x - floor) * slope, atol=1e-6)


def test_fast_ig_on_token_ids():
    model = bert("sdpa")
    embedded = model.bert.embeddings.word_embeddings(IDS).detach().requires_grad_()
    logits = model(inputs_embeds=embedded, attention_mask=MASK).logits
    (slope,) = torch.autograd.grad(logits[:, 3].sum(), embedded)
    expected = (embedded * slope).sum(dim=-1) * MASK
    found = FastIG(model).attribute(IDS, target=3, additional_forward_args=MASK)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["first_order", "second_order"])
def test_mfaba_on_a_linear_model(method):
    """The gradient w is constant, so n steps of length s along w/‖w‖ give A = n·s·w²/‖w‖."""
    torch.manual_seed(0)
    weight = torch.randn(1, 3, 4, 4)
    found = MFABA(lambda x: (x * weight).flatten(1).sum(dim=1)).attribute(
        torch.rand(2, 3, 4, 4), n_steps=4, step_size=0.5, method=method
    )
    expected = 4 * 0.5 * weight**2 / weight.norm()
    assert torch.allclose(found, expected.expand(2, -1, -1, -1), rtol=1e-4)
    smooth = MFABA(lambda x: (x * weight).flatten(1).sum(dim=1)).attribute(
        torch.rand(2, 3, 4, 4), n_steps=4, step_size=0.5, method=method, direction="smooth"
    )
    assert torch.allclose(smooth, (2 * weight.abs()).expand(2, -1, -1, -1), rtol=1e-4)


def walk(model, x, target, steps, length):
    """The path of one sample and the scores on it, step by step."""
    points, slopes, scores = [x], [], []
    for step in range(steps + 1):
        state = points[-1].detach().requires_grad_()
        output = model(state)
        logits = getattr(output, "logits", output)
        score = logits.softmax(dim=1)[0, target]
        (slope,) = torch.autograd.grad(score, state)
        slopes.append(slope)
        scores.append(float(score.detach()))
        if step == steps or (step and int(logits.argmax()) != target):
            break
        points.append(state.detach() - length * slope / slope.norm())
    return points, slopes, scores


@pytest.mark.parametrize("method", ["first_order", "second_order"])
def test_mfaba_as_a_loop(method):
    model, x = hf_vit("eager"), images(2)
    target = model(x).logits.argmax(dim=1)
    found = MFABA(model).attribute(x, target, n_steps=6, step_size=0.3, method=method)
    for n in range(2):
        points, slopes, _ = walk(model, x[n : n + 1], int(target[n]), 6, 0.3)
        expected = torch.zeros_like(x[n])
        for j in range(len(points) - 1):
            slope = (slopes[j] + slopes[j + 1]) / 2 if method == "second_order" else slopes[j]
            expected += ((points[j] - points[j + 1]) * slope)[0]
        assert torch.allclose(found[n], expected, rtol=1e-3, atol=1e-6)


def test_mfaba_adds_up_to_the_fall_of_the_score():
    """Trapezoids of a smooth function: the gap to f(x) − f(x_J) falls with the step squared."""
    model, x = timm_vit(), images(1)
    target = int(model(x).argmax())
    gaps = []
    for steps, length in ((1, 0.2), (2, 0.1)):
        points, _, scores = walk(model, x, target, steps, length)
        assert len(points) == steps + 1
        found = MFABA(model).attribute(x, target, n_steps=steps, step_size=length)
        gaps.append(abs(float(found.sum()) - (scores[0] - scores[-1])))
    assert gaps[1] < 1e-2 * (scores[0] - scores[-1]) and gaps[1] < 0.4 * gaps[0]


def test_mfaba_stops_at_the_boundary_sample_by_sample():
    """Output (x, 0): predicted 0 while x > 0. From 0.25 and 0.95 in steps of 0.1: 3 and 10."""

    def model(x):
        return torch.stack([x.flatten(1).sum(dim=1), torch.zeros(len(x))], dim=1)

    x = torch.tensor([0.25, 0.95]).view(2, 1, 1, 1)
    found = MFABA(model).attribute(x, 0, n_steps=50, step_size=0.1, score="output")
    assert torch.allclose(found.flatten(), torch.tensor([0.3, 1.0]), atol=1e-5)


def test_mfaba_stays_between_the_bounds():
    x = torch.full((1, 1, 1, 1), 0.25)
    settings = {"n_steps": 10, "step_size": 0.1, "lower": 0.0, "upper": 1.0}
    found = MFABA(lambda value: value.flatten(1).sum(dim=1)).attribute(x, **settings)
    assert torch.allclose(found, torch.full((1, 1, 1, 1), 0.25), atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"n_steps": 0}, ValueError, "n_steps must be at least 1, given 0"),
        ({"n_steps": 1.0}, TypeError, "n_steps must be an int, given float"),
        ({"method": "third"}, ValueError, 'method must be "second_order" or "first_order"'),
        ({"direction": "up"}, ValueError, 'direction must be "sharp" or "smooth"'),
        ({"score": "logit"}, ValueError, 'score must be "probability" or "output"'),
        ({"step_size": 0.0}, ValueError, "step_size must be positive, given 0.0"),
    ],
)
def test_mfaba_settings_that_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        MFABA(timm_vit()).attribute(images(), target=0, **settings)
