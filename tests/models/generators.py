"""Supported models that generate text about an image, of random weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import nn

from tests.models.rows import TOWER, Row, images, maps

LANGUAGE = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "pad_token_id": 0,
}
VISION = {**TOWER, "image_size": 32, "patch_size": 8}
IMAGE_TOKEN = 39


def paligemma() -> nn.Module:
    from transformers import (
        GemmaConfig,
        PaliGemmaConfig,
        PaliGemmaForConditionalGeneration,
        SiglipVisionConfig,
    )

    config = PaliGemmaConfig(
        vision_config=SiglipVisionConfig(**VISION, vision_use_head=False).to_dict(),
        text_config=GemmaConfig(**LANGUAGE).to_dict(),
        image_token_index=IMAGE_TOKEN,
        projection_dim=16,
        hidden_size=16,
    )
    return PaliGemmaForConditionalGeneration(config)


def llava() -> nn.Module:
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
    )

    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION),
        text_config=LlamaConfig(**LANGUAGE),
        image_token_index=IMAGE_TOKEN,
        image_seq_length=16,
    )
    return LlavaForConditionalGeneration(config)


def llava_next(name: str = "LlavaNext") -> nn.Module:
    import transformers

    language = {key: value for key, value in LANGUAGE.items() if key != "head_dim"}
    parts = {
        "LlavaNext": (transformers.CLIPVisionConfig(**VISION), transformers.LlamaConfig),
        "LlavaOnevision": (
            transformers.SiglipVisionConfig(**VISION, vision_use_head=False),
            transformers.Qwen2Config,
        ),
    }
    vision, text = parts[name]
    config = getattr(transformers, f"{name}Config")(
        vision_config=vision,
        text_config=text(**language),
        image_token_index=IMAGE_TOKEN,
        image_grid_pinpoints=[[32, 64], [64, 32], [64, 64]],
    )
    return getattr(transformers, f"{name}ForConditionalGeneration")(config)


def qwen(name: str) -> nn.Module:
    import transformers

    rotary = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
    shared = {"depth": 3, "num_heads": 2, "patch_size": 4, "spatial_merge_size": 2}
    wide = {"hidden_size": 16, "intermediate_size": 32, "out_hidden_size": 16}
    vision = {
        "Qwen2VL": {"embed_dim": 16, "hidden_size": 16, "mlp_ratio": 2},
        "Qwen2_5_VL": {**wide, "window_size": 16, "fullatt_block_indexes": [2]},
        "Qwen3VL": {**wide, "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]},
    }[name]
    config = getattr(transformers, f"{name}Config")(
        text_config={**LANGUAGE, "rope_parameters": rotary},
        vision_config={**shared, **vision, "temporal_patch_size": 2},
        image_token_id=IMAGE_TOKEN,
        vision_start_token_id=36,
        vision_end_token_id=37,
        video_token_id=38,
    )
    return getattr(transformers, f"{name}ForConditionalGeneration")(config)


def intern_vl() -> nn.Module:
    import transformers

    language = {key: value for key, value in LANGUAGE.items() if key != "head_dim"}
    vision = {**VISION, "image_size": [32, 32], "patch_size": [8, 8]}
    config = transformers.InternVLConfig(
        vision_config=transformers.InternVLVisionConfig(**vision),
        text_config=transformers.Qwen2Config(**language),
        image_token_id=IMAGE_TOKEN,
        image_seq_length=4,
    )
    return transformers.InternVLForConditionalGeneration(config)


def idefics(name: str) -> nn.Module:
    import transformers

    config = getattr(transformers, f"{name}Config")(
        vision_config=dict(VISION),
        text_config=transformers.LlamaConfig(**LANGUAGE).to_dict(),
        image_token_id=IMAGE_TOKEN,
        scale_factor=2,
    )
    return getattr(transformers, f"{name}ForConditionalGeneration")(config)


def gemma3() -> nn.Module:
    import transformers

    config = transformers.Gemma3Config(
        vision_config=transformers.SiglipVisionConfig(**VISION, vision_use_head=False).to_dict(),
        text_config=transformers.Gemma3TextConfig(**LANGUAGE).to_dict(),
        image_token_index=IMAGE_TOKEN,
        mm_tokens_per_image=4,
        boi_token_index=36,
        eoi_token_index=37,
    )
    return transformers.Gemma3ForConditionalGeneration(config)


def prompt(*pieces: int | list[int]) -> torch.Tensor:
    """Ids; a list of one number stands for so many image tokens."""
    ids = [[IMAGE_TOKEN] * one[0] if isinstance(one, list) else [one] for one in pieces]
    return torch.tensor([number for piece in ids for number in piece])


ONE, TILES = (4, 4), [(4, 4), (4, 8)]
ANYRES = prompt(1, 5, [16 + 4 * 9], 6, 9)
ANYRES_SIZE = {"image_sizes": torch.tensor([[32, 64]])}
PATCHES = {"image_grid_thw": torch.tensor([[1, 8, 12]])}
PACKED = prompt(1, 36, [24], 37, 6, 9)
TWO = prompt(1, 36, [4], 37, 36, [4], 37, 6, 9)


def pictures(*shape: int) -> torch.Tensor:
    """The same numbers every time."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True)
