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
    from captum_ib import attr, bottleneck, hooks, methods, metrics, models, visualization, zoo
    from captum_ib.attr.coiba import CoIBA
    from captum_ib.attr.iba import IBA
    from captum_ib.attr.m2ib import M2IB
    from captum_ib.attr.nib import NIB
    from captum_ib.bottleneck.statistics import ActivationStatistics
    from captum_ib.models.dual_encoder import DualEncoder, TowerView, ZeroShotClassifier
    from captum_ib.models.layout import TokenLayout

__version__ = "0.1.0"

# Where each public name lives; a new name is one line here and one import above.
_HOME = {
    "IBA": "captum_ib.attr.iba",
    "CoIBA": "captum_ib.attr.coiba",
    "NIB": "captum_ib.attr.nib",
    "M2IB": "captum_ib.attr.m2ib",
    "ActivationStatistics": "captum_ib.bottleneck.statistics",
    "DualEncoder": "captum_ib.models.dual_encoder",
    "TowerView": "captum_ib.models.dual_encoder",
    "ZeroShotClassifier": "captum_ib.models.dual_encoder",
    "TokenLayout": "captum_ib.models.layout",
}
_ROOMS = ("attr", "bottleneck", "hooks", "methods", "metrics", "models", "visualization", "zoo")

__all__ = [
    "IBA",
    "M2IB",
    "NIB",
    "ActivationStatistics",
    "CoIBA",
    "DualEncoder",
    "TokenLayout",
    "TowerView",
    "ZeroShotClassifier",
    "__version__",
    "attr",
    "bottleneck",
    "hooks",
    "methods",
    "metrics",
    "models",
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
