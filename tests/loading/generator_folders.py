"""Folders of small vision-language models, as transformers writes them, with their processors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests.models.generators import BY_NAME

WORDS = "what colour is the circle red blue a square USER ASSISTANT : ?".split()
CHAT = (
    "{% for m in messages %}USER : {% for c in m.content %}{% if c.type == 'image' %}IMAGE"
    "{% else %}{{ c.text }}{% endif %} {% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT :{% endif %}"
)
_SMALL = {"height": 32, "width": 32}
# Special words, the last with the ids 36 to 39; what the template puts where a picture is; the
# stem of the processor's class, its settings, and those of its image processor.
KINDS: dict[str, tuple[dict[str, str], str, str, dict[str, Any], dict[str, Any]]] = {
    "PaliGemma": ({"image_token": "<image>"}, "", "PaliGemma", {}, {}),
    "LLaVA": (
        {"image_token": "<image>"},
        "<image>",
        "Llava",
        {
            "patch_size": 8,
            "vision_feature_select_strategy": "default",
            "num_additional_image_tokens": 1,
        },
        {"size": {"shortest_edge": 32}, "crop_size": _SMALL},
    ),
    "Gemma 3": (
        {
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
            "video_token": "<video>",
            "image_token": "<image_soft_token>",
        },
        "<start_of_image>",
        "Gemma3",
        {"image_seq_length": 4},
        {},
    ),
    **{
        shown: (
            {
                "start": "<|vision_start|>",
                "end": "<|vision_end|>",
                "video_token": "<|video_pad|>",
                "image_token": "<|image_pad|>",
            },
            "<|vision_start|><|image_pad|><|vision_end|>",
            stem,
            {},
            {
                "patch_size": 4,
                "merge_size": 2,
                "temporal_patch_size": 2,
                "size": {"shortest_edge": 512, "longest_edge": 2048},
            },
        )
        for shown, stem in (
            ("Qwen2-VL", "Qwen2VL"),
            ("Qwen2.5-VL", "Qwen2_5_VL"),
            ("Qwen3-VL", "Qwen3VL"),
        )
    },
    "LLaVA-NeXT": (
        {"image_token": "<image>"},
        "<image>",
        "LlavaNext",
        {
            "patch_size": 8,
            "vision_feature_select_strategy": "default",
            "num_additional_image_tokens": 1,
        },
        {
            "size": {"shortest_edge": 32},
            "crop_size": _SMALL,
            "image_grid_pinpoints": [[32, 64], [64, 32], [64, 64]],
        },
    ),
    "LLaVA-OneVision": (
        {"video_token": "<video>", "image_token": "<image>"},
        "<image>",
        "LlavaOnevision",
        {"num_image_tokens": 16, "vision_feature_select_strategy": "full"},
        {"image_grid_pinpoints": [[32, 64], [64, 32], [64, 64]]},
    ),
    **{
        stem: (
            {
                "fake": "<fake_token_around_image>",
                "global": "<global-img>",
                "end": "<end_of_utterance>",
                "image_token": "<image>",
            },
            "<image>",
            stem,
            {"image_seq_len": 4},
            {"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 32}},
        )
        for stem in ("Idefics3", "SmolVLM")
    },
    "InternVL": (
        {
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "video_token": "<video>",
            "context_image_token": "<IMG_CONTEXT>",
        },
        "<IMG_CONTEXT>",
        "InternVL",
        {"image_seq_length": 4},
        {"crop_to_patches": False},
    ),
}
_SIZED = ("PaliGemma", "Gemma 3", "LLaVA-OneVision", "InternVL")


def words(named: dict[str, str]) -> Any:
    """A tokenizer of 40 words, the special ones last."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = list(named.values())
    known = ["<pad>", "<unk>", "<s>", "</s>", *WORDS]
    known += [f"w{i}" for i in range(40 - len(known) - len(special))] + special
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(known)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    roles = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, extra_special_tokens=named, model_max_length=200, **roles
    )


def processor(name: str) -> Any:
    import transformers
    from transformers.models.auto import image_processing_auto, video_processing_auto

    named, placed, stem, own, images = KINDS[name]
    family = BY_NAME[name].build().config.model_type
    kind = image_processing_auto.IMAGE_PROCESSOR_MAPPING_NAMES[family]["torchvision"]
    sized = {"size": _SMALL} if name in _SIZED else {}
    image = getattr(transformers, kind)(**{**sized, **images})
    if name == "PaliGemma":
        image.image_seq_length = 16
    videos = video_processing_auto.VIDEO_PROCESSOR_MAPPING_NAMES.get(family)
    seen = {"video_processor": getattr(transformers, videos["torchvision"])()} if videos else {}
    template = CHAT.replace("IMAGE", placed) if placed else None
    tokenizer = words(named)
    return getattr(transformers, f"{stem}Processor")(
        image_processor=image, tokenizer=tokenizer, chat_template=template, **own, **seen
    )


def write(name: str, folder: Path) -> Path:
    """A folder with model and processor; matrices are made large, so that the picture matters."""
    torch.manual_seed(0)
    model = BY_NAME[name].build().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    model.save_pretrained(folder)
    processor(name).save_pretrained(folder)
    return folder
