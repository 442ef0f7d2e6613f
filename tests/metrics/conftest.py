"""Small models whose answers are known, for the metrics' tests."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

PAD, BEGIN, END, BLANK, RED, ROUND = range(6)


class HalfAndHalf(nn.Module):
    """A dual encoder in two dimensions: (left, right) half of an image; (red, round) of a text.

    Every tower sums, then normalises, so cosines are known in closed form.
    """

    modalities = ("image", "text")

    def __init__(self) -> None:
        super().__init__()
        table = torch.zeros(6, 2)
        table[RED, 0] = table[ROUND, 1] = 1
        self.table = nn.Parameter(table)
        self.gain = nn.Parameter(torch.ones(2))
        self.logit_scale = nn.Parameter(torch.tensor(1.0))

    def encode(self, modality: str, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        if modality == "image":
            left, right = inputs.chunk(2, dim=-1)
            pooled = torch.stack([left.sum((1, 2, 3)), right.sum((1, 2, 3))], 1) * self.gain
        else:
            vectors = self.table[inputs]
            pooled = (vectors if mask is None else vectors * mask[..., None]).sum(1)
        return nn.functional.normalize(pooled, dim=-1)

    def token_mask(self, modality: str, inputs: Tensor, mask: Tensor | None = None):
        if modality == "image":
            return None
        return (inputs != PAD) if mask is None else mask

    def forward(self, first: Tensor, second: Tensor, *masks: Tensor) -> Tensor:
        mask = masks[0] if masks else None
        return (self.encode("image", first) * self.encode("text", second, mask)).sum(-1)


@pytest.fixture
def dual() -> HalfAndHalf:
    return HalfAndHalf().eval()


@pytest.fixture(scope="session")
def vit() -> VisionTransformer:
    """A timm ViT with random weights: 32×32 images, 4×4 patches, 3 classes, large enough logits."""
    torch.manual_seed(0)
    model = VisionTransformer(
        img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=3
    )
    with torch.no_grad():
        model.head.weight.normal_(0, 1, generator=torch.Generator().manual_seed(1))
    return model.eval()


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """Six smooth random images in [0, 1], (6, 3, 32, 32)."""
    coarse = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    return nn.functional.interpolate(coarse, (32, 32), mode="bilinear").numpy()


@pytest.fixture(scope="session")
def targets() -> np.ndarray:
    return np.array([0, 1, 2, 0, 1, 2])


@pytest.fixture(scope="session")
def maps() -> np.ndarray:
    """Six random maps without ties, (6, 1, 32, 32)."""
    return np.random.default_rng(3).random((6, 1, 32, 32)).astype(np.float32)
