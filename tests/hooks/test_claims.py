"""One call at a time on one model: who waits, who does not, and who is let go."""

import ctypes
import threading
import time

import pytest
import torch
from torch import nn

from captum_ib.hooks import Undo, borrowed
from captum_ib.hooks.threads import _table, claim


def thread_of(function):
    thread = threading.Thread(target=function)
    thread.start()
    return thread


def test_another_thread_waits_until_the_model_is_given_back():
    model, order = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), []

    def other():
        with borrowed([model[1]]):  # a part of it
            order.append("other")

    with borrowed([model]):
        thread = thread_of(other)
        while not _table.waiting:
            time.sleep(0.001)
        order.append("own")
    thread.join(timeout=60)
    assert order == ["own", "other"]
    assert not _table.waiting and not _table.claims


def test_models_that_share_a_parameter_wait_others_do_not():
    one, other, tied = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)
    tied.weight = one.weight
    with borrowed([one]):
        thread = thread_of(lambda: borrowed([other]).__enter__())
        thread.join(timeout=60)
        assert not thread.is_alive()
        waits = thread_of(lambda: borrowed([tied]).__enter__())
        while not _table.waiting:
            time.sleep(0.001)
    waits.join(timeout=60)
    assert not waits.is_alive()


def test_the_same_thread_does_not_wait_for_itself():
    model = nn.Linear(2, 2)
    with borrowed([model]), borrowed([model]):
        assert not model.weight.requires_grad
    assert model.weight.requires_grad


def test_what_a_thread_that_died_has_left_is_put_back():
    model = nn.Linear(2, 2).train()
    kept = []

    def dies():
        kept.append(borrowed([model]))
        kept[0].__enter__()

    thread_of(dies).join(timeout=60)
    assert not model.training and not model.weight.requires_grad
    with torch.no_grad(), borrowed([model]):
        assert torch.is_grad_enabled()
    assert model.training and model.weight.requires_grad
    assert not _table.claims


def test_two_threads_that_would_wait_for_ever_are_told():
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    both, errors, done = threading.Barrier(2), [], []

    def nested(one, other):
        try:
            with borrowed([one]):
                both.wait(timeout=60)
                with borrowed([other]):
                    done.append(one)
        except RuntimeError as error:
            errors.append(str(error))

    threads = [thread_of(lambda: nested(first, second)), thread_of(lambda: nested(second, first))]
    for thread in threads:
        thread.join(timeout=60)
    assert len(done) == len(errors) == 1
    assert errors[0].startswith("two threads wait for each other's models")
    assert first.weight.requires_grad and second.weight.requires_grad
    assert not _table.claims and not _table.waiting


def test_an_interrupted_wait_leaves_no_claim():
    model = nn.Linear(2, 2)
    with borrowed([model]):
        caught = []

        def waits():
            try:
                with Undo() as undo:
                    claim(undo, [model])
            except SystemExit as stop:
                caught.append(stop)

        thread = thread_of(waits)
        while not _table.waiting:
            time.sleep(0.001)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
        )
        thread.join(timeout=60)
        assert len(caught) == 1
        assert not _table.waiting and len(_table.claims) == 1


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_gives_the_model_back(error):
    model = nn.Linear(2, 2)
    with pytest.raises(error), borrowed([model]):
        raise error
    thread = thread_of(lambda: borrowed([model]).__enter__())
    thread.join(timeout=60)
    assert not thread.is_alive()
