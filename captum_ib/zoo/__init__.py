"""Three tiny trained models and the generated scenes they were trained on; nothing to download.

>>> from captum_ib import zoo
>>> model = zoo.load("clip-scenes")
>>> scenes = zoo.scenes.captioned(1, seed=0)
>>> ids, mask = model.tokenizer.encode(scenes.captions)
>>> outputs = model.model(ids, model.normalize(scenes.images), attention_mask=mask)
>>> outputs.logits_per_image.shape
torch.Size([1, 1])
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from captum_ib.lazy import attach

if TYPE_CHECKING:
    from captum_ib.zoo import radiographs as radiographs
    from captum_ib.zoo import relations as relations
    from captum_ib.zoo import scenes as scenes
    from captum_ib.zoo.loading import ZooModel as ZooModel
    from captum_ib.zoo.loading import load as load
    from captum_ib.zoo.loading import names as names
    from captum_ib.zoo.tokenizer import WordTokenizer as WordTokenizer

# Where each public name lives; torch, timm and transformers are loaded when one is first used.
_HOMES = {
    "ZooModel": "captum_ib.zoo.loading",
    "load": "captum_ib.zoo.loading",
    "names": "captum_ib.zoo.loading",
    "WordTokenizer": "captum_ib.zoo.tokenizer",
}

__getattr__, __dir__, __all__ = attach(__name__, _HOMES, ["radiographs", "relations", "scenes"])
