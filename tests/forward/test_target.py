"""What is explained: which tensor of an output, along which axis, and whether a gradient can."""

from __future__ import annotations

import copy
from collections import OrderedDict, namedtuple
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForMaskedLM, BertForTokenClassification

import captum_ib
from captum_ib import IBA, NIB, RISE, CoIBA, LayerGradCAM
from captum_ib.forward import (
    cross_entropy,
    cross_entropy_at,
    output_tensor,
    prepare,
    probabilities,
)
from tests.attr.cases import clip, vit

X = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def head(outputs: int = 5) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(384, outputs)
    ).eval()


def tags(cls, **settings):
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        vocab_size=50, **settings,
    )  # fmt: skip
    return cls(config).eval()


class Returning(nn.Module):
    """A net whose logits come back in some form, beside its features and a loss."""

    def __init__(self, form):
        super().__init__()
        torch.manual_seed(0)
        self.c, self.f, self.form = nn.Conv2d(3, 6, 3), nn.Linear(6, 5), form

    def forward(self, x):
        features = torch.relu(self.c(x)).mean((2, 3))
        return self.form(self.f(features), features)


Named = namedtuple("Named", ["features", "logits"])


@pytest.mark.parametrize(
    "form",
    [
        lambda z, h: {"features": h, "logits": z},
        lambda z, h: {"loss": z.mean(), "logits": z},
        lambda z, h: OrderedDict(out=z, loss=z.mean(), label=z.argmax(1)),
        lambda z, h: Named(h, z),
        lambda z, h: SimpleNamespace(features=h, logits=z),
        lambda z, h: SimpleNamespace(loss=h.mean(), scores=z),
        lambda z, h: (z.mean(), z),
        lambda z, h: [z, None],
    ],
)
@pytest.mark.parametrize("n", [1, 2])
def test_logits_are_explained_wherever_they_stand(form, n):
    plain = NIB(Returning(lambda z, h: z), "c").attribute(X[:n], target=1)
    found = NIB(Returning(form), "c").attribute(X[:n], target=1)
    torch.testing.assert_close(found, plain)


@pytest.mark.parametrize(
    ("form", "listed"),
    [
        (lambda z, h: {"features": h, "scores": z}, r'\["features"\] \(2, 6\), \["scores"\]'),
        (lambda z, h: (h, {"scores": z}), r'\[0\] \(2, 6\), \[1\]\["scores"\] \(2, 5\)'),
        (lambda z, h: (z, h), r"\[0\] \(2, 5\), \[1\] \(2, 6\): which"),
        (lambda z, h: {"loss": z.mean()}, r'\["loss"\] \(\)'),
    ],
)
def test_an_output_that_may_mean_several_is_listed(form, listed):
    with pytest.raises(TypeError, match=rf"returned \w+ with .*{listed}.*forward_func=lambda"):
        NIB(Returning(form), "c").attribute(X, target=1)


def test_an_output_without_a_tensor_is_told_what_it_must_be():
    said = r"returned str with no tensor; pass a function that returns a tensor \(N,\) or \(N, cl"
    with pytest.raises(TypeError, match=said):
        NIB(Returning(lambda z, h: "logits"), "c").attribute(X, target=1)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("method", [IBA, CoIBA, NIB, LayerGradCAM])
def test_a_squeezed_head_gives_a_map_for_a_single_sample(method, n):
    def build(squeezed):
        torch.manual_seed(0)
        net = Returning(lambda z, h: z[:, 0].squeeze() if squeezed else z[:, 0])
        return method(net.eval(), "c")

    settings = {"seed": 0} if method in (IBA, CoIBA) else {}
    plain = build(False).attribute(X[:n], **settings)
    assert plain.shape == (n, 1, *((8, 8) if method is NIB else (6, 6)))
    torch.testing.assert_close(build(True).attribute(X[:n], **settings), plain)


@pytest.mark.parametrize("method", [IBA, CoIBA, NIB, LayerGradCAM])
def test_an_output_without_samples_on_its_first_axis_names_its_shape(method):
    across = method(Returning(lambda z, h: z.T), "c")
    with pytest.raises(ValueError, match=r"shape \(5, 2\) for 2 sample.*samples on axis 0"):
        across.attribute(X, target=1)
    squeezed = method(Returning(lambda z, h: z.squeeze()), "c")
    with pytest.raises(ValueError, match=r"shape \(5,\) for 1 sample.*squeeze"):
        squeezed.attribute(X[:1], target=1)
    mean = method(Returning(lambda z, h: z.mean()), "c")
    with pytest.raises(ValueError, match=r"shape \(\) for 2 sample"):
        mean.attribute(X)


