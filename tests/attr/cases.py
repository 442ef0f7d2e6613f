"""The table of the contract tests: every method on every kind of model. A new method is one row."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
import torch
from timm.models.resnet import BasicBlock, ResNet
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from transformers import CLIPConfig, CLIPModel, ViTConfig, ViTForImageClassification

from captum_ib.attr import CAM2IB, IBA, M2IB, NIB, CoIBA, CoM2IB, InputIBA
from captum_ib.models.dual_encoder import DualEncoder

try:
    from captum.testing.helpers.basic_models import BasicModel_ConvNet, BasicModel_MultiLayer
except ModuleNotFoundError:  # Captum 0.7
    from tests.attr.basic_models import BasicModel_ConvNet, BasicModel_MultiLayer


@dataclass(frozen=True)
class Subject:
    """A model with the inputs of three samples and the layers that the methods take on it."""

    model: nn.Module
    inputs: Any
    layers: list[str]
    shape: tuple
    target: int | None = 1
    extra: Any = None
    half: bool = True  # whether its operations exist in half precision on the CPU

    @property
    def pair(self) -> bool:
        return isinstance(self.model, DualEncoder)


def _seeded(build: Callable[[], nn.Module], std: float = 0.3) -> nn.Module:
    """A model with weights large enough for its output to depend on every layer.

    With the small weights of an initialisation the loss hardly moves, and a test could not tell
    a fit from none.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build().eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data = torch.randn(parameter.shape, generator=generator) * std
    return model


def _images(size: int, channels: int = 3) -> torch.Tensor:
    return torch.rand(3, channels, size, size, generator=torch.Generator().manual_seed(1))


def conv() -> Subject:
    model = _seeded(BasicModel_ConvNet)
    return Subject(model, _images(10, 1), ["conv1", "conv2"], (3, 1, 8, 8))


def linear() -> Subject:
    model = _seeded(BasicModel_MultiLayer)
    model.linear1.bias.data.zero_()  # at its −10 the ReLU behind it never opens
    return Subject(model, _images(1, 3).flatten(1), ["linear0"], (3, 3))


def vit() -> Subject:
    model = _seeded(
        lambda: VisionTransformer(
            img_size=16, patch_size=4, embed_dim=16, depth=4, num_heads=2, num_classes=5
        )
    )
    return Subject(model, _images(16), ["blocks.1.norm1", "blocks.2.norm1"], (3, 1, 4, 4))


def swin() -> Subject:
    model = _seeded(
        lambda: SwinTransformer(
            img_size=32, patch_size=4, window_size=4, embed_dim=8, depths=(2, 2), num_heads=(2, 2),
            num_classes=5,
        )
    )  # fmt: skip
    return Subject(model, _images(32), ["layers.0.blocks.1", "layers.1.blocks.0"], (3, 1, 8, 8))


def resnet() -> Subject:
    # Early versions of timm know no narrower ResNet than the usual one.
    narrow = "channels" in inspect.signature(ResNet).parameters
    settings: Any = {"channels": (8, 8, 16, 16)} if narrow else {}
    # Eight times as wide, so weights smaller by the root of it.
    std = 0.3 if narrow else 0.1
    model = _seeded(lambda: ResNet(BasicBlock, [1, 1, 1, 1], num_classes=5, **settings), std)
    return Subject(model, _images(64), ["layer2.0", "layer3.0"], (3, 1, 8, 8))


def hf_vit() -> Subject:
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32,
        image_size=16, patch_size=4, num_labels=5,
    )  # fmt: skip
    model = _seeded(lambda: ViTForImageClassification(config))
    blocks = "vit.layers" if hasattr(model.vit, "layers") else "vit.encoder.layer"
    # Not the last but one: behind it patches act through one layer normalisation alone, which
    # makes NIB's z·∂F/∂z vanish, and what is left is rounding.
    return Subject(model, _images(16), [f"{blocks}.0", f"{blocks}.1"], (3, 1, 4, 4))


def clip() -> Subject:
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 4,
             "num_attention_heads": 2, "projection_dim": 8}  # fmt: skip
    config = CLIPConfig(
        text_config={**tower, "vocab_size": 20, "max_position_embeddings": 8, "eos_token_id": 19,
                     "bos_token_id": 18, "pad_token_id": 0},
        vision_config={**tower, "image_size": 16, "patch_size": 4},
        projection_dim=8,
    )  # fmt: skip
    dual = DualEncoder.from_model(_seeded(lambda: CLIPModel(config)))
    ids = torch.tensor([[18, 3, 4, 5, 19], [18, 7, 19, 0, 0], [18, 9, 2, 19, 0]])
    layers = ["vision_model.encoder.layers.2", "text_model.encoder.layers.2"]
    shape = ((3, 1, 4, 4), (3, 5))
    return Subject(dual, (_images(16), ids), layers, shape, None, (ids != 0).long())


