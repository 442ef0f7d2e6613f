"""The table of architectures: which modules are a model's blocks, and where CoIBA looks in each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import nn

NamedLayer = tuple[str, nn.Module]

FIRST_NORMS = (
    "norm1",
    "layernorm_before",
    "layer_norm1",
    "ln_1",
    "norm",
    "attention_norm",
    "input_layernorm",
)
"""Names of a transformer block's first normalisation, tried in this order in unknown blocks."""


@dataclass(frozen=True)
class Architecture:
    """One row: a family of models that share a kind of block.

    Attributes:
        name: the family.
        blocks: the classes of its blocks, as ``library:Class``.
        kind: ``"plain"``: one stack of equal blocks (ViT, BERT); ``"staged"``: transformer stages
            of falling resolution (Swin); ``"convolutional"``: stages of a CNN or a hybrid.
        norm: the block's first normalisation, where CoIBA puts its bottlenecks; ``None``: blocks
            that normalise last, or convolve: CoIBA takes their output.
    """

    name: str
    blocks: tuple[str, ...]
    kind: Literal["plain", "staged", "convolutional"]
    norm: str | None = None


ARCHITECTURES = (
    Architecture(
        "ViT (timm)",
        ("timm:Block", "timm:EvaBlock", "timm:LayerScaleBlock", "timm:MixerBlock"),
        "plain",
        "norm1",
    ),
    Architecture("ViT (torchvision)", ("torchvision:EncoderBlock",), "plain", "ln_1"),
    Architecture(
        "ViT (transformers)",
        ("transformers:ViTLayer", "transformers:DeiTLayer", "transformers:BeitLayer"),
        "plain",
        "layernorm_before",
    ),
    Architecture(
        "DINO (transformers)",
        (
            "transformers:Dinov2Layer",
            "transformers:Dinov2WithRegistersLayer",
            "transformers:DINOv3ViTLayer",
        ),
        "plain",
        "norm1",
    ),
    Architecture(
        "ViT with normalisation last (timm)",
        ("timm:ResPostBlock", "timm:EvaBlockPostNorm"),
        "plain",
    ),
    Architecture(
        "BERT",
        ("transformers:BertLayer", "transformers:RobertaLayer", "transformers:TransformerBlock"),
        "plain",
    ),
    Architecture(
        "Swin",
        ("timm:SwinTransformerBlock", "torchvision:SwinTransformerBlock"),
        "staged",
        "norm1",
    ),
    Architecture("Swin (transformers)", ("transformers:SwinLayer",), "staged", "layernorm_before"),
    Architecture(
        "Swin V2",
        (
            "timm:SwinTransformerV2Block",
            "torchvision:SwinTransformerBlockV2",
            "transformers:Swinv2Layer",
        ),
        "staged",
    ),
    Architecture(
        "MobileViT",
        ("timm:MobileVitBlock", "timm:MobileVitV2Block", "timm:BottleneckBlock"),
        "convolutional",
    ),
    Architecture(
        "MaxViT, CoAtNet",
        (
            "timm:MaxxVitBlock",
            "timm:ParallelMaxxVitBlock",
            "timm:MbConvBlock",
            "timm:TransformerBlock2d",
        ),
        "convolutional",
    ),
    Architecture(
        "ConvNeXt",
        (
            "timm:ConvNeXtBlock",
            "torchvision:CNBlock",
            "transformers:ConvNextLayer",
            "transformers:ConvNextV2Layer",
        ),
        "convolutional",
    ),
    Architecture(
        "ResNet",
        (
            "timm:BasicBlock",
            "timm:Bottleneck",
            "torchvision:BasicBlock",
            "torchvision:Bottleneck",
            "open_clip:Bottleneck",
            "transformers:ResNetBasicLayer",
            "transformers:ResNetBottleNeckLayer",
        ),
        "convolutional",
    ),
    Architecture(
        "EfficientNet, MobileNet",
        (
            "timm:InvertedResidual",
            "timm:DepthwiseSeparableConv",
            "timm:EdgeResidual",
            "timm:UniversalInvertedResidual",
            "torchvision:InvertedResidual",
            "torchvision:MBConv",
            "torchvision:FusedMBConv",
        ),
        "convolutional",
    ),
)
"""Earlier rows win: a hybrid's own block before the transformer or convolution blocks inside it."""


@dataclass(frozen=True)
class Stages:
    """The blocks of a model, stage by stage, in order; a plain transformer has one stage."""

    stages: list[list[NamedLayer]]
    kind: str
    norm: str | None

    @property
    def blocks(self) -> list[NamedLayer]:
        """All blocks in order."""
        return [block for stage in self.stages for block in stage]

    @property
    def main(self) -> list[NamedLayer]:
        """The blocks of the deepest-but-one stage, or of the only one."""
        return self.stages[max(0, len(self.stages) - 2)]

    def site(self, block: NamedLayer) -> NamedLayer:
        """Where CoIBA puts its bottleneck in a block."""
        return block if self.norm is None else first_norm(block, (self.norm,))


