"""The contract that every comparator keeps: one table of methods × models; a new one is a row."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from captum.attr import LayerAttribution, NoiseTunnel
from captum.metrics import sensitivity_max

from captum_ib import baselines
from tests.attr.cases import SUBJECTS, Subject, maps
from tests.attr.test_contract import Interrupting, same_state, state

ATTENTION = ("vit", "hf_vit", "clip")
ANY = ("vit", "hf_vit", "resnet", "clip")


@dataclass(frozen=True)
class Method:
    """How a comparator is called in the table, and what is said of its results."""

    subjects: tuple[str, ...]
    settings: dict = field(default_factory=dict)
    signed: bool = False
    random: bool = False  # takes a seed
    map: str = "grid"  # "grid": of the layer; "pixels": one value per pixel; "input": its shape
    classless: bool = False  # does not depend on the target
    half: float = 0.9  # least correlation between half and single precision


METHODS = {
    "AttentionGradCAM": Method(ATTENTION, {"relu_attributions": False}, signed=True),
    "AttentionRollout": Method(ATTENTION, classless=True),
    "AttnLRP": Method(("vit", "hf_vit", "clip"), signed=True, map="input"),
    "AttnLRP-cp": Method(("vit", "clip"), {"attention": "cp"}, signed=True, map="input"),
    "BeyondIntuition": Method(ATTENTION, {"n_steps": 3}),
    "BeyondIntuition-token": Method(ATTENTION, {"n_steps": 3, "variant": "token"}),
    "CLIPSurgery": Method(("clip",), signed=True),
    "ExCLIP": Method(("clip",), {"n_steps": 2}, signed=True),
    "FIxLIP": Method(("clip",), {"n_masks": 24}, signed=True, random=True),
    "FastIG": Method(ANY, signed=True, map="input"),
    "GenericAttention": Method(ATTENTION),
    "GradECLIP": Method(ATTENTION, signed=True),
    "GradECLIP-paper": Method(
        ("vit", "clip"), {"relu_attributions": True, "start_layer": -2, "joined_heads": True}
    ),
    "IIA": Method(ATTENTION, {"n_steps": 2}),
    "IIA-3": Method(ATTENTION, {"n_steps": 2, "n_integrals": 3}),
    "KernelSHAP": Method(ANY, {"n_samples": 24, "grid": 3}, signed=True, random=True, map="pixels"),
    "LayerGradCAM": Method((*ANY, "swin"), signed=True),
    "LeGrad": Method(ATTENTION),
    "LeGrad-mean": Method(("vit", "clip"), {"pooling": "mean", "start_layer": -2}),
    "LibraGrad": Method(ATTENTION, signed=True),
    "LibraGrad-plain": Method(("vit",), {"libra": False, "method": "fullgrad"}, signed=True),
    "MFABA": Method(ANY, {"n_steps": 3}, signed=True, map="input"),
    "MaskCLIP": Method(("clip",), signed=True),
    "MaskCLIP-keys": Method(("clip",), {"key_similarity": True}, signed=True),
    # Signed where the score is a cosine similarity, which may be negative.
    "RISE": Method(ANY, {"n_masks": 20, "grid": 3}, signed=True, random=True, map="pixels"),
    "Saliency": Method(ANY, map="input"),
    "ScoreCAM": Method((*ANY, "swin"), {"relu_attributions": False}, signed=True),
    "TokenTM": Method(ATTENTION),
    "SobolAttribution": Method(ANY, {"n_designs": 4, "grid": 2}, random=True, map="pixels"),
    # Its shares are divided by products that come close to 0.
    "TransformerAttribution": Method(("vit", "hf_vit"), half=0.6),
    "ViTCX": Method(ANY, signed=True, random=True, map="pixels"),
}


@dataclass(frozen=True)
class Case:
    """One row of the table: a method on a model."""

    name: str
    method: Method
    subject: Subject
    model: Any = None

    def build(self) -> Any:
        model = self.subject.model if self.model is None else self.model
        return getattr(baselines, self.name.partition("-")[0])(model)

    def attribute(self, instance: Any, inputs: Any = None, **kwargs: Any) -> Any:
        settings = {
            "target": self.subject.target,
            "additional_forward_args": self.subject.extra,
            **({"seed": 0} if self.method.random else {}),
            **self.method.settings,
            **kwargs,
        }
        return instance.attribute(self.subject.inputs if inputs is None else inputs, **settings)

    def shapes(self) -> tuple:
        """Of the results: the grid's where it is known, ``None`` where it is the layer's own."""
        inputs = maps(self.subject.inputs)
        if self.method.map == "input" and not self.subject.pair:
            return (tuple(inputs[0].shape),)
        if self.method.map != "grid":
            image = (3, 1, *inputs[0].shape[2:])
            return (image, tuple(inputs[1].shape)) if self.subject.pair else (image,)
        if self.subject.pair:
            return self.subject.shape
        return (self.subject.shape if self.subject.shape[2] == 4 else None,)


def table(methods: Callable[[Method], bool] = lambda method: True, pair: bool | None = None) -> Any:
    """Parametrise ``case`` over the table."""
    rows = []
    for name, method in METHODS.items():
        for subject in method.subjects:
            case = Case(name, method, SUBJECTS[subject]())
            if methods(method) and pair in (None, case.subject.pair):
                rows.append(pytest.param(case, id=f"{name}-{subject}"))
    return pytest.mark.parametrize("case", rows)


@pytest.fixture
def untouched(request):
    """Compares the case's model before and after the test."""
    case: Case = request.getfixturevalue("case")
    before = state(case.subject.model)
    yield
    assert same_state(before, state(case.subject.model))


