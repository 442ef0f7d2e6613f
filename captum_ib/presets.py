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

from captum_ib.facts import Kind

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


_METHODS: dict[Kind, str] = {"classifier": "coiba", "dual": "com2ib"}

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


def recommended_method(kind: Kind) -> str:
    """The method that is taken for this kind of model when none is named.

    >>> recommended_method("dual")
    'com2ib'
    """
    return _METHODS[kind]


def preset_of(method: str, name: str = "recommended") -> Preset:
    """How to run a method.

    Args:
        method: its name in the table of methods.
        name: ``"recommended"`` or ``"paper"``.

    Raises:
        ValueError: no such preset.

    >>> preset_of("coiba", "paper").layers
    'paper'
    >>> dict(preset_of("iba").settings)
    {'beta': 1.0}
    """
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}, expected one of {list(PRESETS)}")
    return PRESETS[name].get(method, _OTHERS[name])
