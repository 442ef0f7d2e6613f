"""ImageBind's network: six towers into one space, with the tensor names of the published weights.

No package ships it. The layout is that of the published checkpoint ``imagebind_huge`` (Girdhar et
al., CVPR 2023); the code is ours.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Trunk:
    """A tower's transformer.

    Attributes:
        width, depth, heads: its channels, blocks and heads per block.
        bias_kv: whether its attention learns one more key and value.
        size: of its input: (H, W), (mel bins, time), (words, tokens), (channels, time).
        kernel, stride: of its patches.
    """

    width: int
    depth: int
    heads: int
    bias_kv: bool
    size: tuple[int, int]
    kernel: int = 16
    stride: int = 16

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        rows, columns = ((side - self.kernel) // self.stride + 1 for side in self.size)
        return rows, columns


@dataclass(frozen=True)
class ImageBindConfig:
    """The six towers; the defaults are those of ``imagebind_huge``.

    Attributes:
        joint: width of the joint space.
        vision, text, audio, depth, thermal, imu: the trunks.
    """

    joint: int = 1024
    vision: Trunk = Trunk(1280, 32, 16, False, (224, 224), 14, 14)
    text: Trunk = Trunk(1024, 24, 16, False, (49408, 77))
    audio: Trunk = Trunk(768, 12, 12, True, (128, 204), 16, 10)
    depth: Trunk = Trunk(384, 12, 8, True, (224, 224))
    thermal: Trunk = Trunk(768, 12, 12, True, (224, 224))
    imu: Trunk = Trunk(512, 6, 8, True, (6, 2000), 8, 8)
    model_type: str = field(default="imagebind", init=False)


class ImageBind(nn.Module):
    """Inputs of a modality → embeddings in the joint space.

    Args:
        config: the sizes; default: ``imagebind_huge``.

    >>> small, motion = Trunk(8, 1, 2, True, (32, 32)), Trunk(8, 1, 2, True, (6, 16), 8, 8)
    >>> model = ImageBind(ImageBindConfig(16, *[small] * 5, imu=motion))
    >>> model.encode("depth", torch.rand(2, 1, 32, 32)).shape
    torch.Size([2, 16])
    """

    def __init__(self, config: ImageBindConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or ImageBindConfig()
        trunks = {name: getattr(config, name) for name in MODALITIES}
        self.modality_preprocessors = nn.ModuleDict(
            {name: _STEMS[name](trunk) for name, trunk in trunks.items()}
        )
        self.modality_trunks = nn.ModuleDict(
            {name: _Transformer(trunk, name == "vision") for name, trunk in trunks.items()}
        )
        self.modality_heads = nn.ModuleDict(
            {name: _head(name, trunk.width, config.joint) for name, trunk in trunks.items()}
        )
        self.modality_postprocessors = nn.ModuleDict(
            {name: nn.Sequential(nn.Identity(), _Scale()) for name in trunks if name != "vision"}
        )

    def tokens(self, modality: str, inputs: Tensor) -> Tensor:
        """The last layer's tokens in the joint space, ``(N, T, d)``."""
        hidden = self.modality_preprocessors[modality](inputs)
        hidden = self.modality_trunks[modality](hidden, causal=modality == "text")
        head = self.modality_heads[modality]
        return head.get_submodule("proj")(hidden) if modality == "text" else head(hidden)

    def encode(self, modality: str, inputs: Tensor) -> Tensor:
        """One embedding per sample, ``(N, d)``, not normalised and without the learned scale."""
        tokens = self.tokens(modality, inputs)
        if modality != "text":
            return tokens[:, 0]
        end = inputs.argmax(dim=-1)  # the end token has the highest id
        return tokens[torch.arange(len(tokens), device=tokens.device), end]


class _Patches(nn.Module):
    """Patches of an image or spectrogram behind a class token, with learned positions."""

    def __init__(self, trunk: Trunk, stem: str, channels: int, frames: int, norm: bool) -> None:
        super().__init__()
        kernel, stride, width = trunk.kernel, trunk.stride, trunk.width
        conv: nn.Module = nn.Conv2d(channels, width, kernel, stride, bias=False)
        if frames > 1:  # an image is seen as a clip that stands still
            clip, step = (frames, kernel, kernel), (frames, stride, stride)
            conv = nn.Sequential(
                _Repeat(frames), nn.Conv3d(channels, width, clip, step, bias=False)
            )
        parts: OrderedDict[str, nn.Module] = OrderedDict(proj=conv)
        if norm:
            parts["norm_layer"] = nn.LayerNorm(trunk.width)
        self.stem, self.size, self.channels = stem, trunk.size, channels
        self.add_module(stem, nn.ModuleDict(parts))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, trunk.width))
        rows, columns = trunk.grid
        positions = nn.Parameter(torch.zeros(1, 1 + rows * columns, trunk.width))
        self.pos_embedding_helper = nn.ParameterDict({"pos_embed": positions})

    def forward(self, inputs: Tensor) -> Tensor:
        """``(N, channels, H, W)`` → ``(N, 1 + patches, width)``."""
        _require((self.channels, *self.size), inputs)
        parts = getattr(self, self.stem)
        tokens = parts["proj"](inputs).flatten(2).transpose(1, 2)
        if "norm_layer" in parts:
            tokens = parts["norm_layer"](tokens)
        first = self.cls_token.expand(len(tokens), -1, -1)
        return torch.cat([first, tokens], dim=1) + self.pos_embedding_helper["pos_embed"]