def test_rise_sees_the_rows_of_its_variants():
    with pytest.raises(ValueError, match=r"shape \(5, 2\) for 2 sample"):
        RISE(Returning(lambda z, h: z.T)).attribute(X, target=1, n_masks=4)


IDS = torch.randint(1, 50, (1, 9), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("cls", "settings"), [(BertForTokenClassification, {"num_labels": 4}), (BertForMaskedLM, {})]
)
def test_token_classifiers_have_their_classes_on_the_last_axis(cls, settings):
    model = tags(cls, **settings)
    _, trace = IBA(model).attribute(
        IDS, target=(3, 2), seed=0, n_steps=2, lr=1e-6, return_trace=True
    )
    # At α = 5 nearly all of the layer passes, so that the fit term is that of the plain output.
    expected = -model(IDS).logits.log_softmax(2)[0, 3, 2].item()
    assert trace.fit[0].item() == pytest.approx(expected, abs=2e-2)
    probability = prepare(model, IDS, None, (3, 2))
    score = probability.score(probability.run(), probability=True)
    assert score.item() == pytest.approx(torch.tensor(-expected).exp().item(), rel=1e-5)


@pytest.mark.parametrize("method", [IBA, CoIBA])
def test_ambiguous_class_axes_ask_and_can_be_said(method):
    model = tags(BertForTokenClassification, num_labels=4)
    layer = model.bert.encoder.layer[0]

    def forward(ids):
        return model(ids).logits

    with pytest.raises(ValueError, match=r"cross_entropy_at\(-1\).*cross_entropy_at\(1\)"):
        method(forward, layer).attribute(IDS, target=(3, 2), seed=0)
    settings = {"target": (3, 2), "seed": 0, "n_steps": 3}
    said = method(forward, layer).attribute(IDS, objective=cross_entropy_at(-1), **settings)
    torch.testing.assert_close(said, method(model, layer).attribute(IDS, **settings))
    assert NIB(forward, layer).attribute(IDS, target=(3, 2)).shape == (1, 9)  # a logit, no softmax
    with pytest.raises(ValueError, match='pass score="output"'):
        RISE(forward).attribute(IDS, target=(3, 2), n_masks=4)


def test_cross_entropy_along_an_axis():
    output = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    index = torch.tensor([[1, 2, 3], [0, 3, 4]])
    rows = torch.arange(2)
    for axis in (1, 2, -1):
        expected = -output.log_softmax(axis)[(rows, *index.T)]
        torch.testing.assert_close(cross_entropy_at(axis)(output, index), expected)
    flat = output[:, :, 0, 0]
    both = cross_entropy(flat, index[:, :1]), cross_entropy_at(1)(flat, index[:, :1])
    torch.testing.assert_close(*both)
    for one_logit in (cross_entropy, cross_entropy_at(1)):
        torch.testing.assert_close(one_logit(flat[:, :1], torch.zeros(2, 1).long()), -flat[:, 0])
    with pytest.raises(ValueError, match=r"axis 2 of an output of shape \(2, 3\)"):
        cross_entropy_at(2)(flat, index[:, :1])
    with pytest.raises(ValueError, match="axis 0 holds the samples"):
        cross_entropy_at(0)
    with pytest.raises(TypeError, match="axis must be an int, given str"):
        cross_entropy_at("last")


