"""The contract that every method keeps (one table of methods × models, see cases.py)."""

import copy

import pytest
import torch
from captum.attr import LayerAttribution, NoiseTunnel
from captum.metrics import sensitivity_max

from tests.attr.cases import Case, maps, table


def state(model):
    """Everything of a model that a call must leave as it was."""
    return [
        (
            name,
            len(module._forward_hooks),
            len(module._forward_pre_hooks),
            module.training,
            "forward" in module.__dict__,
            [(p.requires_grad, p.grad is None) for p in module.parameters(recurse=False)],
            [buffer.clone() for buffer in module.buffers(recurse=False)],
        )
        for name, module in model.named_modules()
    ]


def same_state(one, other):
    return all(
        a[:-1] == b[:-1] and all(torch.equal(x, y) for x, y in zip(a[-1], b[-1], strict=True))
        for a, b in zip(one, other, strict=True)
    )


@pytest.fixture
def untouched(request):
    """Compares the case's model before and after the test."""
    case: Case = request.getfixturevalue("case")
    before = state(case.subject.model)
    yield
    assert same_state(before, state(case.subject.model))


@table(modes=True)
@pytest.mark.usefixtures("untouched")
def test_shape_and_sign(case):
    result = maps(case.attribute(case.build()))
    expected = case.shape if case.subject.pair else (case.shape,)
    assert tuple(tuple(value.shape) for value in result) == expected
    for value in result:
        assert torch.isfinite(value).all()
        assert value.dtype == torch.float32
        assert not value.requires_grad
        assert case.method.signed or value.min() >= 0
        assert value.std() > 0
    if len(expected[0]) == 4:
        up = LayerAttribution.interpolate(result[0], (20, 24), "bilinear")
        assert up.shape == (3, 1, 20, 24)


@table(pair=False)
@pytest.mark.usefixtures("untouched")
def test_every_form_of_target(case):
    instance = case.build()
    whole = case.attribute(instance, target=1)
    for target in (torch.tensor(1), torch.tensor([1, 1, 1]), [1, 1, 1], (1,), [(1,), (1,), (1,)]):
        assert torch.equal(case.attribute(instance, target=target), whole)
    mixed = case.attribute(instance, target=[1, 0, 1])
    assert torch.allclose(mixed[::2], whole[::2], rtol=1e-4, atol=1e-6)
    assert torch.allclose(mixed[1], case.attribute(instance, target=0)[1], rtol=1e-4, atol=1e-6)


@table(pair=False)
@pytest.mark.usefixtures("untouched")
def test_tuple_in_tuple_out(case):
    instance = case.build()
    result = case.attribute(instance, (case.subject.inputs,))
    assert isinstance(result, tuple)
    assert torch.equal(result[0], case.attribute(instance))


@table()
@pytest.mark.usefixtures("untouched")
def test_layer_shaped_without_the_channel_sum(case):
    if len(getattr(case.build(), "layers", [])) > 1 and not case.subject.pair:
        shapes = {tuple(v.shape) for v in maps(case.attribute(case.build(), reduce="none"))}
        assert len(shapes) == 1
        return
    instance = case.build()
    full = maps(case.attribute(instance, reduce="none"))
    for values, reduced in zip(full, maps(case.attribute(instance)), strict=True):
        assert values.numel() >= reduced.numel()
        assert values.shape[0] == 3


@table(modes=True)
@pytest.mark.usefixtures("untouched")
def test_samples_do_not_influence_each_other(case):
    instance, inputs = case.build(), case.subject.inputs
    whole = maps(case.attribute(instance))
    for index in range(3):
        part = slice(index, index + 1)
        one = tuple(v[part] for v in inputs) if isinstance(inputs, tuple) else inputs[part]
        extra = None if case.subject.extra is None else case.subject.extra[part]
        single = maps(case.attribute(instance, one, additional_forward_args=extra))
        for together, alone in zip(whole, single, strict=True):
            assert torch.allclose(together[part], alone, rtol=1e-4, atol=2e-5)


@table(modes=True)
@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("size", [1, 4])
def test_internal_batch_size_does_not_change_the_result(case, size):
    instance = case.build()
    whole = maps(case.attribute(instance))
    parts = maps(case.attribute(instance, internal_batch_size=size))
    for one, other in zip(whole, parts, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=2e-5)


