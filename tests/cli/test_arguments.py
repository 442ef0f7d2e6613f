"""Several values behind one flag, and errors of one line."""

from __future__ import annotations

import pytest
import typer

from captum_ib.cli import main
from captum_ib.cli.arguments import one_line, spread


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("--method a b", "--method a --method b"),
        ("--method a --method b", "--method a --method b"),
        ("--image x y --seed 1 --text t", "--image x --image y --seed 1 --text t"),
        ("--target -1 2", "--target -1 --target 2"),
        ("--seed 1 2", "--seed 1 2"),
        ("--method=a b", "--method=a b"),
        ("--method", "--method"),
        ("explain", "explain"),
        ("run.yaml --ray", "run.yaml --ray local"),
        ("--ray --method a b", "--ray local --method a --method b"),
        ("--ray host:6379 --out x", "--ray host:6379 --out x"),
    ],
)
def test_spread(given, expected):
    assert spread(given.split()) == expected.split()


@pytest.mark.parametrize("error", [ValueError, OSError, RuntimeError, AssertionError])
def test_mistakes_get_one_line(error, capsys):
    with pytest.raises(typer.Exit) as caught, one_line():
        raise error("what\n  is   wrong")
    assert caught.value.exit_code == 2
    assert capsys.readouterr().err == "captum-ib: error: what is wrong\n"


def test_errors_without_a_message_are_named(capsys):
    with pytest.raises(typer.Exit), one_line():
        raise TimeoutError
    assert capsys.readouterr().err == "captum-ib: error: TimeoutError\n"


@pytest.mark.parametrize("error", [TypeError, KeyError, AttributeError])
def test_bugs_come_through(error):
    with pytest.raises(error), one_line():
        raise error("bug")


def test_an_interrupt_gets_its_own_code(capsys):
    with pytest.raises(typer.Exit) as caught, one_line():
        raise KeyboardInterrupt
    assert caught.value.exit_code == 130
    assert capsys.readouterr().err == "captum-ib: interrupted, nothing was written\n"


def test_traceback_on_demand():
    with pytest.raises(ValueError, match="wrong"), one_line(traceback=True):
        raise ValueError("wrong")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "No such command"),
        (["explain"], "--model"),
        (["explain", "--model", "clip-scenes"], "--image"),
        (["explain", "--model", "m", "--image", "x", "--seed", "one"], "--seed"),
        (["explain", "--model", "m", "--image", "x", "--seed", "-1"], "--seed"),
        (["explain", "--model", "m", "--image", "x", "--steps", "0"], "--steps"),
        (["explain", "--model", "m", "--image", "x", "--colour"], "--colour"),
        (["explain", "--model", "m", "--image"], "--image"),
        (["demo", "--images", "0"], "--images"),
    ],
)
def test_wrong_usage_gets_one_line(arguments, message, capsys):
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1
    assert output.err.startswith("captum-ib: error: ") and message in output.err
