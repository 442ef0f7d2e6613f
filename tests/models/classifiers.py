"""Supported classifiers: small models of random weights, and the shapes of their maps."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from tests.models.rows import CLASSES, TOWER, Row, images, maps, token_ids, token_mask


def timm_model(name: str, **settings: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import timm

        return timm.create_model(name, pretrained=False, num_classes=CLASSES, **settings)

    return build


def timm_class(path: str, **settings: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        module, name = path.rsplit(".", 1)
        home = import_module(f"timm.models.{module}")
        return getattr(home, name)(num_classes=CLASSES, **settings)

    return build


def hf_classifier(family: str, **settings: Any) -> Callable[[], nn.Module]:
    """A transformers image classifier."""

    def build() -> nn.Module:
        import transformers

        config = getattr(transformers, f"{family}Config")(num_labels=CLASSES, **settings)
        return getattr(transformers, f"{family}ForImageClassification")(config)

    return build


VIT = {"embed_dim": 16, "depth": 4, "num_heads": 2}
WIDE = {**VIT, "img_size": (32, 48), "patch_size": 8}
GRID = maps(2, (4, 6), (4, 6), (4, 6))
STAGED = maps(2, (4, 6), (4, 6), (4, 6))
"""Patches of 4, four stages: the third has 1/16 of the input's sides."""


def swin(**settings: Any) -> dict[str, Any]:
    return {
        "img_size": (64, 96),
        "patch_size": 4,
        "window_size": 2,
        "embed_dim": 8,
        "depths": (1, 1, 2, 1),
        "num_heads": (1, 1, 2, 2),
        **settings,
    }


def torchvision_vit() -> nn.Module:
    from torchvision.models import VisionTransformer

    return VisionTransformer(32, 8, 4, 2, 16, 32, num_classes=CLASSES)


def torchvision_swin() -> nn.Module:
    from torchvision.models import SwinTransformer

    return SwinTransformer([4, 4], 8, [1, 1, 2, 1], [1, 1, 2, 2], [2, 2], num_classes=CLASSES)


def torchvision_swin_v2() -> nn.Module:
    from torchvision.models.swin_transformer import (
        PatchMergingV2,
        SwinTransformer,
        SwinTransformerBlockV2,
    )

    return SwinTransformer(
        [4, 4],
        8,
        [1, 1, 2, 1],
        [1, 1, 2, 2],
        [2, 2],
        num_classes=CLASSES,
        block=SwinTransformerBlockV2,
        downsample_layer=PatchMergingV2,
    )


def torchvision_model(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import torchvision

        return getattr(torchvision.models, name)(weights=None, num_classes=CLASSES)

    return build


def timm_resnet() -> nn.Module:
    from timm.models.resnet import BasicBlock, ResNet

    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=CLASSES)


def timm_maxvit() -> nn.Module:
    from timm.models.maxxvit import (
        MaxxVit,
        MaxxVitCfg,
        MaxxVitConvCfg,
        MaxxVitTransformerCfg,
    )

    config = MaxxVitCfg(
        embed_dim=(8, 16, 24, 32),
        depths=(1, 1, 2, 1),
        block_type=("M",) * 4,
        stem_width=8,
        conv_cfg=MaxxVitConvCfg(),
        transformer_cfg=MaxxVitTransformerCfg(dim_head=8, window_size=(2, 2)),
    )
    return MaxxVit(config, img_size=64, num_classes=CLASSES)


def big() -> Tensor:
    return images(2, 64, 96)


def square() -> Tensor:
    return images(2, 64, 64)


HF_IMAGE = {**TOWER, "image_size": (32, 48), "patch_size": 8}
HF_DINO = {**TOWER, "image_size": 32, "patch_size": 8, "layerscale_value": 0.5}
HF_SWIN = {
    "image_size": (64, 96),
    "patch_size": 4,
    "embed_dim": 8,
    "depths": (1, 1, 2, 1),
    "num_heads": (1, 1, 2, 2),
    "window_size": 2,
}
HF_CONVNEXT = {"hidden_sizes": (8, 16, 24, 32), "depths": (1, 1, 2, 1), "image_size": 64}
XCIT = timm_model("xcit_nano_12_p16_224", embed_dim=16, depth=4, num_heads=2, patch_size=8)
CNN = maps(2, (8, 12), (4, 6), (4, 6))
"""IBA at the second of four stages, CoIBA on the third and fourth, NIB at the third's end."""

