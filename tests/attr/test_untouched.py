"""A model comes back as it was: interrupted anywhere, in any mode, used from several threads."""

import copy
import pickle
import random
import sys
import threading
from functools import cache

import pytest
import torch
from captum.attr import NoiseTunnel

from captum_ib import IBA, NIB, RISE
from captum_ib.hooks import borrowed
from captum_ib.layout import TokenLayout
from tests.attr.untouched import ROWS, Events, build, changed, state

FEW_POINTS, MANY_POINTS = 2, 14
"""Interrupts for each of the 50 pairs of a method and a kind of model."""

rows = pytest.mark.parametrize("row", ROWS, ids=str)


def left_changed(row, number):
    """What is left changed by interrupts at so many seeded points, each with its place."""
    built = build(row.kind)
    built.run(row)  # what is only done once is done
    counting = Events()
    counting.run(lambda: built.run(row))
    before, left, reached = state(built.model), [], 0
    for point in counting.points(number, seed=ROWS.index(row)):
        try:
            Events(point).run(lambda: built.run(row))
        except KeyboardInterrupt as interrupt:
            reached += 1
            names = changed(before, state(built.model))  # while its traceback keeps frames alive
            left += [f"{interrupt}: {name}" for name in names]
    left += [f"afterwards: {name}" for name in changed(before, state(built.model))]
    assert reached >= number - 1, "interrupts that did not come out"
    return left


def test_the_rows_are_all_methods_of_the_table():
    assert len(ROWS) == 51 and len(ROWS) * MANY_POINTS >= 300


# Python itself swallows an interrupt that comes while a generator is thrown away.
swallowed = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@swallowed
@rows
def test_an_interrupt_at_any_point_leaves_nothing(row):
    assert left_changed(row, FEW_POINTS) == []


@pytest.mark.slow
@swallowed
@rows
def test_an_interrupt_at_any_of_many_points_leaves_nothing(row):
    assert left_changed(row, MANY_POINTS) == []


@cache
def in_evaluation_mode(row):
    return build(row.kind, "eval").run(row)


@rows
@pytest.mark.parametrize("flags", ["eval", "train", "mixed"])
def test_every_flag_comes_back_and_does_not_matter(row, flags):
    built = build(row.kind, flags)
    before = state(built.model)
    found = built.run(row)
    assert changed(before, state(built.model)) == []
    for one, other in zip(found, in_evaluation_mode(row), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


def run_together(jobs):
    """Call lists of functions, one thread for each list, all at once; errors come out of it."""
    errors, start = [], threading.Barrier(len(jobs))

    def work(functions):
        try:
            start.wait(timeout=60)
            for function in functions:
                function()
        except BaseException as error:  # noqa: BLE001 - it comes out of run_together
            errors.append(error)

    threads = [threading.Thread(target=work, args=(functions,)) for functions in jobs]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=300)
    finally:
        sys.setswitchinterval(interval)
    assert not any(thread.is_alive() for thread in threads)
    if errors:
        raise errors[0]


def in_threads(builts, kind, count):
    """All methods of a kind in each of some threads, each in its own order and on its model."""
    own = [row for row in ROWS if row.kind == kind]
    expected = {row: in_evaluation_mode(row) for row in own}
    before = [state(built.model) for built in builts]

    def check(row, built):
        for one, other in zip(built.run(row), expected[row], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)

    jobs = []
    for number, built in zip(range(count), builts * count, strict=False):
        order = random.Random(number).sample(own, len(own))
        jobs.append([lambda row=row, built=built: check(row, built) for row in order])
    run_together(jobs)
    for old, built in zip(before, builts, strict=True):
        assert changed(old, state(built.model)) == []


@pytest.mark.parametrize("kind", ["classifier", "dual"])
def test_threads_on_one_model_wait_for_each_other(kind):
    in_threads([build(kind)], kind, 3)


@pytest.mark.parametrize("kind", ["classifier", "dual"])
def test_threads_on_different_models_do_not_disturb_each_other(kind):
    in_threads([build(kind), build(kind)], kind, 2)


def test_threads_with_functions_and_parts_of_one_model():
    built = build("classifier")
    model, x = built.model, built.inputs
    settings = {"target": 1, "seed": 0, "n_steps": 3, "layout": TokenLayout("tokens", 1, (4, 4))}
    expected = IBA(model, "blocks.1").attribute(x, **settings)
    before = state(model)

    def check(forward_func):
        layer = model.get_submodule("blocks.1")
        found = IBA(forward_func, layer).attribute(x, **settings)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)

    features, head = model.forward_features, model.forward_head
    functions = [model, model.forward, lambda v: model(v), lambda v: head(features(v))]
    run_together([[lambda f=f: check(f)] * 3 for f in functions])
    assert changed(before, state(model)) == []


def test_a_plain_forward_pass_of_another_thread_sees_no_bottleneck():
    built = build("classifier", "eval")
    model, x, seen = built.model, built.inputs, []
    with torch.no_grad():
        expected = model(x)

    def objective_time(module, args, output):
        if threading.current_thread() is threading.main_thread() and len(seen) < 3:

            def plain():
                with torch.no_grad():
                    seen.append(model(x))

            thread = threading.Thread(target=plain)
            thread.start()
            thread.join(timeout=60)

    with model.blocks[2].register_forward_hook(objective_time):
        IBA(model, "blocks.1").attribute(x, target=1, seed=0, n_steps=3)
    assert len(seen) == 3
    for output in seen:
        torch.testing.assert_close(output, expected)


def test_a_model_can_be_copied_and_pickled_while_it_is_borrowed():
    model = build("classifier", "eval").model
    keys = [sorted(vars(module)) for module in model.modules()]
    with borrowed([model]):
        assert [sorted(vars(module)) for module in model.modules()] == keys
        copied = copy.deepcopy(model)
        assert len(pickle.dumps(copied.state_dict())) > 0
    assert not any(parameter.requires_grad for parameter in copied.parameters())


def test_a_method_inside_a_method():
    built = build("classifier")
    model, x = built.model, built.inputs
    before = state(model)

    def strength(of):
        return lambda v: NIB(of, "blocks.1").attribute(v, target=1, n_steps=2).sum((1, 2, 3))

    found, expected = (
        RISE(strength(of)).attribute(x, n_masks=4, grid=2, seed=0)
        for of in (model, copy.deepcopy(model))
    )
    torch.testing.assert_close(found, expected)
    assert changed(before, state(model)) == []


def test_noise_tunnel_around_a_method():
    built = build("classifier")
    before = state(built.model)
    torch.manual_seed(0)
    tunnel = NoiseTunnel(IBA(built.model, "blocks.1"))
    tunnel.attribute(built.inputs, nt_samples=2, stdevs=0.1, target=1, n_steps=2, seed=0)
    assert changed(before, state(built.model)) == []
