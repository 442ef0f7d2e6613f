"""Small runs on the models of the zoo."""

from __future__ import annotations

from typing import Any

from captum_ib.benchmark.config import RunConfig

SCENES = {"kind": "scenes", "options": {"seed": 11}}
IOU = ("iou",)


def vit(**given: Any) -> RunConfig:
    """A run on vit-scenes that takes a fraction of a second per sample."""
    few = {"method": "coiba", "settings": {"n_steps": 2, "n_samples": 2}}
    values = {
        "model": "zoo:vit-scenes",
        "data": SCENES,
        "methods": ["nib", few, "random"],
        "metrics": ["iou", "deletion"],
        "samples": 4,
        "batch_size": 2,
    }
    return RunConfig.from_dict({**values, **given})


def clip(**given: Any) -> RunConfig:
    """A run on clip-scenes."""
    few = {"method": "m2ib", "settings": {"n_steps": 2, "n_samples": 2}}
    values = {
        "model": "zoo:clip-scenes",
        "data": SCENES,
        "methods": ["nib", few, "random"],
        "metrics": ["iou", "drop_text", "word_share", "word_auc"],
        "samples": 4,
        "batch_size": 2,
    }
    return RunConfig.from_dict({**values, **given})
