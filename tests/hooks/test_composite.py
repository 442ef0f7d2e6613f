"""Hooks on several layers: every kind of output and input, calls that are refused, nothing left."""

from collections import namedtuple

import pytest
import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutput

from captum_ib.hooks import CompositeHook

Pair = namedtuple("Pair", "hidden extra")


class Returns(nn.Module):
    """A layer that wraps its input in some structure."""

    def __init__(self, wrap):
        super().__init__()
        self.wrap = wrap

    def forward(self, hidden_states):
        return self.wrap(hidden_states)


def double(index, activation):
    return 2 * activation


def hooks_of(module):
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


@pytest.mark.parametrize(
    ("wrap", "read"),
    [
        (lambda x: x, lambda y: y),
        (lambda x: (x, None), lambda y: y[0]),
        (lambda x: [None, x], lambda y: y[1]),
        (lambda x: (torch.ones(1, dtype=torch.long), x), lambda y: y[1]),
        (lambda x: Pair(x, "extra"), lambda y: y.hidden),
        (lambda x: {"mask": None, "hidden": x}, lambda y: y["hidden"]),
        (lambda x: BaseModelOutput(last_hidden_state=x), lambda y: y.last_hidden_state),
    ],
    ids=["tensor", "tuple", "list", "second", "namedtuple", "dict", "ModelOutput"],
)
def test_the_activation_goes_back_to_where_it_came_from(wrap, read):
    layer = Returns(wrap)
    x = torch.rand(3, 2)
    plain = layer(x)
    with CompositeHook([layer], double):
        hooked = layer(x)
    assert type(hooked) is type(plain)
    assert torch.equal(read(hooked), 2 * x)
    assert torch.equal(read(layer(x)), x)


@pytest.mark.parametrize("by_keyword", [False, True])
def test_inputs_positional_and_by_keyword(by_keyword):
    layer = Returns(lambda x: x + 1)
    x = torch.rand(3, 2)
    with CompositeHook([layer], double, to_input=True):
        out = layer(hidden_states=x) if by_keyword else layer(x)
    assert torch.equal(out, 2 * x + 1)


def test_layers_know_their_index():
    model = nn.Sequential(nn.Identity(), nn.Identity())
    with CompositeHook(list(model), lambda index, x: x + 10**index):
        assert model(torch.zeros(1)).item() == 11.0


def test_a_layer_that_runs_twice_is_refused_by_name():
    layer = nn.Linear(2, 2)
    hook = CompositeHook([layer], double, names=["shared.block"])
    with hook, pytest.raises(RuntimeError, match=r"shared\.block runs more than once"):
        layer(layer(torch.rand(1, 2)))
    assert hooks_of(layer) == 0


def test_a_layer_that_does_not_run_is_named():
    model = nn.Sequential(nn.Identity(), nn.Identity())
    hook = CompositeHook([model[0], nn.ReLU()], double, names=["0", "elsewhere"])
    with (
        pytest.raises(RuntimeError, match=r"layer\(s\) elsewhere did not run"),
        hook,
        hook.one_pass(),
    ):
        model(torch.zeros(1))


def test_a_layer_without_hidden_states_says_what_to_choose():
    embedding = nn.Embedding(4, 2)
    with (
        CompositeHook([embedding], double, to_input=True),
        pytest.raises(RuntimeError, match="input of layer Embedding holds no floating-point"),
    ):
        embedding(torch.tensor([1]))


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_when_the_function_raises(error):
    def fail(index, activation):
        raise error

    layer = nn.Identity()
    with pytest.raises(error), CompositeHook([layer], fail):
        layer(torch.zeros(1))
    assert hooks_of(layer) == 0


def test_nothing_is_left_when_registering_raises():
    class Refuses(nn.Identity):
        def register_forward_hook(self, *args, **kwargs):
            raise KeyboardInterrupt

    first = nn.Identity()
    with pytest.raises(KeyboardInterrupt), CompositeHook([first, Refuses()], double):
        pass
    assert hooks_of(first) == 0