@table(modes=True)
@pytest.mark.usefixtures("untouched")
def test_replay_does_not_change_the_result(case):
    instance = case.build()
    replayed = maps(case.attribute(instance))
    for one, other in zip(replayed, maps(case.attribute(instance, replay=False)), strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=2e-5)


@table(random=True)
@pytest.mark.usefixtures("untouched")
def test_seeds(case):
    instance = case.build()
    torch.manual_seed(5)
    expected = torch.rand(())
    torch.manual_seed(5)
    first = maps(case.attribute(instance, seed=3))
    assert torch.rand(()) == expected, "a given seed must leave the global generator alone"
    assert all(map(torch.equal, first, maps(case.attribute(instance, seed=3))))
    assert not all(map(torch.equal, first, maps(case.attribute(instance, seed=4))))
    torch.manual_seed(6)
    unseeded = maps(case.attribute(instance, seed=None))
    torch.manual_seed(6)
    assert all(map(torch.equal, unseeded, maps(case.attribute(instance, seed=None))))


@table(random=False)
def test_without_noise_runs_are_bit_identical(case):
    instance = case.build()
    assert all(map(torch.equal, maps(case.attribute(instance)), maps(case.attribute(instance))))


@table()
@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_off(case, context):
    instance = case.build()
    expected = maps(case.attribute(instance))
    with context():
        found = maps(case.attribute(instance))
    assert all(map(torch.equal, expected, found))


@table(pair=False)
@pytest.mark.usefixtures("untouched")
def test_noise_tunnel(case):
    # Captum's noise comes from torch's own generator: one draw after another, for each sample.
    instance, inputs = case.build(), case.subject.inputs
    drawn = {"seed": 0, "n_steps": 3, "n_samples": 2} if case.method.random else {}
    settings = {"target": 1, **drawn, **case.method.settings}
    torch.manual_seed(0)
    found = NoiseTunnel(instance).attribute(inputs, nt_samples=2, stdevs=0.1, **settings)
    torch.manual_seed(0)
    repeated = inputs.repeat_interleave(2, dim=0)
    noisy = torch.normal(repeated, torch.full_like(repeated, 0.1))
    each = [case.attribute(instance, noisy[draw::2]) for draw in range(2)]
    torch.testing.assert_close(found, torch.stack(each).mean(dim=0), rtol=1e-3, atol=1e-4)


@table(pair=False)
@pytest.mark.usefixtures("untouched")
def test_sensitivity_max(case):
    instance, inputs = case.build(), case.subject.inputs

    def explain(inputs, **kwargs):  # Captum calls with a tuple and expects one back
        return case.attribute(instance, inputs, **kwargs)

    def moved(inputs, radius):
        return inputs + radius

    score = sensitivity_max(
        explain, inputs, moved, perturb_radius=0.02, n_perturb_samples=2, target=1
    )
    plain, other = case.attribute(instance), case.attribute(instance, inputs + 0.02)
    change = (other - plain).flatten(1).norm(dim=1)
    expected = change / plain.flatten(1).norm(dim=1)
    torch.testing.assert_close(score, expected, rtol=1e-3, atol=1e-4)


class Interrupting(torch.nn.Module):
    """Stands in for a layer and raises in its third call."""

    def __init__(self, inner, error):
        super().__init__()
        self.inner, self.error, self.calls = inner, error, 0

    def forward(self, *args, **kwargs):
        self.calls += 1
        if self.calls == 3:
            raise self.error("third call")
        return self.inner(*args, **kwargs)


@table()
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_the_model_comes_back_when_a_layer_raises(case, error):
    model = copy.deepcopy(case.subject.model)
    core = model.model if case.subject.pair else model
    name, last = [
        (name, module)
        for name, module in core.named_modules()
        if isinstance(module, torch.nn.Linear)
    ][-1]
    parent = core.get_submodule(name.rpartition(".")[0]) if "." in name else core
    setattr(parent, name.rpartition(".")[2], Interrupting(last, error))
    if case.subject.pair:
        model = type(model).from_model(core)
    before = state(model)
    subject = copy.copy(case.subject)
    object.__setattr__(subject, "model", model)
    broken = Case(case.method, subject)
    with pytest.raises(error, match="third call"):
        broken.attribute(broken.build())
    assert same_state(before, state(model))