IMAGE_CLASSIFIERS = (
    Row("ViT", "timm", timm_class("vision_transformer.VisionTransformer", **WIDE), images, GRID),
    Row(
        "ViT, `dynamic_img_size`",
        "timm",
        timm_class(
            "vision_transformer.VisionTransformer",
            **{**WIDE, "img_size": 32, "dynamic_img_size": True},
        ),
        lambda: images(3, 40, 24),
        maps(3, (5, 3), (5, 3), (5, 3)),
        note="any size of image",
    ),
    Row("DeiT", "timm", timm_model("deit_tiny_patch16_224", **WIDE), images, GRID),
    Row(
        "DeiT, distilled",
        "timm",
        timm_model("deit_tiny_distilled_patch16_224", **WIDE),
        images,
        GRID,
        note="two prefix tokens",
    ),
    Row("DeiT III", "timm", timm_model("deit3_small_patch16_224", **WIDE), images, GRID),
    Row("BEiT", "timm", timm_model("beit_base_patch16_224", **WIDE), images, GRID),
    Row(
        "EVA-02",
        "timm",
        timm_model("eva02_tiny_patch14_224", **WIDE),
        images,
        GRID,
        note="rotary positions",
    ),
    Row(
        "DINOv2 with registers",
        "timm",
        timm_model("vit_small_patch14_reg4_dinov2", **WIDE),
        images,
        GRID,
        note="five prefix tokens",
    ),
    Row(
        "DINOv3",
        "timm",
        timm_model("vit_small_patch16_dinov3", **WIDE),
        images,
        GRID,
        needs="timm.models.eva:vit_small_patch16_dinov3",
        note="rotary positions, five prefix tokens",
    ),
    Row(
        "CaiT", "timm", timm_model("cait_xxs24_224", **WIDE), images, GRID, note="late class token"
    ),
    Row(
        "MLP-Mixer",
        "timm",
        timm_class("mlp_mixer.MlpMixer", img_size=32, patch_size=8, num_blocks=4, embed_dim=16),
        lambda: images(2, 32, 32),
        maps(2, (4, 4), (4, 4), (4, 4)),
    ),
    Row("Swin", "timm", timm_class("swin_transformer.SwinTransformer", **swin()), big, STAGED),
    Row(
        "Swin V2",
        "timm",
        timm_class("swin_transformer_v2.SwinTransformerV2", **swin(img_size=64)),
        square,
        maps(2, (4, 4), (4, 4), (4, 4)),
        note="normalises last: CoIBA on the blocks' outputs",
    ),
    Row(
        "ConvNeXt",
        "timm",
        timm_class("convnext.ConvNeXt", depths=(1, 1, 2, 1), dims=(8, 16, 24, 32)),
        big,
        CNN,
    ),
    Row(
        "ConvNeXt V2",
        "timm",
        timm_class("convnext.ConvNeXt", depths=(1, 1, 2, 1), dims=(8, 16, 24, 32), use_grn=True),
        big,
        CNN,
    ),
    Row("ResNet", "timm", timm_resnet, big, CNN),
    Row(
        "EfficientNet",
        "timm",
        timm_model("efficientnet_lite0"),
        big,
        maps(2, (4, 6), (4, 6), (2, 3)),
    ),
    Row("MobileNetV3", "timm", timm_model("mobilenetv3_small_050"), big, STAGED),
    Row(
        "MobileViT",
        "timm",
        timm_model("mobilevit_xxs"),
        square,
        maps(2, (8, 8), (8, 8), (4, 4)),
        note="hybrid",
    ),
    Row("MaxViT", "timm", timm_maxvit, square, maps(2, (8, 8), (4, 4), (4, 4)), note="hybrid"),
    Row(
        "RegNet",
        "timm",
        timm_model("regnetx_002"),
        big,
        maps(2, (8, 12), (4, 6), (2, 3)),
    ),
    Row("PoolFormer", "timm", timm_model("poolformer_s12"), big, CNN),
    Row("XCiT", "timm", XCIT, images, GRID, note="cross-covariance attention"),
    Row(
        "XCiT, one image",
        "timm",
        XCIT,
        lambda: images(1),
        maps(1, (4, 6), (4, 6), (4, 6)),
        note="its position table has the shape of a batch of one",
    ),
    Row("ViT", "transformers", hf_classifier("ViT", **HF_IMAGE), images, GRID),
    Row("DeiT", "transformers", hf_classifier("DeiT", **HF_IMAGE), images, GRID),
    Row("BEiT", "transformers", hf_classifier("Beit", **HF_IMAGE), images, GRID),
    Row("DINOv2", "transformers", hf_classifier("Dinov2", **HF_DINO), images, GRID),
    Row(
        "DINOv2 with registers",
        "transformers",
        hf_classifier("Dinov2WithRegisters", **HF_DINO),
        images,
        GRID,
        needs="transformers:Dinov2WithRegistersForImageClassification",
    ),
    Row("Swin", "transformers", hf_classifier("Swin", **HF_SWIN), big, STAGED),
    Row("Swin V2", "transformers", hf_classifier("Swinv2", **HF_SWIN), big, STAGED),
    Row("ConvNeXt", "transformers", hf_classifier("ConvNext", **HF_CONVNEXT), big, CNN),
    Row("ConvNeXt V2", "transformers", hf_classifier("ConvNextV2", **HF_CONVNEXT), big, CNN),
    Row(
        "ViT",
        "torchvision",
        torchvision_vit,
        lambda: images(2, 32, 32),
        maps(2, (4, 4), (4, 4), (4, 4)),
    ),
    Row("Swin", "torchvision", torchvision_swin, big, STAGED),
    Row("Swin V2", "torchvision", torchvision_swin_v2, big, STAGED),
    Row("ResNet", "torchvision", torchvision_model("resnet18"), big, CNN),
    Row(
        "MobileNetV2",
        "torchvision",
        torchvision_model("mobilenet_v2"),
        big,
        maps(2, (4, 6), (4, 6), (4, 6)),
    ),
)


