"""A running method ends between two steps once it is asked to, and leaves nothing behind."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

from captum_ib.attr import IBA, NIB, CoIBA
from captum_ib.baselines import MFABA, RISE, ScoreCAM
from captum_ib.hooks import Stopped, check_stop, stopping

DONE = 3  # steps after which the event is set


class AfterSteps(threading.Event):
    """An event that is set when it has been looked at so many times."""

    looks = 0

    def is_set(self) -> bool:
        self.looks += 1
        return self.looks >= DONE


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).eval()


METHODS = {
    "IBA": (lambda net: IBA(net, "0"), {"n_steps": 1000}),
    "CoIBA": (lambda net: CoIBA(net, ["0", "1"]), {"n_steps": 1000}),
    "NIB": (lambda net: NIB(net, "1"), {"n_steps": 1000, "internal_batch_size": 1}),
    "RISE": (lambda net: RISE(net), {"n_masks": 1000, "perturbations_per_eval": 1}),
}


@pytest.mark.parametrize("show", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_a_method_ends_after_the_step_in_which_it_was_asked_to(name, show):
    make, keywords = METHODS[name]
    net, event = model(), AfterSteps()
    before = [parameter.requires_grad for parameter in net.parameters()]
    with pytest.raises(Stopped, match="stopped between two steps"), stopping(event):
        make(net).attribute(torch.rand(1, 3, 8, 8), target=1, show_progress=show, **keywords)
    assert event.looks == DONE
    assert [parameter.requires_grad for parameter in net.parameters()] == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_the_event_counts_inside_the_block_and_in_its_thread_only():
    event = threading.Event()
    event.set()
    with stopping(event):
        elsewhere: list[str] = []
        thread = threading.Thread(target=lambda: elsewhere.append(str(check_stop())))
        thread.start()
        thread.join()
        assert elsewhere == ["None"]
    assert check_stop() is None


def test_of_nested_blocks_each_event_counts():
    outer = threading.Event()
    outer.set()
    with pytest.raises(Stopped), stopping(outer), stopping(threading.Event()):
        check_stop()


def test_who_is_stopped_has_a_runtime_error():
    assert issubclass(Stopped, RuntimeError)


@pytest.mark.parametrize(
    ("method", "settings"),
    [(MFABA, {"n_steps": 1000}), (ScoreCAM, {"perturbations_per_eval": 1})],
)
def test_comparators_look_between_their_passes(method, settings):
    net = nn.Sequential(
        nn.Conv2d(3, 40, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).eval()
    passes = []
    net.register_forward_hook(lambda *call: passes.append(1))
    arguments = (net, "0") if method is ScoreCAM else (net,)
    with stopping(AfterSteps()), pytest.raises(Stopped):
        method(*arguments).attribute(torch.rand(1, 3, 8, 8), target=1, **settings)
    assert len(passes) <= 6
