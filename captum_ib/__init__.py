"""Information-bottleneck attribution for Captum: IBA, CoIBA, NIB and M2IB.

Importing this package is cheap: torch and everything above it are loaded when a name is first used.

>>> import captum_ib
>>> captum_ib.IBA.__name__
'IBA'
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from captum_ib.lazy import attach
from captum_ib.methods import METHODS

if TYPE_CHECKING:  # every name of _HOMES and _ROOMS, for type checkers
    from captum_ib import attr as attr
    from captum_ib import baselines as baselines
    from captum_ib import bottleneck as bottleneck
    from captum_ib import curve as curve
    from captum_ib import forward as forward
    from captum_ib import hooks as hooks
    from captum_ib import layout as layout
    from captum_ib import loading as loading
    from captum_ib import methods as methods
    from captum_ib import metrics as metrics
    from captum_ib import models as models
    from captum_ib import visualization as visualization
    from captum_ib import zoo as zoo
    from captum_ib.attr import *  # noqa: F403
    from captum_ib.baselines import *  # noqa: F403
    from captum_ib.bottleneck.statistics import ActivationStatistics as ActivationStatistics
    from captum_ib.curve.bits_curve import BitsCurve as BitsCurve
    from captum_ib.explaining.explain import explain as explain
    from captum_ib.explaining.explanation import Explanation as Explanation
    from captum_ib.forward.masks import Mask as Mask
    from captum_ib.forward.mistakes import InputWarning as InputWarning
    from captum_ib.layout import TokenLayout as TokenLayout
    from captum_ib.loading.load import load as load
    from captum_ib.metrics.layer_ranking import rank_layers as rank_layers
    from captum_ib.models.dual_encoder import DualEncoder as DualEncoder
    from captum_ib.models.dual_encoder import TowerView as TowerView
    from captum_ib.models.dual_encoder import ZeroShotClassifier as ZeroShotClassifier
    from captum_ib.segments import per_segment as per_segment

__version__ = "0.1.0"

# Where each public name lives: the methods as the table says, then the others.
_HOMES = {
    **{
        row.title: row.cls_path.partition(":")[0]
        for row in METHODS.values()
        if row.cls_path.startswith("captum_ib.")
    },
    "ActivationStatistics": "captum_ib.bottleneck.statistics",
    "BitsCurve": "captum_ib.curve.bits_curve",
    "CrossAttention": "captum_ib.attr.ca_m2ib",
    "DualEncoder": "captum_ib.models.dual_encoder",
    "Explanation": "captum_ib.explaining.explanation",
    "InputWarning": "captum_ib.forward.mistakes",
    "Mask": "captum_ib.forward.masks",
    "TokenLayout": "captum_ib.layout",
    "TowerView": "captum_ib.models.dual_encoder",
    "ZeroShotClassifier": "captum_ib.models.dual_encoder",
    "explain": "captum_ib.explaining.explain",
    "libra": "captum_ib.baselines.libra_grad",
    "load": "captum_ib.loading.load",
    "per_segment": "captum_ib.segments",
    "rank_layers": "captum_ib.metrics.layer_ranking",
}
_ROOMS = (
    "attr",
    "baselines",
    "bottleneck",
    "curve",
    "forward",
    "hooks",
    "layout",
    "loading",
    "methods",
    "metrics",
    "models",
    "visualization",
    "zoo",
)

__getattr__, __dir__, __all__ = attach(__name__, _HOMES, _ROOMS)
__all__.append("__version__")
