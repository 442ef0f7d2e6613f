"""Two tiny trained models and the generated scenes they were trained on; nothing to download.

>>> from captum_ib import zoo
>>> model = zoo.load("clip-scenes")
>>> scenes = zoo.scenes.captioned(1, seed=0)
>>> ids, mask = model.tokenizer.encode(scenes.captions)
>>> outputs = model.model(ids, model.normalize(scenes.images), attention_mask=mask)
>>> outputs.logits_per_image.shape
torch.Size([1, 1])
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from captum_ib.zoo import scenes
    from captum_ib.zoo.loading import ZooModel, load, names
    from captum_ib.zoo.tokenizer import WordTokenizer

# Where each public name lives; torch, timm and transformers are loaded when one is first used.
_HOME = {
    "ZooModel": "captum_ib.zoo.loading",
    "load": "captum_ib.zoo.loading",
    "names": "captum_ib.zoo.loading",
    "WordTokenizer": "captum_ib.zoo.tokenizer",
}

__all__ = ["WordTokenizer", "ZooModel", "load", "names", "scenes"]


def __getattr__(name: str) -> Any:
    if name == "scenes":
        return import_module("captum_ib.zoo.scenes")
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
