"""The table of dual encoders: which family a model is of, and what makes its towers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from captum_ib.models.albef import albef_towers
from captum_ib.models.align import align_towers
from captum_ib.models.blip import blip_towers
from captum_ib.models.clap import clap_towers
from captum_ib.models.clip import (
    aimv2_towers,
    altclip_towers,
    chinese_clip_towers,
    clip_towers,
    flava_towers,
    groupvit_towers,
    metaclip2_towers,
    owlvit_towers,
)
from captum_ib.models.imagebind_towers import imagebind_towers
from captum_ib.models.open_clip import open_clip_towers
from captum_ib.models.sentence import sentence_towers
from captum_ib.models.siglip import siglip2_towers, siglip_towers
from captum_ib.models.tower import Tower
from captum_ib.models.vision_text import vision_text_towers

FAMILIES: dict[str, Callable[[Any], list[Tower]]] = {
    "clip": clip_towers,
    "clipseg": clip_towers,
    "owlvit": owlvit_towers,
    "owlv2": owlvit_towers,
    "aimv2": aimv2_towers,
    "flava": flava_towers,
    "groupvit": groupvit_towers,
    "metaclip_2": metaclip2_towers,
    "siglip": siglip_towers,
    "siglip2": siglip2_towers,
    "albef": albef_towers,
    "align": align_towers,
    "altclip": altclip_towers,
    "chinese_clip": chinese_clip_towers,
    "blip": blip_towers,
    "clap": clap_towers,
    "imagebind": imagebind_towers,
    "vision-text-dual-encoder": vision_text_towers,
    "open_clip": open_clip_towers,
    "captum_ib": sentence_towers,
}
"""Family → its towers. The key is transformers' ``config.model_type``, or the library's name."""


def towers_of(model: nn.Module) -> list[Tower]:
    """The towers of a model of a known family.

    Raises:
        TypeError: another model, with the families that are known and what to do instead.
    """
    library = type(model).__module__.partition(".")[0]
    config = getattr(model, "config", None)
    stated = getattr(config, "model_type", None)
    # Of this library's own dual encoders one, of sentences, states nothing.
    family = library if library in FAMILIES and stated not in ("imagebind", "albef") else stated
    if family not in FAMILIES:
        raise TypeError(
            f"{type(model).__name__} is of no known family of dual encoders "
            f"({', '.join(FAMILIES)}); build DualEncoder(model, towers) from two Tower objects"
        )
    return FAMILIES[family](model)
