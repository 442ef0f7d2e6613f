"""Packages that only an extra brings: imported late, and missing with a word on the mend."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class MissingExtraError(ImportError, RuntimeError):
    """A package of an extra is not installed."""


def need(module: str, purpose: str, extra: str = "benchmark") -> Any:
    """A module of a package that comes with an extra.

    Args:
        module: its dotted name.
        purpose: what it is needed for, the subject of the message.
        extra: of captum_ib.

    Raises:
        MissingExtraError: the package is not there; the message holds the command that installs it.

    >>> need("nowhere.to_be_found", "reading runes")
    Traceback (most recent call last):
        ...
    captum_ib.extras.MissingExtraError: reading runes needs the package nowhere:
    pip install 'captum_ib[benchmark]'
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise  # the package is there, and something else is not
        mend = f"{purpose} needs the package {package}: pip install 'captum_ib[{extra}]'"
        raise MissingExtraError(mend, name=package) from None
