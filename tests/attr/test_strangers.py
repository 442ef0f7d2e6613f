"""What strangers bring: models written in other ways have the maps of the plain one, or are refused
with what to type."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint

from captum_ib import IBA, NIB, RISE, CoIBA, LayerGradCAM, ScoreCAM, TokenLayout

X = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
METHODS: list[Any] = [IBA, CoIBA, NIB]
EAGER: Any = partial(torch.compile, backend="eager")


class Net(nn.Module):
    """Two convolutions and a head; large weights, so that every layer matters."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.c1, self.c2 = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.f = nn.Linear(6 * 64, 5)
        for parameter in self.parameters():
            parameter.data *= 2
        self.eval()

    def features(self, x: Tensor) -> Tensor:
        return F.relu(self.c2(F.relu(self.c1(x))))

    def forward(self, x: Any) -> Any:
        return self.f(self.features(x).flatten(1))


def returning(form: Callable[[Tensor], Any]) -> Net:
    """The net with its logits in another form."""

    class Returning(Net):
        def forward(self, x: Any) -> Any:
            return form(super().forward(x))

    return Returning()


def taking(before: Callable[[Tensor], Tensor]) -> Net:
    """The net behind something else."""

    class Taking(Net):
        def forward(self, x: Any) -> Any:
            return super().forward(before(x))

    return Taking()


def between(function: Callable[[Net, Tensor], Tensor]) -> Net:
    """The net with something else between its convolutions."""

    class Between(Net):
        def features(self, x: Tensor) -> Tensor:
            return F.relu(self.c2(function(self, F.relu(self.c1(x)))))

    return Between()


def attributed(method: Any, model: Any, layer: Any = "c1", x: Tensor = X, **options: Any) -> Tensor:
    settings = {"target": 1, **options}
    if method is not NIB:
        settings = {"n_steps": 6, "n_samples": 2, "seed": 0, **settings}
    return method(model, layer).attribute(x, **settings)


def with_parametrised(change: Callable[[Net], object]) -> Net:
    net = Net()
    change(net)
    return net


def with_weights_of(other: Net) -> Net:
    """A plain net with the weights that the other one computes with."""
    net = Net()
    other = copy.deepcopy(other).eval()
    for name in ("c1", "c2"):
        getattr(net, name).weight.data = getattr(other, name).weight.detach().clone()
    return net


@dataclass(slots=True)
class Slots:
    scores: Tensor
    count: int


class Unregistered(nn.Module):
    """Calls a model that it does not have as a submodule; left in training mode."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.nets = [net.train()]

    def forward(self, x: Tensor) -> Tensor:
        return self.nets[0](x)


class Dropping(Net):
    """Functional dropout that follows the flag."""

    def features(self, x: Tensor) -> Tensor:
        return F.dropout(super().features(x), 0.5, self.training)


class Stuck(Net):
    """Its dropout is switched on by ``eval()`` as well."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.eval()

    def train(self, mode: bool = True) -> Stuck:
        for module in self.modules():
            module.training = mode or isinstance(module, nn.Dropout)
        return self

    def features(self, x: Tensor) -> Tensor:
        return self.drop(super().features(x))


class Subclass(Tensor):
    pass


def function_of(wrap: Callable[[Net], Callable[..., Any]]) -> tuple[Any, Any]:
    """A function of a net, with the layer as a module."""
    net = Net()
    return wrap(net), net.c1


class Written(Net):
    """Writes the layer's output."""

    def features(self, x: Tensor) -> Tensor:
        h = self.c1(x)
        h[:, :, 0] = 0
        return F.relu(self.c2(F.relu_(h)))


FORMS: dict[str, Callable[[], Any]] = {
    "dataclass with slots": lambda: returning(lambda z: Slots(z, 5)),
    "a tuple of one": lambda: returning(lambda z: (z,)),
    "nested tuple": lambda: returning(lambda z: ((z, None), {"loss": z.mean()})),
    "weight norm": lambda: with_parametrised(lambda n: parametrizations.weight_norm(n.c2)),
    "parametrised layer": lambda: with_parametrised(
        lambda n: nn.utils.parametrize.register_parametrization(n.c1, "weight", nn.Identity())
    ),
    "channels last": lambda: Net().to(memory_format=torch.channels_last),  # pyright: ignore
    "torch.fx": lambda: torch.fx.symbolic_trace(Net()),
    "a part compiled": lambda: with_parametrised(lambda n: n.c2.compile(backend="eager")),
    "reentrant checkpoint": lambda: between(
        lambda n, h: checkpoint(torch.clone, h, use_reentrant=True)
    ),
    "checkpoint": lambda: between(lambda n, h: checkpoint(torch.clone, h, use_reentrant=False)),
    "Fourier there and back": lambda: taking(lambda x: torch.fft.ifft2(torch.fft.fft2(x)).real),
    "numpy in front": lambda: taking(lambda x: torch.from_numpy(x.numpy().copy())),
    "input written": lambda: taking(lambda x: x.mul_(2).div_(2)),
    "dropout by the flag": lambda: Dropping().train(),
    "dropout that eval() leaves on": Stuck,
}


