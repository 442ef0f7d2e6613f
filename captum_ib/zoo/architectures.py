"""Say what the models of the zoo look like, and build them from a configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from captum_ib.zoo.captions import vocabulary
from captum_ib.zoo.relations import DIRECTIONS
from captum_ib.zoo.shapes import NAMED_SHAPES


@dataclass(frozen=True)
class Spec:
    """What is fixed about a model of the zoo.

    Attributes:
        name: Name in the zoo.
        size: Height and width of its images in pixels.
        patch: Height and width of its patches in pixels.
        mean, std: Normalisation of images in [0, 1], the same for the three channels.
    """

    name: str
    size: int
    patch: int
    mean: float = 0.5
    std: float = 0.25


SPECS: dict[str, Spec] = {
    spec.name: spec
    for spec in (
        Spec("clip-scenes", size=56, patch=8),
        Spec("vit-scenes", size=64, patch=8),
        Spec("vit-relations", size=96, patch=8),
    )
}

WIDTH = 64
_HEADS = 4
_MAX_TOKENS = 16
# Blocks and classes of the classifiers.
_VITS: dict[str, tuple[int, tuple[str, ...]]] = {
    "vit-scenes": (8, NAMED_SHAPES),
    "vit-relations": (6, DIRECTIONS),
}


def clip_config() -> dict[str, Any]:
    """The configuration of ``clip-scenes``, as transformers' ``CLIPConfig`` reads it.

    It also says how images are normalised, which ``CLIPConfig`` keeps without using it.
    """
    spec, words = SPECS["clip-scenes"], len(vocabulary())
    tower = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_attention_heads": _HEADS,
        "projection_dim": WIDTH,
        "hidden_act": "gelu",
    }
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        **_normalisation(spec),
        "projection_dim": WIDTH,
        "text_config": {
            **tower,
            "model_type": "clip_text_model",
            "num_hidden_layers": 6,
            "max_position_embeddings": _MAX_TOKENS,
            "vocab_size": words,
            # The end token comes last, so the highest id (transformers before 4.30) finds it too.
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": words - 1,
        },
        "vision_config": {
            **tower,
            "model_type": "clip_vision_model",
            "num_hidden_layers": 8,
            "image_size": spec.size,
            "patch_size": spec.patch,
        },
    }


def vit_config(name: str = "vit-scenes") -> dict[str, Any]:
    """The configuration of a classifier: arguments of timm's ``VisionTransformer``; labels."""
    spec, (depth, labels) = SPECS[name], _VITS[name]
    return {
        "constructor": "timm.models.vision_transformer.VisionTransformer",
        "kwargs": {
            "img_size": spec.size,
            "patch_size": spec.patch,
            "embed_dim": WIDTH,
            "depth": depth,
            "num_heads": _HEADS,
            "num_classes": len(labels),
        },
        "label_names": list(labels),
        **_normalisation(spec),
    }


def processor_config() -> dict[str, Any]:
    """How pictures become inputs of ``clip-scenes``, for transformers' ``CLIPImageProcessor``."""
    spec = SPECS["clip-scenes"]
    side = {"height": spec.size, "width": spec.size}
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_center_crop": False,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [spec.mean] * 3,
        "image_std": [spec.std] * 3,
        "resample": 2,  # bilinear, as ZooModel.preprocess
        "size": side,
    }


def _normalisation(spec: Spec) -> dict[str, list[float]]:
    return {"mean": [spec.mean] * 3, "std": [spec.std] * 3}


def config_of(name: str) -> dict[str, Any]:
    """The configuration of a model of the zoo by its name."""
    return clip_config() if name == "clip-scenes" else vit_config(name)


def build(config: dict[str, Any]) -> nn.Module:
    """A model with fresh weights from what :func:`config_of` returns.

    timm and transformers are imported here and not above, because they take seconds to load.
    """
    if config.get("model_type") == "clip":
        from transformers import CLIPConfig, CLIPModel

        return CLIPModel(CLIPConfig(**config))
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(**config["kwargs"])
