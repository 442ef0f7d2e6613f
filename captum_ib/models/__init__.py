"""What the library knows about architectures: layouts, layers, dual encoders, loading.

>>> from captum_ib import models
>>> models.load("vit-scenes").kind
'classifier'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# At once, unlike the rest: importing the module of that name later would hide the function.
from captum_ib.models.load import load

if TYPE_CHECKING:
    from captum_ib.models.answer import AnswerLogProbability
    from captum_ib.models.dual_encoder import DualEncoder, TowerView, ZeroShotClassifier
    from captum_ib.models.layout import TokenLayout
    from captum_ib.models.tower import Tower

# Where each public name lives, imported when it is asked for.
_HOME = {
    "AnswerLogProbability": "captum_ib.models.answer",
    "DualEncoder": "captum_ib.models.dual_encoder",
    "TokenLayout": "captum_ib.models.layout",
    "Tower": "captum_ib.models.tower",
    "TowerView": "captum_ib.models.dual_encoder",
    "ZeroShotClassifier": "captum_ib.models.dual_encoder",
}

__all__ = [
    "AnswerLogProbability",
    "DualEncoder",
    "TokenLayout",
    "Tower",
    "TowerView",
    "ZeroShotClassifier",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
