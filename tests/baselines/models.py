"""Small models with attention in every implementation that the methods meet."""

from __future__ import annotations

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torchvision.models import VisionTransformer as TorchvisionViT
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    ViTConfig,
    ViTForImageClassification,
)


def seeded(model: nn.Module, std: float = 0.3) -> nn.Module:
    """Random weights, large enough for attention to differ between tokens."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data = torch.randn(parameter.shape, generator=generator) * std
        else:
            parameter.data += torch.randn(parameter.shape, generator=generator) * 0.1
    return model.eval()


def timm_vit(**kwargs) -> VisionTransformer:
    arguments = {
        "img_size": 16,
        "patch_size": 4,
        "embed_dim": 16,
        "depth": 3,
        "num_heads": 2,
        "num_classes": 5,
    }
    return seeded(VisionTransformer(**{**arguments, **kwargs}))


def hf_vit(attention: str) -> ViTForImageClassification:
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=16,
        patch_size=4,
        num_labels=5,
        layer_norm_eps=1e-6,
    )
    config._attn_implementation = attention
    return seeded(ViTForImageClassification(config))


def same_as_hf(model: VisionTransformer, source: ViTForImageClassification) -> VisionTransformer:
    """A timm ViT with the weights of a transformers one."""
    theirs = {
        name.replace("encoder.layer.", "layers."): value
        for name, value in source.state_dict().items()
    }
    ours = model.state_dict()

    def take(name: str, *sources: str) -> None:
        value = torch.cat([theirs[key] for key in sources])
        assert value.shape == ours[name].shape, (name, value.shape, ours[name].shape)
        ours[name].copy_(value)

    find = {}
    for key in theirs:
        find[key.rsplit(".", 1)[0].split(".")[-1] + "." + key.rsplit(".", 1)[1]] = key
    take("cls_token", "vit.embeddings.cls_token")
    take("pos_embed", "vit.embeddings.position_embeddings")
    for kind in ("weight", "bias"):
        take(f"patch_embed.proj.{kind}", f"vit.embeddings.patch_embeddings.projection.{kind}")
        take(f"norm.{kind}", f"vit.layernorm.{kind}")
        take(f"head.{kind}", f"classifier.{kind}")
        for layer in range(3):
            names = sorted(k for k in theirs if f"layers.{layer}." in k and k.endswith(kind))

            def one(part: str, names: list[str] = names) -> str:
                (found,) = [name for name in names if part in name]
                return found

            def first(*parts: str, names: list[str] = names) -> str:
                return next(n for part in parts for n in names if part in n)

            take(
                f"blocks.{layer}.attn.qkv.{kind}",
                first("query", "q_proj"), first("key", "k_proj"), first("value", "v_proj"),
            )  # fmt: skip
            take(f"blocks.{layer}.attn.proj.{kind}", first("attention.output", "o_proj"))
            take(f"blocks.{layer}.norm1.{kind}", one("layernorm_before"))
            take(f"blocks.{layer}.norm2.{kind}", one("layernorm_after"))
            take(f"blocks.{layer}.mlp.fc1.{kind}", first("intermediate", "fc1"))
            rest = [n for n in names if "attention" not in n]
            take(
                f"blocks.{layer}.mlp.fc2.{kind}",
                next(n for p in ("output.dense", "fc2") for n in rest if p in n),
            )
    return model


def torchvision_vit() -> TorchvisionViT:
    return seeded(TorchvisionViT(16, 4, 3, 2, 16, 32, num_classes=5))


def bert(attention: str) -> BertForSequenceClassification:
    config = BertConfig(
        vocab_size=20,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=8,
        num_labels=4,
    )
    config._attn_implementation = attention
    return seeded(BertForSequenceClassification(config))


def images(n: int = 2, size: int = 16) -> torch.Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(1))


IDS = torch.tensor([[2, 5, 6, 7, 3], [2, 9, 3, 0, 0]])
MASK = (IDS != 0).long()
