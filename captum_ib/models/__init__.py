"""What the library knows about architectures: layers, towers, dual encoders, wrappers.

>>> from captum_ib import models
>>> models.DualEncoder.__name__
'DualEncoder'
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from captum_ib.lazy import attach

if TYPE_CHECKING:
    from captum_ib.layout import TokenLayout as TokenLayout
    from captum_ib.models.answer import AnswerLogProbability as AnswerLogProbability
    from captum_ib.models.dual_encoder import DualEncoder as DualEncoder
    from captum_ib.models.dual_encoder import TowerEmbedding as TowerEmbedding
    from captum_ib.models.dual_encoder import TowerView as TowerView
    from captum_ib.models.dual_encoder import ZeroShotClassifier as ZeroShotClassifier
    from captum_ib.models.sentence import SentenceEncoder as SentenceEncoder
    from captum_ib.models.tower import Tower as Tower

# Where each public name lives; a new name is one line here and one import above.
_HOMES = {
    "AnswerLogProbability": "captum_ib.models.answer",
    "DualEncoder": "captum_ib.models.dual_encoder",
    "TokenLayout": "captum_ib.layout",
    "SentenceEncoder": "captum_ib.models.sentence",
    "Tower": "captum_ib.models.tower",
    "TowerEmbedding": "captum_ib.models.dual_encoder",
    "TowerView": "captum_ib.models.dual_encoder",
    "ZeroShotClassifier": "captum_ib.models.dual_encoder",
}

__getattr__, __dir__, __all__ = attach(__name__, _HOMES)
