"""IBA, CoIBA, M2IB and NIB against plain loops with the same noise, and against closed forms."""

import copy
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from torch import nn

from captum_ib import InputWarning
from captum_ib.attr import IBA, M2IB, NIB, CoIBA
from captum_ib.attr.path import METHODS, Path
from captum_ib.bottleneck import ActivationStatistics
from captum_ib.layout import TokenLayout
from tests.attr.cases import SUBJECTS
from tests.attr.oracles import activations, bits, noise_of, plain_fit, token_stats

STEPS, DRAWS = 5, 4


def cross_entropy(target):
    return lambda output: -torch.log_softmax(output, dim=1)[:, target]


def relative(found, expected):
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.fixture
def vit():
    subject = SUBJECTS["vit"]()
    model = copy.deepcopy(subject.model)
    return model, copy.deepcopy(model).double(), subject.inputs


@pytest.mark.parametrize(
    ("channel", "antithetic"),
    [("elementwise", True), ("elementwise", False), ("uniform", False)],
)
def test_iba_equals_the_plain_loop(vit, channel, antithetic):
    model, exact, x = vit
    found = IBA(model, "blocks.2").attribute(
        x, target=2, seed=9, n_steps=STEPS, n_samples=DRAWS, antithetic=antithetic, channel=channel
    )
    layer = exact.blocks[2]
    for index in range(len(x)):
        one = x[index : index + 1].double()
        (r,) = activations(exact, one, [layer])
        of_position = r[..., :1] if channel == "uniform" else r
        alpha = torch.full_like(of_position, 5.0, requires_grad=True)
        (nats,) = plain_fit(
            exact, one, [layer], cross_entropy(2), lambda a, i: torch.sigmoid(a), alpha,
            [token_stats(r)], noise_of(9, [r.shape[1:]], DRAWS, antithetic), 10.0, STEPS,
        )  # fmt: skip
        expected = bits(nats).sum(-1)[1:].reshape(1, 4, 4)
        assert relative(found[index].double(), expected) < 1e-4


@pytest.mark.parametrize(
    ("compression", "channel", "beta"),
    [
        ("upper_bound", "uniform", 1.0),
        ("upper_bound", "elementwise", 1.0),
        ("layerwise", "uniform", 1.0),
        ("layerwise", "uniform", (0.5, 2.0)),
    ],
)
def test_coiba_and_its_ablations_equal_the_plain_loop(vit, compression, channel, beta):
    model, exact, x = vit
    names = ["blocks.1.norm1", "blocks.2.norm1"]
    found = CoIBA(model, names).attribute(
        x, target=0, seed=4, n_steps=STEPS, n_samples=DRAWS, beta=beta, compression=compression,
        channel=channel,
    )  # fmt: skip
    layers = [exact.get_submodule(name) for name in names]
    for index in range(len(x)):
        one = x[index : index + 1].double()
        r = activations(exact, one, layers)
        width = 1 if channel == "uniform" else r[0].shape[-1]
        alpha = torch.full((1, r[0].shape[1], width), 5.0, dtype=torch.float64, requires_grad=True)
        nats = plain_fit(
            exact, one, layers, cross_entropy(0), lambda a, i: torch.sigmoid(a), alpha,
            [token_stats(v) for v in r], noise_of(4, [v.shape[1:] for v in r], DRAWS, True),
            beta, STEPS, layerwise=compression == "layerwise",
        )  # fmt: skip
        maps = [bits(value).sum(-1)[1:].reshape(1, 4, 4) for value in nats]
        expected = torch.stack(maps).mean(0) if compression == "layerwise" else maps[0]
        assert relative(found[index].double(), expected) < 1e-4


def test_individual_damping_gives_every_layer_its_own_ratio(vit):
    model, exact, x = vit
    names = ["blocks.1.norm1", "blocks.2.norm1"]
    found = CoIBA(model, names).attribute(
        x, target=0, seed=4, n_steps=STEPS, n_samples=DRAWS, damping="individual"
    )
    layers = [exact.get_submodule(name) for name in names]
    for index in range(len(x)):
        one = x[index : index + 1].double()
        r = activations(exact, one, layers)
        alpha = torch.full((2, 1, r[0].shape[1], 1), 5.0, dtype=torch.float64, requires_grad=True)
        nats = plain_fit(
            exact, one, layers, cross_entropy(0), lambda a, i: torch.sigmoid(a[i]), alpha,
            [token_stats(v) for v in r], noise_of(4, [v.shape[1:] for v in r], DRAWS, True),
            1.0, STEPS,
        )  # fmt: skip
        expected = bits(nats[0]).sum(-1)[1:].reshape(1, 4, 4)
        assert relative(found[index].double(), expected) < 1e-4