def test_the_table_is_complete():
    assert {name.partition("-")[0] for name in METHODS} == set(baselines.__all__) - {"libra"}


@table()
@pytest.mark.usefixtures("untouched")
def test_shape_and_sign(case):
    result = maps(case.attribute(case.build()))
    assert len(result) == len(case.shapes())
    for value, shape in zip(result, case.shapes(), strict=True):
        assert shape is None or tuple(value.shape) == shape
        assert torch.isfinite(value).all()
        assert value.dtype == torch.float32
        assert not value.requires_grad
        assert case.method.signed or value.min() >= 0
        assert value.std() > 0
    if case.method.map == "grid":
        up = LayerAttribution.interpolate(result[0], (20, 24), "bilinear")
        assert up.shape == (3, 1, 20, 24)
    if case.subject.pair:
        assert (result[1][case.subject.extra == 0] == 0).all()


@table(pair=False)
@pytest.mark.usefixtures("untouched")
def test_every_form_of_target(case):
    instance = case.build()
    whole = case.attribute(instance, target=1)
    for target in (torch.tensor(1), torch.tensor([1, 1, 1]), [1, 1, 1], (1,), [(1,), (1,), (1,)]):
        assert torch.equal(case.attribute(instance, target=target), whole)
    mixed = case.attribute(instance, target=[1, 0, 1])
    other = case.attribute(instance, target=0)
    assert torch.allclose(mixed[::2], whole[::2], rtol=1e-4, atol=1e-6)
    assert torch.allclose(mixed[1], other[1], rtol=1e-4, atol=1e-6)
    assert torch.allclose(whole, other) == case.method.classless


@table(pair=False)
@pytest.mark.usefixtures("untouched")
def test_tuple_in_tuple_out(case):
    instance = case.build()
    result = case.attribute(instance, (case.subject.inputs,))
    assert isinstance(result, tuple)
    assert torch.equal(result[0], case.attribute(instance))


@table()
@pytest.mark.usefixtures("untouched")
def test_samples_do_not_influence_each_other(case):
    instance, inputs = case.build(), case.subject.inputs
    whole = maps(case.attribute(instance))
    part = slice(1, 2)
    one = tuple(v[part] for v in inputs) if isinstance(inputs, tuple) else inputs[part]
    extra = None if case.subject.extra is None else case.subject.extra[part]
    single = maps(case.attribute(instance, one, additional_forward_args=extra))
    for together, alone in zip(whole, single, strict=True):
        scale = together.abs().max()
        assert torch.allclose(together[part] / scale, alone / scale, rtol=1e-4, atol=1e-4)


