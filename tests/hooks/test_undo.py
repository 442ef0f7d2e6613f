"""What was noted is put back: in order, through errors and interrupts, also by an outer context."""

import os
import threading

import pytest
import torch
from torch.overrides import (
    BaseTorchFunctionMode,
    _get_current_function_mode_stack,
    _pop_mode_temporarily,
)

from captum_ib.hooks import Undo, untouched
from captum_ib.hooks.undo import _opened, keep_modes, lock


def test_the_last_is_put_back_first():
    order = []
    with Undo() as undo:
        undo.note(lambda: order.append(1))
        undo.note(lambda: order.append(2))
    assert order == [2, 1]


def test_an_interrupt_while_putting_back_is_raised_when_all_is_back():
    order = []

    def interrupted_once():
        order.append("try")
        if order.count("try") == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Undo() as undo:
        undo.note(lambda: order.append("first"))
        undo.note(interrupted_once)
    assert order == ["try", "try", "first"]


def test_a_step_that_can_not_be_done_keeps_none_of_the_others_from_it():
    order = []

    def impossible():
        raise OSError("no")

    with pytest.raises(OSError, match="no"), Undo() as undo:
        undo.note(lambda: order.append("first"))
        undo.note(impossible)
    assert order == ["first"]


def test_the_outer_one_does_what_an_inner_one_has_left():
    order = []
    before = list(_opened.entries)  # an interrupt in another test may have left an empty one
    with Undo() as outer:
        outer.note(lambda: order.append("outer"))
        inner = Undo().__enter__()  # its end never comes
        inner.note(lambda: order.append("inner"))
    assert order == ["inner", "outer"]
    inner.__exit__()  # or comes late
    assert order == ["inner", "outer"]
    assert _opened.entries == before


def test_an_end_in_another_thread():
    order = []
    undo = Undo().__enter__()
    undo.note(lambda: order.append("back"))
    thread = threading.Thread(target=undo.__exit__)
    thread.start()
    thread.join()
    assert order == ["back"]
    _opened.entries.remove(undo)


def test_modes_of_torch_whose_end_was_interrupted():
    @untouched
    def leaves_all_open():
        torch.no_grad().__enter__()
        torch.autocast("cpu", torch.bfloat16).__enter__()
        torch.device("meta").__enter__()
        assert torch.zeros(1).device.type == "meta"

    depth = torch._C._len_torch_function_stack()
    leaves_all_open()
    assert torch.is_grad_enabled()
    assert not torch.is_autocast_enabled("cpu")
    assert torch.zeros(1).device.type == "cpu"
    assert torch._C._len_torch_function_stack() == depth
    assert torch.autocast_increment_nesting() == 1
    assert torch.autocast_decrement_nesting() == 0


def test_a_lock_whose_end_was_interrupted():
    untouched(lock.acquire)()
    assert not lock._is_owned()

    @untouched
    def another(undo):
        with lock:
            thread = threading.Thread(target=untouched(undo.restore))
            thread.start()
            thread.join()  # what it puts back for this thread does not free the lock here
            return lock._is_owned()

    assert another(Undo())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_lock_that_another_thread_held_at_a_fork():
    held, done = threading.Event(), threading.Event()

    def hold():
        with lock:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if not child:
        os._exit(0 if lock.acquire(blocking=False) else 1)
    status = os.waitpid(child, 0)[1]
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.parametrize(
    ("given", "gradients", "expected"),
    [
        (torch.enable_grad, None, (True, False)),
        (torch.no_grad, None, (False, False)),
        (torch.inference_mode, None, (False, True)),
        (torch.no_grad, True, (True, False)),
        (torch.inference_mode, True, (True, False)),
        (torch.enable_grad, False, (False, False)),
        (torch.inference_mode, False, (False, True)),
    ],
)
def test_modes_are_the_callers_or_those_asked_for(given, gradients, expected):
    def modes():
        return torch.is_grad_enabled(), torch.is_inference_mode_enabled()

    with given():
        before = modes()
        with Undo() as undo:
            keep_modes(undo, gradients)
            assert modes() == expected
        assert modes() == before


def test_a_generator_that_an_interrupt_left_open_does_not_come_back_later():
    mode = BaseTorchFunctionMode()

    @untouched
    def interrupted():
        mode.__enter__()
        without = _pop_mode_temporarily()  # it puts the mode back when it is thrown away
        without.__enter__()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        interrupted()
    assert _get_current_function_mode_stack() == []
    del caught
    assert _get_current_function_mode_stack() == []


def test_overrides_of_torch_that_an_interrupt_left_off_are_on_again():
    untouched(lambda: torch._C.DisableTorchFunction().__enter__())()
    assert torch._C._is_torch_function_all_disabled() is False