def test_shared_ratio_over_resolutions_equals_the_plain_loop():
    subject = SUBJECTS["resnet"]()
    model, x = copy.deepcopy(subject.model), subject.inputs
    exact = copy.deepcopy(model).double()
    found = CoIBA(model, subject.layers).attribute(
        x, target=1, seed=2, n_steps=STEPS, n_samples=DRAWS
    )
    layers = [exact.get_submodule(name) for name in subject.layers]

    def lam(alpha, index):
        drop = torch.sigmoid(-alpha)
        return 1 - (nn.functional.avg_pool2d(drop, 2) if index == 1 else drop)

    for index in range(len(x)):
        one = x[index : index + 1].double()
        r = activations(exact, one, layers)
        assert r[0].shape[-1] == 2 * r[1].shape[-1]
        stats = [token_stats(v.flatten(2), axis=2) for v in r]
        stats = [(mean.unsqueeze(-1), std.unsqueeze(-1)) for mean, std in stats]
        alpha = torch.full((1, 1, 8, 8), 5.0, dtype=torch.float64, requires_grad=True)
        nats = plain_fit(
            exact, one, layers, cross_entropy(1), lam, alpha, stats,
            noise_of(2, [v.shape[1:] for v in r], DRAWS, True), 1.0, STEPS,
        )  # fmt: skip
        assert relative(found[index].double(), bits(nats[0]).sum(0, keepdim=True)) < 1e-4


def test_iba_on_a_convolution_smooths_and_masks_dead_neurons():
    subject = SUBJECTS["conv"]()
    model = copy.deepcopy(subject.model)
    model.conv1.weight.data[0].zero_()
    model.conv1.bias.data[0] = 0.0
    options = {"target": 1, "seed": 0, "n_steps": 4, "reduce": "none"}
    default = IBA(model, "conv1").attribute(subject.inputs, **options)
    assert default[:, 0].eq(0).all(), "a dead neuron carries no information"
    unmasked = IBA(model, "conv1").attribute(subject.inputs, mask_inactive=False, **options)
    assert unmasked[:, 0].gt(0).all()
    rough = IBA(model, "conv1").attribute(subject.inputs, smoothing=None, **options)
    assert not torch.allclose(rough[:, 1], default[:, 1])


def test_iba_star_takes_the_layers_of_coiba_by_name(vit):
    model, _, _ = vit
    assert IBA(model, "coiba").layers == CoIBA(model).layers
    assert [name for name, _ in CoIBA(model).layers] == [f"blocks.{i}.norm1" for i in (1, 2, 3)]


@pytest.mark.parametrize("channel", ["elementwise", "uniform"])
def test_iba_star_is_the_mean_over_layers(vit, channel):
    model, _, x = vit
    options = {"target": 2, "seed": 9, "n_steps": 3, "n_samples": 2, "channel": channel}
    both = IBA(model, ["blocks.1", "blocks.2"]).attribute(x, **options)
    single = [IBA(model, name).attribute(x, **options) for name in ("blocks.1", "blocks.2")]
    assert torch.allclose(both, torch.stack(single).mean(0))