class Generator:
    """A model that answers, and how it is asked.

    Attributes:
        name: as the docs print it.
        build: the model.
        prompt: ids of the prompt.
        pixels: shape of the pixels of two samples.
        grids: of its pictures.
        extra: further arguments of one sample.
        merges: whether the map is one grid; else it is over all tokens.
        needs: the class, which older versions lack.
        note: for the docs.
    """

    name: str
    build: Callable[[], nn.Module]
    prompt: torch.Tensor
    pixels: tuple[int, ...]
    grids: list[tuple[int, int]]
    extra: dict[str, torch.Tensor] = field(default_factory=dict)
    merges: bool = True
    needs: str | None = None
    note: str = ""


ANSWER = torch.tensor([11, 12, 3])
_FLAT = (2, 3, 32, 32)
MODELS = (
    Generator("PaliGemma", paligemma, prompt([16], 2, 7, 8), _FLAT, [ONE]),
    Generator("LLaVA", llava, prompt(1, 5, [16], 6, 9), _FLAT, [ONE]),
    Generator(
        "Gemma 3",
        gemma3,
        prompt(1, 36, [4], 37, 6, 9),
        _FLAT,
        [(2, 2)],
        needs="Gemma3ForConditionalGeneration",
        note="a pooled grid",
    ),
    *(
        Generator(
            shown,
            partial(qwen, name),
            PACKED,
            (2, 96, 96),
            [(4, 6)],
            PATCHES,
            needs=f"{name}ForConditionalGeneration",
            note="packed patches",
        )
        for shown, name in (
            ("Qwen2-VL", "Qwen2VL"),
            ("Qwen2.5-VL", "Qwen2_5_VL"),
            ("Qwen3-VL", "Qwen3VL"),
        )
    ),
    *(
        Generator(
            shown,
            partial(llava_next, name),
            ANYRES,
            (2, 3, 3, 32, 32),
            TILES,
            ANYRES_SIZE,
            merges=False,
            needs=f"{name}ForConditionalGeneration",
            note="the picture small, and its tiles joined",
        )
        for shown, name in (("LLaVA-NeXT", "LlavaNext"), ("LLaVA-OneVision", "LlavaOnevision"))
    ),
    *(
        Generator(
            shown,
            partial(idefics, name),
            TWO,
            (2, 2, 3, 32, 32),
            [(2, 2), (2, 2)],
            merges=False,
            needs=f"{name}ForConditionalGeneration",
            note="two pictures, or two tiles",
        )
        for shown, name in (("Idefics3", "Idefics3"), ("SmolVLM", "SmolVLM"))
    ),
    Generator(
        "InternVL",
        intern_vl,
        prompt(1, 36, [8], 37, 9),
        (2, 2, 3, 32, 32),
        [(2, 2), (2, 2)],
        merges=False,
        needs="InternVLForConditionalGeneration",
        note="two tiles",
    ),
)
BY_NAME = {model.name: model for model in MODELS}
PROMPTS = {model.name: model.prompt for model in MODELS}


def answering(name: str) -> Callable[[nn.Module], nn.Module]:
    def forward(model: nn.Module) -> nn.Module:
        from captum_ib.models import AnswerLogProbability

        return AnswerLogProbability(model, PROMPTS[name], ANSWER, BY_NAME[name].extra)

    return forward


def _shapes(model: Generator) -> dict[str, tuple[int, ...]]:
    if model.merges:
        return maps(2, *model.grids * 3)
    return dict.fromkeys(("iba", "coiba", "nib"), (2, len(model.prompt) + len(ANSWER)))


def _pixels(model: Generator) -> Callable[[], torch.Tensor]:
    return (
        (lambda: images(2, 32, 32)) if model.pixels == _FLAT else partial(pictures, *model.pixels)
    )


GENERATORS = tuple(
    Row(
        model.name,
        "transformers",
        model.build,
        _pixels(model),
        _shapes(model),
        target=None,
        forward=answering(model.name),
        needs=None if model.needs is None else f"transformers:{model.needs}",
        note=model.note or "one grid of patches",
    )
    for model in MODELS
)
