"""Which arguments have a row for each sample: by a check, never because there are as many rows."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from captum_ib import IBA, NIB, RISE, CoIBA
from captum_ib.forward import prepare

X = torch.rand(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))
TABLE = torch.rand(4, 5, generator=torch.Generator().manual_seed(1)) * 2
SETTINGS = {"IBA": {"n_steps": 4, "n_samples": 2, "seed": 0}, "NIB": {}}
SETTINGS["CoIBA"] = SETTINGS["IBA"]


@pytest.fixture
def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(20, 4)
    ).eval()


SHARED = {
    "classes": lambda net, x, table: net(x) @ table,
    "softmax over rows": lambda net, x, table: net(x) * table.sum(1).softmax(0),
    "mean over rows": lambda net, x, table: net(x) * table.mean(),
    "looked up": lambda net, x, table: net(x) * table[3, :4],
}


@pytest.mark.parametrize("use", SHARED)
@pytest.mark.parametrize("method", [IBA, CoIBA, NIB])
def test_a_table_with_as_many_rows_as_samples_is_shared(net, method, use):
    """The mean over a part's rows changed NIB's map by 1 %, without a word."""

    def forward(x, table):
        return SHARED[use](net, x, table)

    settings = {"target": 2, "internal_batch_size": 2, **SETTINGS[method.__name__]}
    found = method(forward, net[0]).attribute(X, additional_forward_args=TABLE, **settings)
    plain = method(lambda x: forward(x, TABLE), net[0]).attribute(X, **settings)
    torch.testing.assert_close(found, plain)


@pytest.mark.parametrize("method", [IBA, CoIBA, NIB])
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("rows", [1, 2])
def test_a_number_for_all_samples_is_not_repeated(net, method, n, rows):
    """A temperature of shape (1,), class weights (2, 1) in parts of two samples."""
    given = torch.full((rows,), 0.5) if rows == 1 else torch.tensor([[0.5], [2.0]])

    def forward(x, t):
        return net(x) / t.prod()

    settings = {"target": 2, "internal_batch_size": 4, **SETTINGS[method.__name__]}
    found = method(forward, net[0]).attribute(X[:n], additional_forward_args=given, **settings)
    plain = method(lambda x: forward(x, given), net[0]).attribute(X[:n], **settings)
    torch.testing.assert_close(found, plain)


def test_a_row_for_each_sample_goes_along(net):
    def forward(x, weights):
        return net(x) * weights[:, :4]

    whole = NIB(forward, net[0]).attribute(X, target=2, additional_forward_args=TABLE)
    parts = NIB(forward, net[0]).attribute(
        X, target=2, additional_forward_args=TABLE, internal_batch_size=3
    )
    own = NIB(forward, net[0]).attribute(X[2:3], target=2, additional_forward_args=TABLE[2:3])
    torch.testing.assert_close(whole[2:3], own)
    torch.testing.assert_close(parts, whole)


def test_variants_of_a_sample_share_the_table(net):
    def forward(x, table):
        return net(x) @ table

    settings = {"target": 2, "n_masks": 8, "grid": 3, "seed": 0}
    found = RISE(forward).attribute(X, additional_forward_args=TABLE, **settings)
    torch.testing.assert_close(found, RISE(lambda x: forward(x, TABLE)).attribute(X, **settings))


def test_two_arguments_are_told_apart(net):
    own = torch.rand(4, 4, generator=torch.Generator().manual_seed(2))

    def forward(x, table, own):
        return (net(x) * own) @ table

    call = prepare(forward, X, (TABLE, own), 2)
    assert [tuple(value.shape) for value in call.part(1, 3).additional] == [(4, 5), (2, 4)]
    assert [tuple(value.shape) for value in call.repeated(2)] == [(8, 3, 6, 6), (4, 5), (8, 4)]


def test_a_name_needs_no_check(net):
    passes = []

    def forward(x, lengths):
        passes.append(len(x))
        return net(x)

    call = prepare(forward, X, torch.tensor([1, 2, 3, 4]), 2)
    assert call.part(1, 3).additional[0].tolist() == [2, 3]
    assert passes == []


def test_samples_that_act_on_each_other_are_asked_for(net):
    def forward(x, table):
        return net(x) - net(x).mean(0) * table.mean()

    with pytest.raises(ValueError, match=r"argument number 1 of shape \(4, 5\).*lambda x: model"):
        NIB(forward, net[0]).attribute(X, target=2, additional_forward_args=TABLE)


def test_a_model_that_only_runs_on_the_whole_batch_is_asked_for(net):
    def forward(x, table):
        return net(x) if len(x) == 4 else F.linear(x, table)

    with pytest.raises(ValueError, match="does not run on a single sample"):
        NIB(forward, net[0]).attribute(X, target=2, additional_forward_args=TABLE)


def test_an_error_of_the_model_itself_comes_through(net):
    def forward(x, table):
        return net(x.flatten(1)) * table.mean()

    with pytest.raises(RuntimeError, match=r"forward_func failed on \(float32 \(4, 3, 6, 6\)"):
        NIB(forward, net[0]).attribute(X, target=2, additional_forward_args=TABLE)