@pytest.mark.parametrize("modality", [0, 1])
def test_m2ib_equals_the_plain_loop(modality):
    subject = SUBJECTS["clip"]()
    dual, (pixels, ids), mask = subject.model, subject.inputs, subject.extra
    found = M2IB(dual, subject.layers).attribute(
        (pixels, ids), additional_forward_args=mask, seed=3, n_steps=STEPS, n_samples=DRAWS
    )[modality]
    exact = copy.deepcopy(dual.model).double()
    layer = exact.get_submodule(subject.layers[modality])
    for index in range(3):
        length = int(mask[index].sum())
        one = pixels[index : index + 1].double()
        words = ids[index : index + 1, :length]  # one pair at a time, without padding

        def image(values):
            out = exact.vision_model(pixel_values=values).pooler_output
            return nn.functional.normalize(exact.visual_projection(out), dim=-1)

        def text(values):
            with float64_masks():
                out = exact.text_model(input_ids=values).pooler_output
            return nn.functional.normalize(exact.text_projection(out), dim=-1)

        with torch.no_grad():
            other = text(words) if modality == 0 else image(one)
        run, inputs = (image, one) if modality == 0 else (text, words)
        (r,) = first_tensors(run, inputs, layer)
        draws = noise_of(3, [r.shape[1:]], DRAWS, True, sequences=modality == 1)
        unit = (torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64))
        alpha = torch.full_like(r, 5.0, requires_grad=True)
        (nats,) = plain_fit(
            _Tower(run, layer), inputs, [layer], partial(minus_cosine, other),
            lambda a, i: torch.sigmoid(a), alpha, [unit],
            draws, 0.1, STEPS,
        )  # fmt: skip
        expected = bits(nats).sum(-1)
        if modality == 0:
            assert relative(found[index].double(), expected[1:].reshape(1, 4, 4)) < 1e-4
        else:
            assert relative(found[index, :length].double(), expected) < 1e-4
            assert found[index, length:].eq(0).all()


def minus_cosine(other, embedding):
    return -(embedding * other).sum(-1)


class _Tower(nn.Module):
    """A function as a module, for the plain loop."""

    def __init__(self, run, layer):
        super().__init__()
        self.run, self.layer = run, layer

    def forward(self, values):
        return self.run(values)


@contextmanager
def float64_masks():
    """transformers 4 builds a mask of the default type, in which float64's lowest is no number."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def first_tensors(run, inputs, layer):
    found = []
    handle = layer.register_forward_hook(
        lambda m, a, o: found.append((o if isinstance(o, torch.Tensor) else o[0]).detach())
    )
    with torch.no_grad():
        run(inputs)
    handle.remove()
    return found


def test_baselines_are_the_noise_of_the_layer(vit):
    model, exact, x = vit
    references = torch.rand(20, 3, 16, 16, generator=torch.Generator().manual_seed(8))
    method = IBA(model, "blocks.2")
    options = {"target": 2, "seed": 9, "n_steps": STEPS, "n_samples": DRAWS, "antithetic": True}
    found = method.attribute(x[:1], references, **options)
    layer = exact.blocks[2]
    (refs,) = activations(exact, references.double(), [layer])
    stats = (refs.mean(0), refs.var(0, unbiased=False).sqrt().clamp_min(0.01))
    (r,) = activations(exact, x[:1].double(), [layer])
    alpha = torch.full_like(r, 5.0, requires_grad=True)
    (nats,) = plain_fit(
        exact, x[:1].double(), [layer], cross_entropy(2), lambda a, i: torch.sigmoid(a), alpha,
        [stats], noise_of(9, [r.shape[1:]], DRAWS, True), 10.0, STEPS,
    )  # fmt: skip
    assert relative(found[0].double(), bits(nats).sum(-1)[1:].reshape(1, 4, 4)) < 1e-4
    method.estimate([(references[:12], "labels"), references[12:]])
    assert torch.allclose(method.attribute(x[:1], **options), found, rtol=1e-4)
    assert isinstance(method.statistics, ActivationStatistics)
    assert torch.allclose(method.attribute(x[:1], method.statistics, **options), found, rtol=1e-4)


def test_the_trace_is_the_loss_at_each_step(vit):
    model, _, x = vit
    method = IBA(model, "blocks.2")
    _, trace = method.attribute(x, target=2, seed=1, n_steps=6, return_trace=True)
    assert trace.loss.shape == (6, 3)
    assert torch.equal(trace.loss, trace.fit + trace.compression)
    _, closed = method.attribute(x, target=2, seed=1, n_steps=1, beta=0.0, return_trace=True)
    # λ ≈ 0.993 passes almost everything: the loss starts near the model's own cross-entropy
    plain = -torch.log_softmax(model(x), dim=1)[:, 2].detach()
    assert torch.allclose(closed.fit[0], plain, atol=0.05)
    assert closed.compression.eq(0).all()


# --- NIB: closed forms ---------------------------------------------------------------------


class Cubic(nn.Module):
    """F(z) = Σ w z³ behind an identity layer: ∂F/∂z = 3 w z², so A = w z³ exactly."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Identity()
        self.weight = nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))

    def forward(self, x):
        return (self.weight * self.hidden(x).pow(3)).sum(dim=1)