@table()
@pytest.mark.usefixtures("untouched")
def test_batch_sizes_do_not_change_the_result(case):
    instance = case.build()
    whole = maps(case.attribute(instance))
    layer = case.name in ("FIxLIP", "KernelSHAP", "RISE", "ScoreCAM", "SobolAttribution", "ViTCX")
    size = {"perturbations_per_eval": 3} if layer else {"internal_batch_size": 2}
    for one, other in zip(whole, maps(case.attribute(instance, **size)), strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=2e-5)
    name = next(iter(size))
    with pytest.raises(ValueError, match=f"{name} must be at least 1, given 0"):
        case.attribute(instance, **{name: 0})
    with pytest.raises(TypeError, match=f"{name} must be an int, given float"):
        case.attribute(instance, **{name: 2.0})


@table(lambda method: method.random)
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


@table(lambda method: not method.random)
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
    settings = {"target": 1, **({"seed": 0} if case.method.random else {}), **case.method.settings}
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


@table()
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_the_model_comes_back_when_a_layer_raises(case, error):
    model = copy.deepcopy(case.subject.model)
    core = model.model if case.subject.pair else model
    linear = [
        (name, module)
        for name, module in core.named_modules()
        if isinstance(module, torch.nn.Linear)
    ]
    name, last = linear[-1]
    parent = core.get_submodule(name.rpartition(".")[0]) if "." in name else core
    interrupting = Interrupting(last, error)
    interrupting.calls = 2 if not case.subject.pair else 0
    setattr(parent, name.rpartition(".")[2], interrupting)
    if case.subject.pair:
        model = type(model).from_model(core)
        interrupting.calls = 1  # the pair's embeddings come first
    before = state(model)
    broken = Case(case.name, case.method, case.subject, model)
    with pytest.raises(error, match="third call"):
        broken.attribute(broken.build())
    assert same_state(before, state(model))


@table(lambda method: not method.classless, pair=False)
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


@table(pair=True)
def test_pairs_take_no_target(case):
    with pytest.raises(ValueError, match="target must be None, given 1"):
        case.attribute(case.build(), target=1)


@table()
@pytest.mark.usefixtures("untouched")
def test_nan_and_wrong_inputs_are_named(case):
    instance, inputs = case.build(), case.subject.inputs
    value = (inputs[0] if case.subject.pair else inputs).clone()
    value.view(-1)[0] = float("nan")
    with pytest.raises(ValueError, match="holds 1 NaN or infinite value"):
        case.attribute(instance, (value, inputs[1]) if case.subject.pair else value)
    with pytest.raises(TypeError, match=r"must be a (pair|tensor)|given list"):
        case.attribute(instance, [value])


@table()
@pytest.mark.usefixtures("untouched")
def test_nan_inside_the_model_never_comes_out(case):
    model = copy.deepcopy(case.subject.model)
    next(p for p in reversed(list(model.parameters())) if p.ndim > 1).data.fill_(float("nan"))
    broken = Case(case.name, case.method, case.subject, model)
    with pytest.raises(ValueError, match="NaN or infinite|has no gradient"):
        broken.attribute(broken.build())


@table()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_close_to_single(case, dtype):
    model = copy.deepcopy(case.subject.model).to(dtype)
    inputs = case.subject.inputs
    cast = tuple(v.to(dtype) if v.is_floating_point() else v for v in maps(inputs))
    half = Case(case.name, case.method, case.subject, model)
    found = maps(half.attribute(half.build(), cast if case.subject.pair else cast[0]))
    for one, other in zip(maps(case.attribute(case.build())), found, strict=True):
        assert other.dtype == torch.float32
        assert torch.isfinite(other).all()
        pair = torch.stack([one.flatten(), other.flatten()])
        assert torch.corrcoef(pair)[0, 1] > case.method.half


@table()
@pytest.mark.usefixtures("untouched")
def test_autocast(case):
    instance = case.build()
    with torch.autocast("cpu", torch.bfloat16):
        assert all(torch.isfinite(value).all() for value in maps(case.attribute(instance)))


@table()
def test_names(case):
    assert case.build().get_name() == case.name.partition("-")[0]
