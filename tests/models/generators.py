"""Supported models that generate text about an image, of random weights."""

from __future__ import annotations

from collections.abc import Callable

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


PROMPTS = {
    "PaliGemma": torch.tensor([IMAGE_TOKEN] * 16 + [2, 7, 8]),
    "LLaVA": torch.tensor([1, 5, *[IMAGE_TOKEN] * 16, 6, 9]),
}
ANSWER = torch.tensor([11, 12, 3])


def answering(name: str) -> Callable[[nn.Module], nn.Module]:
    def forward(model: nn.Module) -> nn.Module:
        from captum_ib.models import AnswerLogProbability

        return AnswerLogProbability(model, PROMPTS[name], ANSWER)

    return forward


GENERATORS = tuple(
    Row(
        name,
        "transformers",
        build,
        lambda: images(2, 32, 32),
        maps(2, (4, 4), (4, 4), (4, 4)),
        target=None,
        forward=answering(name),
        note="log-probability of an answer; the language model's layers",
    )
    for name, build in (("PaliGemma", paligemma), ("LLaVA", llava))
)