@pytest.mark.filterwarnings("ignore:the model.* is in training mode, in which .* Dropout answers")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", METHODS)
def test_a_model_in_another_form_has_the_map_of_the_plain_one(form: str, method: Any) -> None:
    found = attributed(method, FORMS[form]())
    torch.testing.assert_close(found, attributed(method, Net()), rtol=1e-4, atol=1e-6)


WRAPPED: dict[str, Callable[[], tuple[Any, Any]]] = {
    "lambda": lambda: function_of(lambda n: lambda x: n(x)),
    "bound forward": lambda: function_of(lambda n: n.forward),
    "partial in training mode": lambda: function_of(lambda n: partial(n.train().forward)),
    "compiled forward": lambda: function_of(lambda n: EAGER(n.forward)),
    "compiled lambda": lambda: function_of(lambda n: EAGER(lambda x: n(x))),
    "functional_call": lambda: function_of(
        lambda n: lambda x: functional_call(n, dict(n.named_parameters()), (x,))
    ),
    "not a submodule": lambda: function_of(lambda n: partial(Unregistered(n).__call__)),
    "DataParallel": lambda: (nn.DataParallel(Net()), "module.c1"),
    "AveragedModel": lambda: (AveragedModel(Net()), "module.c1"),
    "compiled": lambda: (EAGER(Net()), "_orig_mod.c1"),
}


@pytest.mark.filterwarnings("ignore:Using `torch.compile")
@pytest.mark.parametrize("wrapped", WRAPPED)
@pytest.mark.parametrize("method", METHODS)
def test_a_wrapped_model_has_the_map_of_the_plain_one(wrapped: str, method: Any) -> None:
    found = attributed(method, *WRAPPED[wrapped]())
    torch.testing.assert_close(found, attributed(method, Net()), rtol=1e-4, atol=1e-6)


INPUTS: dict[str, Tensor] = {
    "tensor subclass": X.as_subclass(Subclass),
    "requires grad": X.clone().requires_grad_(),
    "channels last": X.contiguous(memory_format=torch.channels_last),
    "turned around": X.transpose(2, 3).contiguous().transpose(2, 3),
}


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("method", METHODS)
def test_inputs_of_another_kind_have_the_same_map(kind: str, method: Any) -> None:
    found = attributed(method, Net(), x=INPUTS[kind])
    assert type(found) is Tensor and not found.requires_grad
    torch.testing.assert_close(found, attributed(method, Net()), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_double_model_a_written_output_and_integers(method: Any) -> None:
    double = attributed(method, Net().double(), x=X.double())
    torch.testing.assert_close(double, attributed(method, Net()), rtol=1e-4, atol=1e-6)
    rows = (torch.arange(8) > 0).float()[None, None, :, None]
    found = attributed(method, Written())
    plain = attributed(method, between(lambda net, h: h * rows))
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-6)
    bytes_ = (X * 255).byte()
    own = taking(lambda x: x.float() / 255)
    as_bytes, as_floats = (attributed(method, own, x=x) for x in (bytes_.long(), bytes_.float()))
    torch.testing.assert_close(as_bytes, as_floats)


@pytest.mark.parametrize("method", METHODS)
def test_weights_that_are_made_are_those_of_the_maps(method: Any) -> None:
    spectral = with_parametrised(lambda n: parametrizations.spectral_norm(n.c2))
    pruned = with_parametrised(lambda n: prune.l1_unstructured(n.c2, "weight", 0.5))
    pruned(X)
    plain = attributed(method, with_weights_of(spectral.eval()))
    before = {name: value.clone() for name, value in spectral.state_dict().items()}
    torch.testing.assert_close(attributed(method, spectral.train()), plain)  # no power iteration
    assert all(torch.equal(value, before[name]) for name, value in spectral.state_dict().items())
    weights = Net()
    weights.c2.weight.data = pruned.c2.weight.detach().clone()
    torch.testing.assert_close(attributed(method, pruned), attributed(method, weights))