def test_nib_of_a_cubic_is_exact_with_two_gauss_legendre_points():
    model, x = Cubic(), torch.tensor([[1.0, 2.0, -1.0], [0.0, 1.0, 3.0]])
    found, delta = NIB(model, "hidden").attribute(
        x, n_steps=2, method="gausslegendre", return_convergence_delta=True
    )
    assert torch.allclose(found, (model.weight * x.pow(3)).detach(), atol=1e-5)
    assert delta.abs().max() < 1e-5


def test_nib_right_riemann_sum_by_hand():
    model, x = Cubic(), torch.tensor([[2.0, 0.0, 0.0]])
    found = NIB(model, "hidden").attribute(x, baselines=1.0, n_steps=4)
    # z̃ = 1 + λ, F' = 3 z̃², (z − b) = 1: ¼ Σ 3 (1 + k/4)² over k = 1…4
    expected = 0.25 * sum(3 * (1 + k / 4) ** 2 for k in range(1, 5))
    assert found[0, 0].item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("power", [1.0, 4.0])
def test_every_approximation_converges_to_completeness(method, power):
    model, x = Cubic(), torch.tensor([[1.0, 2.0, -1.0]])
    _, delta = NIB(model, "hidden").attribute(
        x, n_steps=2000, method=method, power=power, return_convergence_delta=True
    )
    assert delta.abs().max() < 0.05


def test_power_keeps_the_weights_sum():
    assert sum(Path.of(300, "gausslegendre", 4.0).weights) == pytest.approx(1.0, abs=1e-6)


def test_nib_takes_number_and_tensor_baselines(vit):
    model, _, x = vit
    nib = NIB(model, "blocks.2")
    (z,) = activations(model, x, [model.blocks[1]])
    assert torch.equal(nib.attribute(x, target=1), nib.attribute(x, baselines=0, target=1))
    with pytest.warns(InputWarning, match="the map is 0 everywhere"):
        assert nib.attribute(x, baselines=z, target=1).abs().max() == 0
    one = nib.attribute(x, baselines=z[:1], target=1)
    assert one[0].abs().max() == 0
    assert one[1].abs().max() > 0
    parts = nib.attribute(x, baselines=z * 0.5, target=1, internal_batch_size=1)
    whole = nib.attribute(x, baselines=z * 0.5, target=1)
    assert torch.allclose(parts, whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"baselines": torch.zeros(7, 5)}, ValueError, "do not broadcast to the activation"),
        ({"baselines": "zero"}, TypeError, "must be a number or a tensor"),
        ({"method": "simpson"}, ValueError, 'method must be one of "riemann_right"'),
        ({"n_steps": 1}, ValueError, "n_steps must be at least 2 for riemann_right, given 1"),
        ({"n_steps": 0, "method": "gausslegendre"}, ValueError, "at least 1, given 0"),
        ({"power": 0.5}, ValueError, "power must be at least 1"),
        ({"baselines": (0, 1)}, TypeError, "must be a number or a tensor .* given tuple"),
        ({"reduce": "max"}, ValueError, 'reduce must be "sum" or "none"'),
        ({"internal_batch_size": 0}, ValueError, "internal_batch_size must be at least 1"),
        ({"internal_batch_size": 1.5}, TypeError, "internal_batch_size must be an int"),
        ({"layout": TokenLayout("sequence")}, None, ""),
        ({"layout": TokenLayout("tokens", 0, (3, 3))}, ValueError, "has 17 tokens; the layout has"),
        ({"layout": TokenLayout("nchw")}, ValueError, "layout 'nchw' has 4 axes"),
    ],
)  # fmt: skip
def test_nib_checks_its_arguments(vit, arguments, error, message):
    model, _, x = vit
    nib = NIB(model, "blocks.2")
    if error is None:
        assert nib.attribute(x, target=1, **arguments).shape == (3, 17)
        return
    with pytest.raises(error, match=message):
        nib.attribute(x, target=1, **arguments)


