"""Options of several commands, and what typer does not do: several values, one-line errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer

Model = Annotated[
    str,
    typer.Option(
        help="clip-scenes, vit-scenes, vit-relations, timm:NAME, hf:ID-or-folder, "
        "open_clip:NAME/TAG, openai_clip:FILE, albef:FILE, imagebind:FILE, or a folder"
    ),
]

Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, ...")]
AllowPickle = Annotated[
    bool, typer.Option("--allow-pickle", help="accept pickled weights (they can run code)")
]
Traceback = Annotated[bool, typer.Option("--traceback", help="show where an error comes from")]

SEVERAL = (
    "--image", "--audio", "--text", "--question", "--answer", "--target", "--method", "--layer",
    "--metric", "--seeds", "--format",
)  # fmt: skip
"""Options that take several values behind one flag."""

ALONE = {"--ray": "local"}
"""Options that may stand alone, and the value that this stands for."""


def spread(arguments: Sequence[str]) -> list[str]:
    """Repeat a flag before each further value behind it, and complete those that stand alone.

    A value ends where the next argument starts with two dashes, so a negative number is a value.

    >>> spread(["explain", "--method", "m2ib", "nib", "--seed", "1"])
    ['explain', '--method', 'm2ib', '--method', 'nib', '--seed', '1']
    >>> spread(["benchmark", "run.yaml", "--ray", "--out", "results"])
    ['benchmark', 'run.yaml', '--ray', 'local', '--out', 'results']
    """
    result: list[str] = []
    flag, values = "", 0
    for argument, behind in zip(arguments, [*arguments[1:], "--"], strict=False):
        if argument.startswith("--"):
            flag, values = (argument, 0) if argument in SEVERAL else ("", 0)
        elif flag:
            if values:
                result.append(flag)
            values += 1
        result.append(argument)
        if argument in ALONE and behind.startswith("--"):
            result.append(ALONE[argument])
    return result


def names(given: Sequence[str] | None) -> list[str]:
    """Names given one by one or separated by commas.

    >>> names(["iba,coiba", "nib"]), names(None)
    (['iba', 'coiba', 'nib'], [])
    """
    return [name for each in given or [] for name in each.split(",") if name]


@contextmanager
def one_line(traceback: bool = False) -> Iterator[None]:
    """Turn what can go wrong with a user's input into one line on stderr and exit code 2.

    A ``TypeError`` or ``AttributeError`` is no mistake that can be made on a command line: it is a
    bug, and comes through with its traceback. Captum says some of its users' mistakes with a bare
    ``assert``, so an ``AssertionError`` is one. An interrupt gets a line too, and exit code 130.

    Args:
        traceback: let everything through.
    """
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("captum-ib: interrupted, nothing was written", err=True)
        raise typer.Exit(130) from None
    except (ValueError, OSError, RuntimeError, AssertionError) as error:
        if traceback or isinstance(error, (typer.Exit, typer.Abort)):
            raise
        message = " ".join(str(error).split()) or type(error).__name__
        typer.echo(f"captum-ib: error: {message}", err=True)
        raise typer.Exit(2) from None