def text_classifier(family: str, **settings: Any) -> Callable[[], nn.Module]:
    """A transformers sequence classifier."""

    def build() -> nn.Module:
        import transformers

        config = getattr(transformers, f"{family}Config")(
            num_labels=CLASSES, vocab_size=30, pad_token_id=0, **settings
        )
        return getattr(transformers, f"{family}ForSequenceClassification")(config)

    return build


WORDS = {"iba": (2, 7), "coiba": (2, 7), "nib": (2, 7)}

_DISTIL = {"dim": 16, "hidden_dim": 32, "n_layers": 4, "n_heads": 2}
_OPT = {**TOWER, "ffn_dim": 32, "word_embed_proj_dim": 16}
_GPT = {"n_embd": 16, "n_layer": 4, "n_head": 2}
_DECODER = {**TOWER, "num_key_value_heads": 1, "head_dim": 8, "bos_token_id": 1, "eos_token_id": 2}


def _by_name(model: nn.Module) -> nn.Module:
    from captum_ib.models.text_classifier import by_name

    return by_name(model)


TEXT_CLASSIFIERS = tuple(
    Row(
        name,
        "transformers",
        text_classifier(family, **settings),
        token_ids,
        WORDS,
        token_mask,
        forward=_by_name,
        needs=f"transformers:{family}ForSequenceClassification",
        note=note,
    )
    for name, family, settings, note in (
        ("BERT", "Bert", TOWER, ""),
        ("RoBERTa", "Roberta", TOWER, ""),
        ("DistilBERT", "DistilBert", _DISTIL, ""),
        ("DeBERTa v2 and v3", "DebertaV2", TOWER, ""),
        ("ELECTRA", "Electra", TOWER, ""),
        ("MPNet", "MPNet", TOWER, "no attention maps"),
        ("ModernBERT", "ModernBert", TOWER, "rotary positions"),
        ("EuroBERT", "EuroBert", TOWER, "rotary positions"),
        ("GPT-2", "GPT2", _GPT, "the last token is read"),
        ("OPT", "OPT", _OPT, "samples and tokens on one axis within a block"),
        ("Llama", "Llama", _DECODER, "the last token is read"),
        ("Mistral", "Mistral", _DECODER, "the last token is read"),
        ("Qwen 2", "Qwen2", _DECODER, "the last token is read"),
        ("Qwen 3", "Qwen3", _DECODER, "the last token is read"),
        ("Gemma 2", "Gemma2", _DECODER, "the last token is read"),
        ("Gemma 3", "Gemma3Text", _DECODER, "the last token is read"),
    )
)
