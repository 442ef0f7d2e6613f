"""Information-bottleneck attribution for Captum: IBA, CoIBA, NIB and M2IB.

Importing this package is cheap: torch and everything above it are loaded when a name is first used.

>>> import captum_ib
>>> captum_ib.IBA.__name__
'IBA'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from captum_ib import (
        attr,
        baselines,
        bottleneck,
        forward,
        hooks,
        loading,
        methods,
        metrics,
        models,
        visualization,
        zoo,
    )
    from captum_ib.attr.ca_m2ib import CAM2IB
    from captum_ib.attr.coiba import CoIBA
    from captum_ib.attr.com2ib import CoM2IB
    from captum_ib.attr.iba import IBA
    from captum_ib.attr.m2ib import M2IB
    from captum_ib.attr.nib import NIB
    from captum_ib.baselines.attention_gradcam import AttentionGradCAM
    from captum_ib.baselines.attention_rollout import AttentionRollout
    from captum_ib.baselines.beyond_intuition import BeyondIntuition
    from captum_ib.baselines.fast_ig import FastIG
    from captum_ib.baselines.generic_attention import GenericAttention
    from captum_ib.baselines.iia import IIA
    from captum_ib.baselines.layer_gradcam import LayerGradCAM
    from captum_ib.baselines.mfaba import MFABA
    from captum_ib.baselines.rise import RISE
    from captum_ib.baselines.score_cam import ScoreCAM
    from captum_ib.baselines.transformer_attribution import TransformerAttribution
    from captum_ib.baselines.vit_cx import ViTCX
    from captum_ib.bottleneck.statistics import ActivationStatistics
    from captum_ib.forward.masks import Mask
    from captum_ib.layout import TokenLayout
    from captum_ib.loading.load import load
    from captum_ib.metrics.layer_ranking import rank_layers
    from captum_ib.models.dual_encoder import DualEncoder, TowerView, ZeroShotClassifier

__version__ = "0.1.0"

# Where each public name lives; a new name is one line here and one import above.
_HOME = {
    "IBA": "captum_ib.attr.iba",
    "CAM2IB": "captum_ib.attr.ca_m2ib",
    "CoIBA": "captum_ib.attr.coiba",
    "CoM2IB": "captum_ib.attr.com2ib",
    "NIB": "captum_ib.attr.nib",
    "M2IB": "captum_ib.attr.m2ib",
    "AttentionGradCAM": "captum_ib.baselines.attention_gradcam",
    "AttentionRollout": "captum_ib.baselines.attention_rollout",
    "BeyondIntuition": "captum_ib.baselines.beyond_intuition",
    "FastIG": "captum_ib.baselines.fast_ig",
    "GenericAttention": "captum_ib.baselines.generic_attention",
    "IIA": "captum_ib.baselines.iia",
    "LayerGradCAM": "captum_ib.baselines.layer_gradcam",
    "MFABA": "captum_ib.baselines.mfaba",
    "RISE": "captum_ib.baselines.rise",
    "ScoreCAM": "captum_ib.baselines.score_cam",
    "TransformerAttribution": "captum_ib.baselines.transformer_attribution",
    "ViTCX": "captum_ib.baselines.vit_cx",
    "ActivationStatistics": "captum_ib.bottleneck.statistics",
    "DualEncoder": "captum_ib.models.dual_encoder",
    "TowerView": "captum_ib.models.dual_encoder",
    "ZeroShotClassifier": "captum_ib.models.dual_encoder",
    "Mask": "captum_ib.forward.masks",
    "TokenLayout": "captum_ib.layout",
    "load": "captum_ib.loading.load",
    "rank_layers": "captum_ib.metrics.layer_ranking",
}
_ROOMS = (
    "attr",
    "baselines",
    "bottleneck",
    "forward",
    "hooks",
    "loading",
    "methods",
    "metrics",
    "models",
    "visualization",
    "zoo",
)

__all__ = [
    "CAM2IB",
    "IBA",
    "IIA",
    "M2IB",
    "MFABA",
    "NIB",
    "RISE",
    "ActivationStatistics",
    "AttentionGradCAM",
    "AttentionRollout",
    "BeyondIntuition",
    "CoIBA",
    "CoM2IB",
    "DualEncoder",
    "FastIG",
    "GenericAttention",
    "LayerGradCAM",
    "Mask",
    "ScoreCAM",
    "TokenLayout",
    "TowerView",
    "TransformerAttribution",
    "ViTCX",
    "ZeroShotClassifier",
    "__version__",
    "attr",
    "baselines",
    "bottleneck",
    "forward",
    "hooks",
    "load",
    "loading",
    "methods",
    "metrics",
    "models",
    "rank_layers",
    "visualization",
    "zoo",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
    elif name in _ROOMS:
        value = import_module(f"captum_ib.{name}")
    else:
        raise AttributeError(f"module 'captum_ib' has no attribute {name!r}")
    globals()[name] = value  # the next access does not come through here
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
