"""Supported dual encoders: small models of random weights, and the shapes of their maps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tests.models.rows import LENGTHS, TOWER, Row, images, token_ids, token_mask


def hf_dual(family: str, model: str = "Model", **settings: Any) -> Callable[[], nn.Module]:
    """A transformers dual encoder."""

    def build() -> nn.Module:
        import transformers

        implementation = {k: v for k, v in settings.items() if k == "attn_implementation"}
        config = getattr(transformers, f"{family}Config")(
            **{k: v for k, v in settings.items() if k not in implementation}
        )
        return getattr(transformers, f"{family}{model}")._from_config(config, **implementation)

    return build


def vision_text() -> nn.Module:
    """A ViT and a BERT with two projections."""
    import transformers

    config = transformers.VisionTextDualEncoderConfig.from_vision_text_configs(
        transformers.ViTConfig(**VISION), transformers.BertConfig(**TEXT), projection_dim=16
    )
    return transformers.VisionTextDualEncoderModel(config)


def albef() -> nn.Module:
    """ALBEF's contrastive part: a ViT of timm and a BERT."""
    import transformers

    from captum_ib.models.albef import Albef

    vision = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 5, "num_heads": 2}
    return Albef(vision, transformers.BertConfig(**TEXT), joint=16)


def open_clip_model(kind: str = "CLIP", **parts: dict[str, Any]) -> Callable[[], nn.Module]:
    """A model of open_clip from the configurations of its parts."""

    def build() -> nn.Module:
        import open_clip

        named = {f"{part}_cfg": settings for part, settings in parts.items()}
        return getattr(open_clip, kind)(embed_dim=16, **named)

    return build


END = 29


def captions() -> Tensor:
    """Two captions of 7 and 4 tokens that end with token 29, padded with 0."""
    ids = token_ids()
    ids[torch.arange(2), torch.tensor(LENGTHS) - 1] = END
    return ids


def pairs() -> tuple[Tensor, Tensor]:
    return images(2, 32, 32), captions()


def wide_pairs() -> tuple[Tensor, Tensor]:
    return images(2, 32, 48), captions()


def spectrograms() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 1, 64, 16, generator=generator), captions()


def from_model(model: nn.Module) -> nn.Module:
    from captum_ib import DualEncoder

    return DualEncoder.from_model(model)


def pair_shapes(grid: tuple[int, int]) -> tuple:
    return (2, 1, *grid), (2, 7)


def dual_row(
    name: str,
    library: str,
    build: Callable[[], nn.Module],
    inputs: Callable[[], Any] = pairs,
    grid: tuple[int, int] = (4, 4),
    additional: Callable[[], Any] = token_mask,
    input_grid: tuple[int, int] | None = None,
    **more: Any,
) -> Row:
    """A row; NIB looks at a block's input, whose grid may be finer (`input_grid`)."""
    return Row(
        name,
        library,
        build,
        inputs,
        {"m2ib": pair_shapes(grid), "nib": pair_shapes(input_grid or grid)},
        additional,
        target=None,
        forward=from_model,
        **more,
    )


VISION = {
    **TOWER,
    "num_hidden_layers": 5,
    "initializer_range": 0.02,
    "image_size": 32,
    "patch_size": 8,
}
TEXT = {
    **TOWER,
    "num_hidden_layers": 5,
    "initializer_range": 0.02,
    "vocab_size": 30,
    "max_position_embeddings": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": END,
}
PAIR = {"text_config": TEXT, "vision_config": VISION, "projection_dim": 16}
OPEN_VISION = {"layers": 5, "width": 16, "head_width": 8, "patch_size": 8, "image_size": 32}
OPEN_TEXT = {"context_length": 7, "vocab_size": 30, "width": 16, "heads": 2, "layers": 5}
AUDIO = {
    "spec_size": 32,
    "num_mel_bins": 16,
    "patch_size": 4,
    "patch_stride": (4, 4),
    "window_size": 2,
    "patch_embeds_hidden_size": 8,
    "depths": (1, 2),
    "num_attention_heads": (1, 2),
    "num_hidden_layers": 2,
    "hidden_size": 16,
    "projection_dim": 16,
}
"""Spectrograms of 64 x 16 are folded into 32 x 32: 8 x 8 patches in the first stage."""


SIGLIP = {"text_config": {**TEXT, "projection_size": 16}, "vision_config": VISION}
LATER = "transformers:Siglip2Model"
"""Versions of transformers whose CLIP and SigLIP take images of any size."""


def no_mask() -> None:
    return None