SUBJECTS = {
    builder.__name__: cache(builder) for builder in (conv, linear, vit, swin, resnet, hf_vit, clip)
}


@dataclass(frozen=True)
class Method:
    """How a method is built on a subject, and what is said of its results."""

    build: Callable[[Subject], Any]
    signed: bool = False
    random: bool = True  # takes a seed
    half: float = 0.95  # least correlation of half-precision maps with those in float32
    at_input: bool = False  # its map has the input's resolution
    mode: bool = False  # tried only for what a mode could break: see ``table``
    settings: dict = field(default_factory=dict)
    subjects: tuple[str, ...] = tuple(name for name in SUBJECTS if name != "clip")


def two_blocks(subject: Subject) -> list[list[str]]:
    """Per tower the subject's layer and the one behind it."""
    return [[name, name.replace("layers.2", "layers.3")] for name in subject.layers]


def estimated(method: Any, subject: Subject) -> Any:
    """The method, with the noise of its layers estimated from eight reference inputs."""
    generator = torch.Generator().manual_seed(2)
    images = subject.inputs[0] if subject.pair else subject.inputs
    references: Any = torch.rand(8, *images.shape[1:], generator=generator)
    if subject.pair:
        ids = torch.randint(1, 18, (8, 5), generator=generator)
        ids[:, -1] = 19
        references = (references, ids, torch.ones_like(ids))
    method.estimate([references])
    return method