@table(pair=False)
@pytest.mark.usefixtures("untouched")
def test_wrong_targets(case):
    instance = case.build()
    for target, error, message in [
        (99, ValueError, "target out of range: given 99"),
        ([0, 1], ValueError, "2 targets for 3 samples"),
        (None, ValueError, "target is None, but the model gives"),
        (0.5, TypeError, "target must be an int"),
        ((0, 0), ValueError, "2 indices per sample"),
    ]:
        with pytest.raises(error, match=message):
            case.attribute(instance, target=target)


@table()
@pytest.mark.usefixtures("untouched")
def test_nan_and_wrong_inputs_are_named(case):
    instance, inputs = case.build(), case.subject.inputs
    value = (inputs[0] if case.subject.pair else inputs).clone()
    value[0].flatten()[0] = float("nan")
    value.view(-1)[0] = float("nan")
    with pytest.raises(ValueError, match="holds 1 NaN or infinite value"):
        case.attribute(instance, (value, inputs[1]) if case.subject.pair else value)
    with pytest.raises(TypeError, match=r"must be a (pair|tensor)|given list"):
        case.attribute(instance, [value])


@table(pair=False)
@pytest.mark.usefixtures("untouched")
def test_nan_activations_name_the_layer(case):
    model = copy.deepcopy(case.subject.model)
    subject = copy.copy(case.subject)
    object.__setattr__(subject, "model", model)
    broken = Case(case.method, subject)
    instance = broken.build()
    for parameter in instance.layers[0][1].parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="activation of layer .* holds"):
        broken.attribute(instance)


@table(random=True)
@pytest.mark.usefixtures("untouched")
def test_extreme_alpha_stays_finite(case):
    for result in maps(case.attribute(case.build(), lr=40.0, beta=1e-6, n_steps=4)):
        assert torch.isfinite(result).all()


@table()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_close_to_single(case, dtype):
    model = copy.deepcopy(case.subject.model).to(dtype)
    inputs = case.subject.inputs
    cast = tuple(v.to(dtype) if v.is_floating_point() else v for v in maps(inputs))
    subject = copy.copy(case.subject)
    object.__setattr__(subject, "model", model)
    half = Case(case.method, subject)
    found = maps(half.attribute(half.build(), cast if case.subject.pair else cast[0]))
    for one, other in zip(maps(case.attribute(case.build())), found, strict=True):
        assert other.dtype == torch.float32
        pair = torch.stack([one.flatten(), other.flatten()])
        assert torch.corrcoef(pair)[0, 1] > case.method.half


@table()
@pytest.mark.usefixtures("untouched")
def test_autocast(case):
    instance = case.build()
    expected = maps(case.attribute(instance))
    with torch.autocast("cpu", torch.bfloat16):
        found = maps(case.attribute(instance))
    for one, other in zip(expected, found, strict=True):
        assert torch.isfinite(other).all()
        pair = torch.stack([one.flatten(), other.flatten()])
        assert torch.corrcoef(pair)[0, 1] > case.method.half


@table()
def test_deterministic_algorithms(case):
    torch.use_deterministic_algorithms(True)
    try:
        assert all(torch.isfinite(v).all() for v in maps(case.attribute(case.build())))
    finally:
        torch.use_deterministic_algorithms(False)


@table()
def test_names(case):
    assert case.build().get_name() == type(case.build()).__name__


@table()
@pytest.mark.usefixtures("untouched")
def test_unknown_layer_lists_the_nearest(case):
    subject = copy.copy(case.subject)
    object.__setattr__(subject, "layers", [name + "x" for name in case.subject.layers])
    near = case.subject.layers[0].replace(".", r"\.")
    with pytest.raises(ValueError, match=f"has no layer .* nearest names: .*{near}"):
        Case(case.method, subject).build()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@table()
def test_cuda_is_close_to_cpu(case):
    model = copy.deepcopy(case.subject.model).cuda()
    subject = copy.copy(case.subject)
    object.__setattr__(subject, "model", model)
    moved = Case(case.method, subject)
    inputs = tuple(v.cuda() for v in maps(case.subject.inputs))
    extra = None if case.subject.extra is None else case.subject.extra.cuda()
    settings = {"n_samples": 64} if case.method.random else {}  # the streams differ by device
    found = maps(
        moved.attribute(
            moved.build(),
            inputs if case.subject.pair else inputs[0],
            additional_forward_args=extra,
            **settings,
        )
    )
    expected = maps(case.attribute(case.build(), **settings))
    for one, other in zip(expected, found, strict=True):
        pair = torch.stack([one.flatten(), other.cpu().flatten()])
        assert torch.corrcoef(pair)[0, 1] > 0.99