def stages(model: nn.Module) -> Stages:
    """The blocks of a model: by the table, else the runs of equal blocks that it holds.

    Raises:
        ValueError: when the model has no such blocks, or several equally good stacks of them.

    >>> import timm
    >>> found = stages(timm.create_model("resnet18"))
    >>> [len(stage) for stage in found.stages], found.kind
    ([2, 2, 2, 2], 'convolutional')
    """
    stacks = list(_stacks(model))
    if not stacks:
        raise ValueError(
            f"{type(model).__name__} has no stack of equal blocks to choose a layer from; pass "
            "layer= (a module or a dotted name)"
        )
    groups: dict[object, list[list[NamedLayer]]] = {}
    for stack in stacks:
        kinds = [_row(block) or type(block) for _, block in stack]
        groups.setdefault(max(kinds, key=kinds.count), []).append(stack)
    kind, best = max(groups.items(), key=lambda item: _size(item[1]))
    row = kind if isinstance(kind, Architecture) else _guess(best[0][0][1])
    others = [stack for group in groups.values() if group is not best for stack in group]
    if len({_pattern(stack) for stack in best}) > 1:
        # No stages of one network, but towers, or an encoder and its decoder.
        best.sort(key=len, reverse=True)
        others += best[1:]
        best = best[:1]
    elif len(best) > 1 and row.kind == "plain":
        row = replace(row, kind="staged")
    _require_clear(model, best, others)
    return Stages(best, row.kind, row.norm)


def _size(stacks: list[list[NamedLayer]]) -> int:
    return sum(len(stack) for stack in stacks)


def _require_clear(
    model: nn.Module, best: list[list[NamedLayer]], others: list[list[NamedLayer]]
) -> None:
    """Raise ``ValueError`` when another stack is more than half as deep as the best."""
    rivals = [stack for stack in others if 2 * len(stack) > _size(best)]
    if rivals:
        names = [_home(stack) for stack in (*best, *rivals)]
        raise ValueError(
            f"{type(model).__name__} has several stacks of blocks ({', '.join(names)}), so there "
            "is no default layer; pass layer= (a module or a dotted name), or, for a pair of "
            "encoders, use DualEncoder.from_model(model)"
        )


def _home(stack: list[NamedLayer]) -> str:
    return stack[0][0].rpartition(".")[0]


def _pattern(stack: list[NamedLayer]) -> str:
    """The name of the stack without numbers: equal for the stages of one model."""
    return re.sub(r"\d+", "", _home(stack))


def _row(block: nn.Module) -> Architecture | None:
    """The row of the table that a module belongs to, if any."""
    return _ROWS.get(f"{type(block).__module__.partition('.')[0]}:{type(block).__name__}")


_ROWS = {name: row for row in ARCHITECTURES for name in row.blocks}


def _stacks(module: nn.Module, prefix: str = "") -> Iterator[list[NamedLayer]]:
    """The outermost containers of blocks, in order; nothing inside a block counts."""
    children = [(f"{prefix}{key}", child) for key, child in module.named_children()]
    known = [(name, child) for name, child in children if _row(child)]
    container = isinstance(module, (nn.ModuleList, nn.ModuleDict, nn.Sequential))
    if known and (container or len(known) == len(children)):
        yield known
        return
    if container and _is_run([child for _, child in children]):
        yield children
        return
    for name, child in children:
        yield from _stacks(child, f"{name}.")


def _is_run(children: list[nn.Module]) -> bool:
    """Whether they are equal blocks, and not stages, which hold stacks of blocks themselves."""
    compound = all(len(list(child.children())) > 1 for child in children)
    if len({type(child) for child in children}) > 1 or len(children) < 2 or not compound:
        return False
    return not any(True for child in children for _ in _stacks(child))


def first_norm(block: NamedLayer, names: Sequence[str] = FIRST_NORMS) -> NamedLayer:
    """A block's first normalisation, by the first of these names that it has; else the block."""
    name, module = block
    for norm in names:
        found = getattr(module, norm, None)
        if isinstance(found, nn.Module) and not isinstance(found, nn.Identity):
            return f"{name}.{norm}", found
    return block


def norm_name(block: nn.Module) -> str | None:
    """The name of a block's first normalisation, or ``None`` where CoIBA takes the block whole.

    >>> norm_name(nn.TransformerEncoderLayer(4, 1))
    'norm1'
    """
    return (_row(block) or _guess(block)).norm


def _guess(block: nn.Module) -> Architecture:
    """A row for a block that the table does not know."""
    parts = list(block.modules())
    convolves = any(isinstance(part, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) for part in parts)
    attends = any(isinstance(part, (nn.LayerNorm, nn.MultiheadAttention)) for part in parts) or (
        not convolves and _normalises_positions(block)
    )
    kind = "plain" if attends else "convolutional"
    return Architecture("unknown", (), kind, _first_norm_name(block) if attends else None)


def _normalises_positions(block: nn.Module) -> bool:
    """Whether a block starts with a normalisation of its family's own (RMSNorm): per position, so
    its parameters have one value per channel, and it keeps no statistics of batches."""
    norm = dict(block.named_children()).get(_first_norm_name(block) or "")
    if norm is None or any(True for _ in norm.buffers()):
        return False
    return [parameter.ndim for parameter in norm.parameters()] == [1]


def _first_norm_name(block: nn.Module) -> str | None:
    children = dict(block.named_children())
    return next((name for name in FIRST_NORMS if name in children), None)
