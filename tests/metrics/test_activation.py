"""What kind of head a classifier has: one logit, two, several labels, probabilities."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from captum_ib import IBA, MFABA, RISE, InputWarning, ScoreCAM, rank_layers
from captum_ib.forward import binary_cross_entropy
from captum_ib.metrics import (
    ConfidenceDrop,
    ConfidenceIncrease,
    Deletion,
    Insertion,
    InsertionMinusDeletion,
    certify,
)

RNG = np.random.default_rng(0)
X = RNG.random((3, 3, 16, 16)).astype("float32")
MAPS = RNG.random((3, 1, 16, 16))
ZEROS = np.zeros(3, int)


def body(outputs: int) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 196, outputs)
    ).eval()


class WithZero(nn.Module):
    """The two-logit form (z, 0) of a head with one logit."""

    def __init__(self, one):
        super().__init__()
        self.one = one

    def forward(self, x):
        z = self.one(x)
        return torch.cat([z, torch.zeros_like(z)], dim=1)


class Flat(nn.Module):
    def __init__(self, one, squeeze):
        super().__init__()
        self.one, self.squeeze = one, squeeze

    def forward(self, x):
        return self.one(x).squeeze() if self.squeeze else self.one(x)[:, 0]


ONE = body(1)
TWO = WithZero(ONE).eval()
METRICS = (Insertion, Deletion, InsertionMinusDeletion, ConfidenceDrop, ConfidenceIncrease)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    "model",
    [
        ONE,
        Flat(ONE, False).eval(),
        Flat(ONE, True).eval(),
        nn.Sequential(*ONE, nn.Sigmoid()).eval(),
    ],
    ids=["(N, 1)", "(N,)", "squeezed", "sigmoid"],
)
def test_one_logit_gives_the_numbers_of_two(metric, model):
    expected = metric()(TWO, X, ZEROS, a_batch=MAPS)
    found = metric()(model, X, ZEROS, a_batch=MAPS)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    alone = metric()(model, X[:1], ZEROS[:1], a_batch=MAPS[:1])
    np.testing.assert_allclose(alone, expected[:1], rtol=1e-4, atol=1e-5)


def test_insertion_of_one_logit_starts_at_the_sigmoid_of_the_blur():
    metric = Deletion()
    metric(ONE, X, ZEROS, a_batch=MAPS)
    with torch.no_grad():
        whole, black = (ONE(torch.tensor(x)).sigmoid()[:, 0] for x in (X, np.zeros_like(X)))
    np.testing.assert_allclose(metric.curves[:, 0], whole, rtol=1e-5)
    np.testing.assert_allclose(metric.curves[:, -1], black, rtol=1e-5)


def test_one_logit_has_the_target_0():
    with pytest.raises(ValueError, match=r"classes 0 to 0; a single logit z .* \(z, 0\).* is 0"):
        Insertion()(ONE, X, ZEROS + 1, a_batch=MAPS)


def test_several_labels_are_said():
    model, y = body(4), np.array([0, 1, 3])
    metric = Deletion(activation="sigmoid")
    metric(model, X, y, a_batch=MAPS)
    with torch.no_grad():
        expected = model(torch.tensor(X)).sigmoid()[range(3), y]
    np.testing.assert_allclose(metric.curves[:, 0], expected, rtol=1e-5)
    raw = Deletion(activation="none")
    raw(model, X, y, a_batch=MAPS)
    np.testing.assert_allclose(raw.curves[:, 0], torch.logit(expected), rtol=1e-4)
    soft = Deletion(activation="softmax")
    soft(model, X, y, a_batch=MAPS, softmax=False)
    plain = Deletion()
    plain(model, X, y, a_batch=MAPS)
    np.testing.assert_allclose(soft.curves, plain.curves)


class Ends(nn.Module):
    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, x):
        return self.logits(x).softmax(1)


def test_probabilities_are_taken_as_they_are():
    logits = body(4)
    expected = Insertion()(logits, X, ZEROS, a_batch=MAPS)
    module = nn.Sequential(*logits, nn.Softmax(dim=1)).eval()
    np.testing.assert_allclose(Insertion()(module, X, ZEROS, a_batch=MAPS), expected, rtol=1e-5)
    function = Ends(logits).eval()
    np.testing.assert_allclose(Insertion()(function, X, ZEROS, a_batch=MAPS), expected, rtol=1e-5)


class Clamped(Ends):
    """Behind the softmax another operation: nothing but the numbers shows what they are."""

    def forward(self, x):
        return self.logits(x).softmax(1).clamp(0, 1)


def test_outputs_that_sum_to_one_are_warned_about_once():
    model = Clamped(body(4)).eval()
    with pytest.warns(InputWarning) as seen:
        Insertion()(model, X, ZEROS, a_batch=MAPS)
    assert len(seen) == 1
    assert seen[0].filename == __file__
    assert "softmax is applied to them once more" in str(seen[0].message)
    Insertion(activation="none")(model, X, ZEROS, a_batch=MAPS)


class Sigmoids(Ends):
    def forward(self, x):
        return self.logits(x).sigmoid()


@pytest.mark.parametrize("metric", METRICS)
def test_a_sigmoid_of_several_labels_is_seen_in_a_function(metric):
    logits, y = body(4), np.array([0, 1, 3])
    expected = metric(activation="sigmoid")(logits, X, y, a_batch=MAPS)
    np.testing.assert_allclose(
        metric()(Sigmoids(logits).eval(), X, y, a_batch=MAPS), expected, rtol=1e-5
    )


class SeveralLabels(Ends):
    """Logits of which a configuration says that several may hold."""

    config = SimpleNamespace(problem_type="multi_label_classification")

    def forward(self, x):
        return self.logits(x)


@pytest.mark.parametrize("method", [RISE, ScoreCAM])
def test_the_sigmoid_of_a_function_is_seen_where_no_pass_has_a_graph(method):
    logits = body(4)
    layer = () if method is RISE else ("logits.0",)
    own = () if method is RISE else ("0",)
    settings = {"n_masks": 16, "seed": 0} if method is RISE else {}
    found = method(Sigmoids(logits).eval(), *layer).attribute(torch.tensor(X), target=1, **settings)
    said = SeveralLabels(logits).eval()
    expected = method(said, *layer).attribute(torch.tensor(X), target=1, **settings)
    torch.testing.assert_close(found, expected)
    plain = method(logits, *own).attribute(torch.tensor(X), target=1, **settings)
    assert float((found - plain).abs().max()) > 1e-4


class NoGraph(Sigmoids):
    """A model under ``no_grad``: what its last module is tells what it ends in."""

    def __init__(self, logits, last):
        super().__init__(logits)
        self.last = last

    @torch.no_grad()
    def forward(self, x):
        return self.last(self.logits(x))


@pytest.mark.parametrize("last", [nn.Sigmoid(), nn.Softmax(1)])
def test_without_a_graph_the_last_module_tells(last):
    logits = body(4)
    found, expected = Deletion(), Deletion(activation="none")
    found(NoGraph(logits, last).eval(), X, ZEROS, a_batch=MAPS)
    expected(NoGraph(logits, last).eval(), X, ZEROS, a_batch=MAPS)
    np.testing.assert_array_equal(found.curves, expected.curves)


def test_a_sigmoid_that_only_stands_last_does_not_count():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.logits, self.gate = body(4), nn.Sigmoid()

        def forward(self, x):
            return self.logits(x * self.gate(x)).abs() / 100

    model, metric = Gated().eval(), Deletion()
    metric(model, X, ZEROS, a_batch=MAPS)
    with torch.no_grad():
        expected = model(torch.tensor(X)).softmax(1)[:, 0]
    np.testing.assert_allclose(metric.curves[:, 0], expected, rtol=1e-5)


def test_the_objective_behind_a_sigmoid_is_that_of_its_logit():
    logits = body(4)
    found = IBA(Sigmoids(logits).eval(), "logits.0").attribute(torch.tensor(X), target=1, seed=0)
    expected = IBA(logits, "0").attribute(
        torch.tensor(X), target=1, seed=0, objective=binary_cross_entropy
    )
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_a_function_is_no_model():
    with pytest.raises(TypeError, match="model must be a torch.nn.Module, given function"):
        Insertion()(lambda x: x, X, ZEROS, a_batch=MAPS)


def test_a_softmax_that_only_stands_last_does_not_count():
    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.logits, self.attention = body(4), nn.Softmax(dim=1)

        def forward(self, x):
            return self.logits(x * self.attention(x))

    model, metric = Attending().eval(), Deletion()
    metric(model, X, ZEROS, a_batch=MAPS)
    with torch.no_grad():
        expected = model(torch.tensor(X)).softmax(1)[:, 0]
    np.testing.assert_allclose(metric.curves[:, 0], expected, rtol=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_an_unknown_activation_is_refused(metric):
    with pytest.raises(ValueError, match='activation must be one of None, "softmax"'):
        metric(activation="relu")


def test_softmax_of_one_output_is_refused():
    with pytest.raises(ValueError, match=r'activation="softmax" of a single output is 1'):
        Insertion(activation="softmax")(ONE, X, ZEROS, a_batch=MAPS)


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        (MFABA, {"n_steps": 12, "step_size": 0.2}),
        (RISE, {"n_masks": 8, "grid": 3, "seed": 0}),
    ],
)
def test_methods_see_the_same_probability(method, settings):
    images = torch.tensor(X)
    one = method(ONE).attribute(images, target=0, **settings)
    two = method(TWO).attribute(images, target=0, **settings)
    assert float(one.abs().max()) > 1e-4
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)


def test_score_cam_sees_the_same_probability():
    one = ScoreCAM(ONE, "0").attribute(torch.tensor(X), target=0)
    two = ScoreCAM(TWO, "one.0").attribute(torch.tensor(X), target=0)
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)


def test_a_certificate_of_one_logit_is_that_of_two():
    centred = copy.deepcopy(ONE)
    with torch.no_grad():
        centred[3].bias -= centred(torch.tensor(X)).mean()  # so that noise moves the sign
    images = torch.tensor(X)
    iba = IBA(centred, "0")
    bits = iba.attribute(images, target=0, seed=0)
    both = [
        certify(method, images, bits, 1e9, target=0, n_draws=20)
        for method in (iba, IBA(WithZero(centred).eval(), "one.0"))
    ]
    torch.testing.assert_close(both[0].change, both[1].change, rtol=1e-4, atol=1e-6)
    assert both[0].moves.tolist() == both[1].moves.tolist()
    assert both[0].moves.sum() > 0
    number = certify(iba, images, bits, 1e9, n_draws=20)
    assert bool((number.change > both[0].change).all())  # without a target: the output as it is


@pytest.mark.parametrize("target", [None, 0])
def test_layers_are_ranked_for_one_logit(target):
    ranking = rank_layers(IBA(ONE, "0"), torch.tensor(X), target, candidates=["0", "1"], n_steps=3)
    assert ranking.scores.shape == (2, 3)


def test_the_objective_of_one_logit_is_minus_the_logit():
    images = torch.tensor(X)
    settings = {"seed": 0, "n_steps": 2, "lr": 1e-6, "return_trace": True}
    for target in (None, 0):
        _, trace = IBA(ONE, "0").attribute(images, target=target, **settings)
        expected = -ONE(images).detach()[:, 0]
        torch.testing.assert_close(trace.fit[0], expected, rtol=0.05, atol=0.02)