METHODS = {
    "IBA": Method(lambda s: IBA(s.model, s.layers[0])),
    "IBA*": Method(lambda s: IBA(s.model, s.layers), subjects=("vit", "hf_vit")),
    "IBA-estimated": Method(lambda s: estimated(IBA(s.model, s.layers[0]), s), mode=True,
                            subjects=("conv", "vit")),
    "IBA-to_input": Method(lambda s: IBA(s.model, s.layers[0]), mode=True, subjects=("vit",),
                           settings={"attribute_to_layer_input": True}),
    "CoIBA": Method(lambda s: CoIBA(s.model, s.layers)),
    "CoIBA-estimated": Method(lambda s: estimated(CoIBA(s.model, s.layers), s), mode=True,
                              subjects=("conv",)),
    "CoIBA-individual": Method(lambda s: CoIBA(s.model, s.layers), mode=True,
                               subjects=("conv", "vit"), settings={"damping": "individual"}),
    # The layers' information depends on the draws. Kept in an attribute, which every chunk of draws
    # wrote anew, it let the map change with internal_batch_size=1: by 0.2 % on hf_vit here.
    "CoIBA-layerwise": Method(lambda s: CoIBA(s.model, s.layers), mode=True,
                              subjects=("vit", "hf_vit"),
                              settings={"compression": "layerwise", "beta": [1.0, 3.0]}),
    "CoIBA-layerwise-individual": Method(
        lambda s: CoIBA(s.model, s.layers), mode=True, subjects=("vit",),
        settings={"compression": "layerwise", "damping": "individual"},
    ),
    "CoIBA-elementwise": Method(lambda s: CoIBA(s.model, s.layers), mode=True, subjects=("vit",),
                                settings={"channel": "elementwise"}),
    "CoIBA-smoothing": Method(lambda s: CoIBA(s.model, s.layers), mode=True,
                              subjects=("conv", "vit"), settings={"smoothing": 1.0}),
    # Adam's first steps have the size of the learning rate whatever the gradient, and many pixels
    # have little: after three steps their order is that of rounding (0.68), after ten it is not.
    "InputIBA": Method(lambda s: InputIBA(s.model, s.layers[0]), at_input=True, half=0.85,
                       settings={"n_prior_steps": 2, "n_feature_steps": 3, "n_steps": 10}),
    "InputIBA-no_prior": Method(lambda s: InputIBA(s.model, s.layers[0]), mode=True,
                                at_input=True, subjects=("conv", "vit"),
                                settings={"prior": "none"}),
    "NIB": Method(lambda s: NIB(s.model, s.layers[0]), signed=True, random=False,
                  settings={"attribute_to_layer_input": False}),
    "NIB-gausslegendre": Method(lambda s: NIB(s.model, s.layers[0]), signed=True, random=False,
                                mode=True, subjects=("vit",),
                                settings={"method": "gausslegendre", "n_steps": 5}),
    "NIB-trapezoid": Method(lambda s: NIB(s.model, s.layers[0]), signed=True, random=False,
                            mode=True, subjects=("conv",),
                            settings={"method": "riemann_trapezoid", "power": 4.0,
                                      "baselines": 0.1, "attribute_to_layer_input": False}),
    "NIB-pair": Method(lambda s: NIB(s.model, s.layers), signed=True, random=False,
                       subjects=("clip",)),
    "M2IB": Method(lambda s: M2IB(s.model, s.layers), subjects=("clip",)),
    "M2IB-estimated": Method(lambda s: estimated(M2IB(s.model, s.layers), s), mode=True,
                             subjects=("clip",), settings={"prior": "estimated"}),
    "M2IB-of_sample": Method(lambda s: M2IB(s.model, s.layers), mode=True, subjects=("clip",),
                             settings={"prior": "estimated"}),
    "CAM2IB": Method(lambda s: CAM2IB(s.model, s.layers), subjects=("clip",)),
    "CAM2IB-without_attention": Method(lambda s: CAM2IB(s.model, s.layers), mode=True,
                                       subjects=("clip",), settings={"cross_attention": False}),
    "CAM2IB-residual": Method(lambda s: CAM2IB(s.model, s.layers), subjects=("clip",),
                              settings={"residual": True, "queries": "layer", "keys": "tokens"},
                              # Adam's steps for W_O, which starts at 0, have the size of the
                              # learning rate whatever the gradient: rounding turns some around.
                              half=0.8),
    # Θ_A takes Adam's steps from the first gradient on, as above.
    "CAM2IB-paper": Method(lambda s: CAM2IB(s.model, s.layers), subjects=("clip",),
                           settings={"variant": "paper"}, half=0.8),
    "CoM2IB": Method(lambda s: CoM2IB(s.model, two_blocks(s)), subjects=("clip",)),
    "CoM2IB-guided": Method(lambda s: CoM2IB(s.model, two_blocks(s)), subjects=("clip",),
                            settings={"guidance": 1.0}),
    "CoM2IB-elementwise": Method(lambda s: CoM2IB(s.model, two_blocks(s)), mode=True,
                                 subjects=("clip",), settings={"channel": "elementwise"}),
    "CoM2IB-standard": Method(lambda s: CoM2IB(s.model, two_blocks(s)), mode=True,
                              subjects=("clip",), settings={"prior": "standard"}),
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One row of the table: a method on a model."""

    method: Method
    subject: Subject

    @property
    def shape(self) -> tuple:
        """Of the map, or of a pair's two maps."""
        if not self.method.at_input:
            return self.subject.shape
        first = tuple(self.subject.inputs.shape)
        return first if len(first) == 2 else (first[0], 1, *first[2:])

    def build(self) -> Any:
        return self.method.build(self.subject)

    def attribute(self, instance: Any, inputs: Any = None, **kwargs: Any) -> Any:
        settings = {**self.method.settings, **kwargs}
        if self.method.random:
            settings.setdefault("seed", 0)
            settings.setdefault("n_steps", 3)
            settings.setdefault("n_samples", 2)
        settings.setdefault("target", self.subject.target)
        settings.setdefault("additional_forward_args", self.subject.extra)
        return instance.attribute(self.subject.inputs if inputs is None else inputs, **settings)


def maps(result: Any) -> tuple[torch.Tensor, ...]:
    """A result as a tuple of tensors."""
    return result if isinstance(result, tuple) else (result,)


def table(modes: bool = False, **wanted: bool) -> pytest.MarkDecorator:
    """Parametrise ``case`` over the table; ``pair`` and ``random`` choose rows.

    Rows of a ``mode`` come only with ``modes``: into the tests of shape, of independence of the
    batch and of its size, and of replay.
    """
    rows = []
    for name, method in METHODS.items():
        for subject in method.subjects:
            case = Case(method, SUBJECTS[subject]())
            traits = {"pair": case.subject.pair, "random": method.random}
            chosen = all(traits[trait] == value for trait, value in wanted.items())
            if chosen and (modes or not method.mode):
                rows.append(pytest.param(case, id=f"{name}-{subject}"))
    return pytest.mark.parametrize("case", rows)