DUAL_ENCODERS = (
    dual_row("CLIP", "transformers", hf_dual("CLIP", **PAIR)),
    dual_row(
        "CLIP, other image sizes",
        "transformers",
        hf_dual("CLIP", **PAIR),
        wide_pairs,
        (4, 6),
        needs=LATER,
        note="positions interpolated",
    ),
    dual_row("SigLIP", "transformers", hf_dual("Siglip", **SIGLIP)),
    dual_row(
        "SigLIP, other image sizes",
        "transformers",
        hf_dual("Siglip", **SIGLIP),
        wide_pairs,
        (4, 6),
        needs=LATER,
        note="positions interpolated",
    ),
    dual_row(
        "SigLIP, without a mask",
        "transformers",
        hf_dual("Siglip", **SIGLIP),
        additional=no_mask,
        note="as it was trained: padding counts",
    ),
    dual_row(
        "SigLIP 2",
        "transformers",
        hf_dual(
            "Siglip2",
            text_config={**TEXT, "projection_size": 16},
            vision_config={**VISION, "num_patches": 16},
        ),
        wide_pairs,
        (4, 6),
        needs=LATER,
        note="images of any size, cut into patches by the tower",
    ),
    dual_row(
        "MetaCLIP 2",
        "transformers",
        hf_dual("MetaClip2", **PAIR),
        wide_pairs,
        (4, 6),
        needs="transformers:MetaClip2Model",
    ),
    dual_row(
        "ALIGN",
        "transformers",
        hf_dual(
            "Align",
            text_config=TEXT,
            vision_config={
                "image_size": 64,
                "width_coefficient": 0.25,
                "depth_coefficient": 0.1,
                "hidden_dim": 16,
            },
            projection_dim=80,
        ),
        lambda: (images(2, 64, 96), captions()),
        (2, 3),
        input_grid=(4, 6),
        note="EfficientNet and BERT",
    ),
    dual_row(
        "AltCLIP",
        "transformers",
        hf_dual(
            "AltCLIP",
            text_config={**TEXT, "project_dim": 16, "max_position_embeddings": 20},
            vision_config=VISION,
            projection_dim=16,
        ),
    ),
    dual_row("CLIPSeg", "transformers", hf_dual("CLIPSeg", **PAIR)),
    dual_row("OWL-ViT", "transformers", hf_dual("OwlViT", **PAIR)),
    dual_row("OWLv2", "transformers", hf_dual("Owlv2", **PAIR)),
    dual_row(
        "AIMv2",
        "transformers",
        hf_dual("Aimv2", **PAIR, attn_implementation="eager"),
        needs="transformers:Aimv2Model",
        note="with eager attention: sdpa forgets that texts are read from left to right",
    ),
    dual_row(
        "FLAVA",
        "transformers",
        hf_dual("Flava", text_config=TEXT, image_config=VISION, multimodal_config=TOWER),
        note="contrastive part",
    ),
    dual_row(
        "GroupViT",
        "transformers",
        hf_dual(
            "GroupViT",
            text_config=TEXT,
            vision_config={
                **VISION,
                "depths": [4, 1, 1],
                "num_group_tokens": [4, 2, 0],
                "num_output_groups": [4, 2, 0],
            },
            projection_dim=16,
            projection_intermediate_dim=16,
        ),
        note="the layers ahead of the first grouping",
    ),
    dual_row("Chinese-CLIP", "transformers", hf_dual("ChineseCLIP", **PAIR)),
    dual_row(
        "BLIP retrieval",
        "transformers",
        hf_dual(
            "Blip",
            "ForImageTextRetrieval",
            text_config={**TEXT, "encoder_hidden_size": 16},
            vision_config=VISION,
            image_text_hidden_size=16,
        ),
        note="contrastive head",
    ),
    dual_row("ALBEF", "timm", albef, note="contrastive part; built by captum_ib"),
    dual_row(
        "VisionTextDualEncoder",
        "transformers",
        vision_text,
        note="any vision and text encoder; here ViT and BERT",
    ),
    dual_row(
        "CLAP",
        "transformers",
        hf_dual(
            "Clap",
            text_config={**TEXT, "max_position_embeddings": 20, "projection_dim": 16},
            audio_config=AUDIO,
            projection_dim=16,
        ),
        spectrograms,
        (8, 2),
        note="audio maps are (time, frequency)",
    ),
    dual_row(
        "CLAP, fused",
        "transformers",
        hf_dual(
            "Clap",
            text_config={**TEXT, "max_position_embeddings": 20, "projection_dim": 16},
            audio_config={
                **AUDIO,
                "enable_fusion": True,
                "aff_block_r": 2,
                "fusion_num_hidden_layers": 1,
            },
            projection_dim=16,
        ),
        lambda: (spectrograms()[0].expand(-1, 4, -1, -1), captions()),
        (8, 2),
        note="four channels per clip",
    ),
    dual_row(
        "CLIP", "open_clip", open_clip_model(vision=OPEN_VISION, text=OPEN_TEXT), additional=no_mask
    ),
    dual_row(
        "CLIP with a ResNet",
        "open_clip",
        open_clip_model(
            vision={"layers": (2, 2, 2, 2), "width": 8, "image_size": 64}, text=OPEN_TEXT
        ),
        lambda: (images(2, 64, 64), captions()),
        (2, 2),
        input_grid=(4, 4),
        additional=no_mask,
    ),
    dual_row(
        "SigLIP (timm tower)",
        "open_clip",
        open_clip_model(
            kind="CustomTextCLIP",
            vision={
                "timm_model_name": "test_vit",
                "timm_pool": "",
                "timm_proj": "linear",
                "image_size": 32,
            },
            text={**OPEN_TEXT, "no_causal_mask": True, "pool_type": "last", "proj_bias": True},
        ),
        grid=(2, 2),
        additional=no_mask,
        needs="timm.models.vision_transformer:test_vit",
    ),
    dual_row(
        "CoCa",
        "open_clip",
        open_clip_model(
            kind="CoCa",
            multimodal={"context_length": 7, "width": 16, "heads": 2, "layers": 1},
            vision={
                **OPEN_VISION,
                "attentional_pool": True,
                "attn_pooler_queries": 4,
                "attn_pooler_heads": 2,
                "output_tokens": True,
            },
            text={**OPEN_TEXT, "embed_cls": True, "output_tokens": True},
        ),
        additional=no_mask,
        note="its two contrastive towers",
    ),
)