class _Motion(nn.Module):
    """Stretches of a motion sensor's channels behind a class token."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.size, self.kernel = trunk.size, trunk.kernel
        channels, time = trunk.size
        self.imu_stem = nn.ModuleDict(
            {
                "proj": nn.Linear(channels * trunk.kernel, trunk.width, bias=False),
                "norm_layer": nn.LayerNorm(trunk.width),
            }
        )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, trunk.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + time // trunk.kernel, trunk.width))

    def forward(self, inputs: Tensor) -> Tensor:
        """``(N, channels, time)`` → ``(N, 1 + stretches, width)``."""
        _require(self.size, inputs)
        stretches = inputs.unflatten(-1, (-1, self.kernel)).transpose(1, 2).flatten(2)
        tokens = self.imu_stem["norm_layer"](self.imu_stem["proj"](stretches))
        first = self.cls_token.expand(len(tokens), -1, -1)
        return torch.cat([first, tokens], dim=1) + self.pos_embed


class _Words(nn.Module):
    """Token ids with learned positions."""

    mask: Tensor

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        words, length = trunk.size
        self.length = length
        self.token_embedding = nn.Embedding(words, trunk.width)
        self.pos_embed = nn.Parameter(torch.zeros(1, length, trunk.width))
        self.register_buffer("mask", torch.full((length, length), float("-inf")).triu(1))

    def forward(self, inputs: Tensor) -> Tensor:
        """``(N, T)`` → ``(N, T, width)``."""
        if inputs.shape[1] > self.length:
            raise ValueError(f"a text has {inputs.shape[1]} tokens, ImageBind takes {self.length}")
        return self.token_embedding(inputs) + self.pos_embed[:, : inputs.shape[1]]


class _Block(nn.Module):
    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        width = trunk.width
        self.attn = nn.MultiheadAttention(
            width, trunk.heads, add_bias_kv=trunk.bias_kv, batch_first=True
        )
        self.norm_1 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(
            OrderedDict(
                fc1=nn.Linear(width, 4 * width), act=nn.GELU(), fc2=nn.Linear(4 * width, width)
            )
        )
        self.norm_2 = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        normed = self.norm_1(x)
        x = x + self.attn(normed, normed, normed, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.norm_2(x))


class _Transformer(nn.Module):
    def __init__(self, trunk: Trunk, norm: bool) -> None:
        super().__init__()
        first = nn.LayerNorm(trunk.width, eps=1e-6) if norm else nn.Identity()
        self.pre_transformer_layer = nn.Sequential(first)
        self.blocks = nn.ModuleList([_Block(trunk) for _ in range(trunk.depth)])

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        x, mask = self.pre_transformer_layer(x), None
        if causal:
            length = x.shape[1]
            mask = torch.full((length, length), float("-inf"), device=x.device, dtype=x.dtype)
            mask = mask.triu(1)
        for block in self.blocks:
            x = block(x, mask)
        return x


class _Repeat(nn.Module):
    def __init__(self, frames: int) -> None:
        super().__init__()
        self.frames = frames

    def forward(self, x: Tensor) -> Tensor:
        return x.unsqueeze(2).expand(-1, -1, self.frames, -1, -1)


class _Scale(nn.Module):
    """The learned scale of an embedding's length, which a cosine does not see."""

    def __init__(self) -> None:
        super().__init__()
        self.log_logit_scale = nn.Parameter(torch.zeros(()))


def _head(name: str, width: int, joint: int) -> nn.Module:
    norm, linear = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, joint, bias=False)
    if name == "text":
        return nn.ModuleDict({"proj": nn.Sequential(norm, linear)})
    between = [nn.Identity()] * (2 if name == "imu" else 1)  # the choice of the token, dropout
    return nn.Sequential(norm, *between, linear)


def _require(shape: tuple[int, ...], inputs: Tensor) -> None:
    if tuple(inputs.shape[1:]) != shape:
        given = tuple(inputs.shape)
        raise ValueError(f"ImageBind takes inputs of shape (N, {str(shape)[1:]}, given {given}")


_STEMS = {
    "vision": lambda trunk: _Patches(trunk, "rgbt_stem", 3, 2, False),
    "text": _Words,
    "audio": lambda trunk: _Patches(trunk, "rgbt_stem", 1, 1, True),
    "depth": lambda trunk: _Patches(trunk, "depth_stem", 1, 1, True),
    "thermal": lambda trunk: _Patches(trunk, "rgbt_stem", 1, 1, True),
    "imu": _Motion,
}

MODALITIES = tuple(_STEMS)
"""ImageBind's names of its six modalities."""