@pytest.mark.parametrize(
    ("method", "arguments", "error", "message"),
    [
        (IBA, {"baselines": 0}, TypeError, "baselines must be a batch of reference inputs"),
        (IBA, {"baselines": torch.rand(1, 3, 16, 16)}, ValueError, r"hold 1 reference input"),
        (IBA, {"baselines": (torch.rand(4, 3, 16, 16),) * 3}, ValueError, "hold 3 tensors"),
        (IBA, {"baselines": ActivationStatistics()}, ValueError, "no statistics for layer"),
        (IBA, {"beta": -1.0}, ValueError, "beta must be finite and not negative"),
        (IBA, {"min_std": 0.0}, ValueError, "min_std must be positive"),
        (IBA, {"smoothing": "much"}, ValueError, "smoothing must be a number"),
        (IBA, {"seed": 0.5}, TypeError, "seed must be an int"),
        (
            CoIBA,
            {"compression": "none"},
            ValueError,
            'compression must be "upper_bound" or "layerwise"',
        ),
        (CoIBA, {"damping": "both"}, ValueError, 'damping must be "shared" or "individual"'),
        (CoIBA, {"channel": "half"}, ValueError, 'channel must be "uniform" or "elementwise"'),
        (CoIBA, {"beta": (1.0, 2.0, 3.0)}, ValueError, "3 values of beta for 2 layers"),
    ],
)
def test_bottleneck_methods_check_their_arguments(vit, method, arguments, error, message):
    model, _, x = vit
    layers = "blocks.2" if method is IBA else ["blocks.1.norm1", "blocks.2.norm1"]
    with pytest.raises(error, match=message):
        method(model, layers).attribute(x, target=1, n_steps=2, **arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"inputs": torch.rand(3, 3, 16, 16)}, TypeError, "must be a pair"),
        ({"target": 1}, ValueError, "target must be None, given 1"),
        ({"prior": "other"}, ValueError, 'prior must be "standard" or "estimated"'),
        ({"variance": 0.0}, ValueError, "variance must be positive"),
        ({"beta": (1.0, 2.0, 3.0)}, ValueError, "beta must be one value or one per tower"),
        ({"baselines": torch.rand(4, 3)}, TypeError, "reference pairs must be tuples"),
    ],
)
def test_m2ib_checks_its_arguments(arguments, error, message):
    subject = SUBJECTS["clip"]()
    arguments = {"inputs": subject.inputs, "additional_forward_args": subject.extra, **arguments}
    with pytest.raises(error, match=message):
        M2IB(subject.model, subject.layers).attribute(n_steps=2, **arguments)


def test_m2ib_estimated_prior_reads_references_of_either_length():
    subject = SUBJECTS["clip"]()
    method = M2IB(subject.model, subject.layers)
    options = {"additional_forward_args": subject.extra, "seed": 0, "n_steps": 3}
    ids = torch.tensor([[18, 3, 4, 5, 2, 19, 0], [18, 7, 7, 19, 0, 0, 0], [18, 1, 19, 0, 0, 0, 0]])
    references = (torch.rand(6, 3, 16, 16), ids, (ids != 0).long())
    found = method.attribute(subject.inputs, references, prior="estimated", **options)
    method.estimate([references])
    again = method.attribute(subject.inputs, prior="estimated", **options)
    standard = method.attribute(subject.inputs, **options)
    for one, other, plain in zip(found, again, standard, strict=True):
        assert torch.equal(one, other)
        assert not torch.allclose(one, plain)


def test_plain_functions_need_a_layer_as_a_module(vit):
    model, _, x = vit
    with pytest.raises(ValueError, match="pass the layer as a module"):
        IBA(lambda v: model(v))
    with pytest.raises(ValueError, match="forward_func is a plain function"):
        IBA(lambda v: model(v), "blocks.2")
    layout = TokenLayout("tokens", 1, (4, 4))
    options = {"target": 1, "seed": 0, "n_steps": 3}
    found = IBA(lambda v: model(v), model.blocks[2]).attribute(x, layout=layout, **options)
    assert torch.equal(found, IBA(model, "blocks.2").attribute(x, **options))
