"""Which method and which settings are taken when a person names none: measured, or the papers'.

``"recommended"`` is what did best on data that was not used to choose; the numbers, the command
that prints them, and what could not be told apart are in docs/results.md, "The defaults, chosen by
data". ``"paper"`` is what the method's paper says. The shell, the app and Python ask here, so that
the same question gives the same map everywhere. A class called without a preset keeps its own
defaults: the papers', but for the number of noise draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from captum_ib.facts import Kind
from captum_ib.models.layers import blocks_of

__all__ = ["PRESETS", "Preset", "preset_of", "recommended_method"]


@dataclass(frozen=True)
class Preset:
    """How a method is run when nothing else is said.

    Attributes:
        layers: the choice of default layers, ``"auto"`` or ``"paper"``.
        settings: keywords of ``attribute``; others keep the class's defaults.
    """

    layers: str = "auto"
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])


# Of models that answer nothing was measured: IBA is the plainest.
_METHODS: dict[Kind, str] = {"classifier": "coiba", "dual": "com2ib", "generator": "iba"}
_OF_CNNS = "iba"

_TEN_DRAWS = {"n_samples": 10, "antithetic": False}

PRESETS: dict[str, dict[str, Preset]] = {
    "recommended": {
        "iba": Preset("auto", {"beta": 1.0}),
        "coiba": Preset("auto", {"beta": 0.01}),
        "m2ib": Preset("auto", {"prior": "estimated"}),
    },
    "paper": {
        "coiba": Preset("paper", _TEN_DRAWS),
        "m2ib": Preset("paper", _TEN_DRAWS),
        "cam2ib": Preset("paper", _TEN_DRAWS),
    },
}
"""Preset by name, then by method; a method that is not listed has :data:`_OTHERS`."""

_OTHERS = {"recommended": Preset("auto"), "paper": Preset("paper")}
# On a CNN a small β did no better, and the papers' setting does not collapse (docs/results.md).
_OF_PLAIN_TRANSFORMERS = ("iba", "coiba")


def recommended_method(kind: Kind, model: nn.Module | None = None) -> str:
    """The method that is taken for this kind of model when none is named.

    Args:
        kind: what the model is.
        model: a CNN has another method than a transformer; default: a transformer.

    >>> recommended_method("dual")
    'com2ib'
    """
    if kind == "classifier" and _architecture(model) == "convolutional":
        return _OF_CNNS
    return _METHODS[kind]


def preset_of(method: str, name: str = "recommended", model: nn.Module | None = None) -> Preset:
    """How to run a method.

    Args:
        method: its name in the table of methods.
        name: ``"recommended"`` or ``"paper"``.
        model: what is explained. What is recommended for IBA and CoIBA holds for plain
            transformers; elsewhere they keep their own settings. Default: a plain transformer.

    Raises:
        ValueError: no such preset.

    >>> preset_of("coiba", "paper").layers
    'paper'
    >>> dict(preset_of("iba").settings)
    {'beta': 1.0}
    """
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}, expected one of {list(PRESETS)}")
    narrow = name == "recommended" and method in _OF_PLAIN_TRANSFORMERS
    if narrow and _architecture(model) != "plain":
        return _OTHERS[name]
    return PRESETS[name].get(method, _OTHERS[name])


def _architecture(model: nn.Module | None) -> str:
    """``"plain"``, ``"staged"``, ``"convolutional"``, or ``"unknown"``: no stack of blocks."""
    if model is None:
        return "plain"
    try:
        return blocks_of(model).kind
    except ValueError:
        return "unknown"