class Through(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class NoDerivative(torch.autograd.Function):
    """As an int8 product: its node is part of the graph, and gives nothing back."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return None


CUTS = {
    "detached": lambda x: x.detach(),
    "rounded": lambda x: x.round(),
    "none": NoDerivative.apply,
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("method", [IBA, CoIBA])
def test_a_cut_gradient_is_an_error_that_names_the_layer(method, cut):
    net = head()
    net = nn.Sequential(net[0], Through(CUTS[cut]), *net[1:])
    free = nn.Parameter(torch.ones(5))  # the output requires grad all the same

    def forward(x):
        return net(x) * free

    with pytest.raises(RuntimeError, match="no gradient reaches layer Conv2d: "):
        method(forward, net[0]).attribute(X, target=1, seed=0)
    whole = IBA(net[0:1] + net[2:], "0").attribute(X, target=1, seed=0)
    assert bool((whole.flatten(1).amax(dim=1) > 0).all())


def test_a_cut_between_two_layers_names_the_one_before():
    net = head()
    net = nn.Sequential(net[0], nn.Identity(), Through(torch.detach), *net[1:])
    with pytest.raises(RuntimeError, match="no gradient reaches layer 1: in no step"):
        CoIBA(net, ["1", "3"]).attribute(X, target=1, seed=0)


def test_a_layer_that_the_target_does_not_depend_on():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 1), nn.Linear(4, 1)

        def forward(self, x):
            return torch.cat([self.a(x), self.b(x)], dim=1)

    def first_only(output, index):
        return -output[:, 0]

    with pytest.raises(RuntimeError, match="no gradient reaches layer b: in no step"):
        IBA(Two(), "b").attribute(torch.rand(2, 4), target=1, objective=first_only, seed=0)


SEEDED = ("IBA", "CoIBA", "RISE", "ViTCX")
SETTINGS = {
    "RISE": {"n_masks": 8, "grid": 3}, "BeyondIntuition": {"n_steps": 2}, "IIA": {"n_steps": 2},
    "MFABA": {"n_steps": 2}, "IBA": {"n_steps": 3}, "CoIBA": {"n_steps": 3},
}  # fmt: skip
METHODS = [
    "IBA", "CoIBA", "NIB", "AttentionGradCAM", "AttentionRollout", "BeyondIntuition", "FastIG",
    "GenericAttention", "IIA", "LayerGradCAM", "MFABA", "RISE", "ScoreCAM",
    "TransformerAttribution", "ViTCX",
]  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_the_default_dtype_changes_no_map(name):
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    settings = {"target": 1, **SETTINGS.get(name, {})}
    if name in SEEDED:
        settings["seed"] = 0
    model, method = copy.deepcopy(vit().model), getattr(captum_ib, name)
    # Behind its last block NIB's z·∂F/∂z vanishes, and what is left is rounding.
    layer = ["blocks.1"] if name == "NIB" else []
    plain = method(model, *layer).attribute(images, **settings)
    try:
        torch.set_default_dtype(torch.float64)
        same = method(model, *layer).attribute(images, **settings)
        double = method(model.double(), *layer).attribute(images.double(), **settings)
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(same, plain, rtol=1e-4, atol=1e-5 * float(plain.abs().max()))
    correlation = torch.corrcoef(torch.stack([double.flatten(), plain.flatten()]).double())
    assert correlation[0, 1] > 0.999


@pytest.mark.parametrize("name", ["M2IB", "CAM2IB", "CoM2IB", "NIB"])
def test_the_default_dtype_changes_no_map_of_a_pair(name):
    subject = clip()
    settings = {} if name == "NIB" else {"n_steps": 3, "seed": 0}
    # Late in the tower NIB's z·∂F/∂z vanishes, and what is left is rounding.
    layers = [layer.replace("layers.2", "layers.0") for layer in subject.layers]
    method = getattr(captum_ib, name)(subject.model, *([layers] if name == "NIB" else []))
    arguments = {"additional_forward_args": subject.extra, **settings}
    plain = method.attribute(subject.inputs, **arguments)
    try:
        torch.set_default_dtype(torch.float64)
        same = method.attribute(subject.inputs, **arguments)
    finally:
        torch.set_default_dtype(torch.float32)
    for one, other in zip(plain, same, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-4 * float(one.abs().max()))


def test_a_probability_of_one_logit_is_that_of_two():
    z = torch.tensor([[-2.0], [0.0], [3.0]])
    two = probabilities(torch.cat([z, torch.zeros_like(z)], dim=1))[:, :1]
    torch.testing.assert_close(probabilities(z), two)
    torch.testing.assert_close(probabilities(z), z.sigmoid())


def test_output_tensor_without_a_number_of_rows():
    assert output_tensor(torch.tensor(1.0)).shape == ()
    assert output_tensor({"loss": torch.tensor(1.0), "out": X}) is X
