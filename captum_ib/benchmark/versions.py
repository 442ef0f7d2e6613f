"""Versions of everything that a number depends on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    "captum_ib",
    "captum",
    "torch",
    "torchvision",
    "transformers",
    "timm",
    "quantus",
    "numpy",
)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that take part; those not installed are left out.

    >>> "torch" in versions()
    True
    """
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