@pytest.mark.parametrize("method", [IBA, CoIBA])
def test_probabilities_and_their_logarithms_are_fitted_as_logits_are(method: Any) -> None:
    """A softmax of probabilities is nearly flat, and its fit a hundredth as steep."""
    settings = {"n_steps": 12, "beta": 1e-3}
    plain = attributed(method, Net(), **settings)
    for form in (partial(torch.softmax, dim=1), partial(torch.log_softmax, dim=1)):
        found = attributed(method, returning(form), **settings)
        torch.testing.assert_close(found, plain, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", [RISE, ScoreCAM])
def test_probabilities_are_scored_as_they_are(method: Any) -> None:
    settings = {"n_masks": 8, "grid": 3, "seed": 0} if method is RISE else {}
    layer = () if method is RISE else ("c2",)
    found, plain = (
        method(model, *layer).attribute(X, target=1, **settings)
        for model in (returning(partial(torch.softmax, dim=1)), Net())
    )
    torch.testing.assert_close(found, plain)


@pytest.mark.parametrize("method", METHODS)
def test_a_random_model_is_warned_of(method: Any) -> None:
    noisy = between(lambda net, h: F.dropout(h, 0.5))
    with pytest.warns(RuntimeWarning, match=r"random, although.*F.dropout\(x, p, self.training\)"):
        attributed(method, noisy)


def test_random_numbers_that_change_nothing_are_nothing_to_warn_of() -> None:
    drawn = taking(lambda x: x + 0 * torch.rand(1))
    torch.testing.assert_close(attributed(NIB, drawn), attributed(NIB, Net()))


class Coupled(Net):
    """Normalises with the statistics of the batch, in evaluation mode as well."""

    def __init__(self) -> None:
        super().__init__()
        self.b = nn.BatchNorm2d(6, track_running_stats=False)

    def features(self, x: Tensor) -> Tensor:
        return F.relu(self.b(self.c2(F.relu(self.c1(x)))))


@pytest.mark.filterwarnings("ignore:the model.s b is in training mode, in which a BatchNorm2d")
@pytest.mark.parametrize("method", METHODS)
def test_samples_that_act_on_each_other_are_warned_of(method: Any) -> None:
    """NIB's maps were 45 % off those of the samples alone."""
    with pytest.warns(RuntimeWarning, match="samples act on each other.*one sample at a time"):
        attributed(method, Coupled())


class Lazy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.f = nn.LazyConv2d(6, 3), nn.LazyLinear(5)

    def forward(self, x: Tensor) -> Tensor:
        return self.f(F.relu(self.c1(x)).flatten(1))


class Volume(nn.Module):
    def __init__(self, flat: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.c1, self.f = nn.Conv3d(1, 4, 3, padding=1), nn.Linear(4 * 24, 5)
        self.flat = nn.Flatten(2) if flat else nn.Identity()
        self.back = nn.Unflatten(2, (2, 3, 4)) if flat else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.f(F.relu(self.back(self.flat(self.c1(x)))).flatten(1))


class Deep(Volume):
    """A layer whose activation has six axes."""

    def __init__(self) -> None:
        super().__init__()
        self.deep = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.f(self.deep(self.c1(x).unflatten(1, (2, 2))).flatten(1))


class Nested(nn.Module):
    """A mean over words in a nested tensor, or in a padded one."""

    def __init__(self, nested: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.e, self.d = nn.Embedding(20, 8), nn.Linear(8, 8)
        self.inner, self.h, self.nested = nn.Linear(8, 8), nn.Linear(8, 5), nested

    def forward(self, ids: Tensor) -> Tensor:
        x, keep = self.d(self.e(ids)), ids != 0
        if self.nested:
            words = [row[own] for row, own in zip(x, keep, strict=True)]
            out = self.inner(torch.nested.as_nested_tensor(words, layout=torch.jagged))
            return self.h(torch.stack([row.mean(0) for row in out.unbind()]))
        out = self.inner(x) * keep[..., None]
        return self.h(out.sum(1) / keep.sum(1, keepdim=True))


class OfKeywords(Net):
    def forward(self, *, pixels: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(pixels)


class SequenceFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.e, self.r, self.h = nn.Embedding(20, 8), nn.LSTM(8, 8), nn.Linear(8, 5)

    def forward(self, ids: Tensor) -> Tensor:
        return self.h(self.r(self.e(ids).transpose(0, 1))[0][-1])


IDS = torch.tensor([[3, 7], [5, 2]])
VOLUME = torch.rand(2, 1, 2, 3, 4, generator=torch.Generator().manual_seed(0))
REFUSED: dict[str, tuple[Callable[[], Any], str, Tensor, type[Exception], str]] = {
    "lazy": (Lazy, "c1", X, RuntimeError, r"c1.weight .* no values yet.*forward_func\(inputs\)"),
    "scripted": (lambda: torch.jit.script(nn.Sequential(nn.Conv2d(3, 5, 3))), "0", X, RuntimeError,
                 "before torch.jit.script"),
    "traced": (lambda: torch.jit.trace(Net(), X), "c1", X, RuntimeError, "or torch.jit.trace"),
    "exported": (lambda: torch.export.export(Net(), (X,)).module(), "c1", X, RuntimeError,
                 "layer c1 .* never called; explain the model from before torch.export"),
    "a list of blocks": (lambda: nn.Sequential(nn.ModuleList([Net()])), "0", X, RuntimeError,
                         "layer 0 .ModuleList. .*choose one of those in it, for example 0.0"),
    "a wrapper's layer": (lambda: nn.DataParallel(Net()), "c1", X, ValueError, "module.c1"),
    "complex output": (lambda: returning(lambda z: torch.complex(z, z)), "c1", X, TypeError,
                       r"complex output .*model\(\*args\).abs\(\)"),
    "numpy output": (lambda: returning(lambda z: z.detach().numpy()), "c1", X, TypeError,
                     r"ndarray with no tensor.*without .numpy\(\)"),
    "no output": (lambda: returning(lambda z: None), "c1", X, TypeError, r"keeps its gradient"),
    "four axes": (lambda: returning(lambda z: z[..., None, None]), "c1", X, ValueError,
                  r"needs 3: pass a tuple .*\(class, row, column\)"),
    "one number": (lambda: returning(lambda z: z.sum(1)), "c1", X, ValueError, "target=None"),
    "keywords": (OfKeywords, "c1", X, TypeError, r"lambda x: model\(pixels=x\)"),
    "six axes": (Deep, "deep", VOLUME, ValueError, r"Flatten\(2\).*TokenLayout\('ncl'\)"),
    "nested": (lambda: Nested(True), "inner", IDS, RuntimeError, "a layer before the tensors"),
    "vmap": (lambda: Mapped(), "c1", X, RuntimeError,
             "torch.vmap.*on the whole batch"),
    "sequence first": (SequenceFirst, "r", IDS, ValueError, "forward_func.samples_axis = 1"),
    "several devices": (lambda: parallel([0, 1]), "module.c1", X, ValueError,
                        "pass forward_func.module"),
    "crops in the batch": (lambda: Crops(), "c1",
                           X[:, None].expand(-1, 3, -1, -1, -1), ValueError,
                           "pass these as the samples"),
}  # fmt: skip


class Mapped(Net):
    def forward(self, x: Tensor) -> Tensor:
        return torch.vmap(lambda one: self.f(self.features(one).flatten()))(x)


class Crops(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2]).mean(1)


def parallel(devices: list[int]) -> nn.Module:
    """A DataParallel as on a machine with so many devices."""
    model = nn.DataParallel(Net())
    model.device_ids = devices
    return model


@pytest.mark.filterwarnings("ignore:.*jit.* is deprecated")
@pytest.mark.filterwarnings("ignore:.*nested tensors is in prototype")
@pytest.mark.filterwarnings("ignore:running without replay")
@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("method", METHODS)
def test_what_can_not_be_explained_says_what_to_type(case: str, method: Any) -> None:
    build, layer, x, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        attributed(method, build(), layer, x)


@pytest.mark.parametrize("method", METHODS)
def test_what_the_refusals_advise_works(method: Any) -> None:
    lazy = Lazy().eval()
    lazy(X)
    assert attributed(method, lazy).shape == (2, 1, *((8, 8) if method is NIB else (6, 6)))
    own = {"layout": TokenLayout("ncl"), "attribute_to_layer_input": False}
    assert attributed(method, Volume(True), "flat", VOLUME, **own).shape == (2, 24)
    assert attributed(method, Volume(), "c1", VOLUME).shape == (2, 1, 2, 3, 4)
    keywords = OfKeywords()
    found = attributed(method, lambda x: keywords(pixels=x), keywords.c1)
    torch.testing.assert_close(found, attributed(method, Net()))
    recurrent = SequenceFirst()
    recurrent.samples_axis = 1  # pyright: ignore[reportAttributeAccessIssue]
    three = torch.tensor([[3, 7, 1], [5, 2, 1]])
    assert attributed(method, recurrent, "r", three).shape == (2, 3)


@pytest.mark.filterwarnings("ignore:.*nested tensors is in prototype")
@pytest.mark.parametrize("method", METHODS)
def test_a_layer_before_nested_tensors_has_the_map_of_padded_ones(method: Any) -> None:
    ids = torch.tensor([[3, 7, 4, 9], [5, 2, 0, 0]])
    found, plain = (attributed(method, Nested(nested), "d", ids) for nested in (True, False))
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-6)


def test_other_comparators_read_the_same_forms() -> None:
    plain = LayerGradCAM(Net(), "c2").attribute(X, target=1)
    for form in ("dataclass with slots", "weight norm", "torch.fx", "dropout by the flag"):
        found = LayerGradCAM(FORMS[form](), "c2").attribute(X, target=1)
        torch.testing.assert_close(found, plain)
