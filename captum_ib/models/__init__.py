"""What the library knows about architectures: layers, towers, dual encoders, wrappers.

>>> from captum_ib import models
>>> models.DualEncoder.__name__
'DualEncoder'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from captum_ib.layout import TokenLayout
    from captum_ib.models.answer import AnswerLogProbability
    from captum_ib.models.dual_encoder import (
        DualEncoder,
        TowerEmbedding,
        TowerView,
        ZeroShotClassifier,
    )
    from captum_ib.models.tower import Tower

# Where each public name lives.
_HOME = {
    "AnswerLogProbability": "captum_ib.models.answer",
    "DualEncoder": "captum_ib.models.dual_encoder",
    "TokenLayout": "captum_ib.layout",
    "Tower": "captum_ib.models.tower",
    "TowerEmbedding": "captum_ib.models.dual_encoder",
    "TowerView": "captum_ib.models.dual_encoder",
    "ZeroShotClassifier": "captum_ib.models.dual_encoder",
}

__all__ = [
    "AnswerLogProbability",
    "DualEncoder",
    "TokenLayout",
    "Tower",
    "TowerEmbedding",
    "TowerView",
    "ZeroShotClassifier",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
