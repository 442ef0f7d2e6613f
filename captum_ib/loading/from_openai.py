"""Load a CLIP in OpenAI's own layout, the state dict of ``clip``, as fine-tuned ones come.

The sizes are read off the tensors, and the tensors go into a transformers ``CLIPModel``.
"""

# transformers types no processor.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from captum_ib.loading.files import refusing
from captum_ib.loading.from_open_clip import OpenClipTokenizer
from captum_ib.loading.hubs import wrapped
from captum_ib.loading.loaded import FolderError, LoadedModel, ModelUnavailableError, Options
from captum_ib.loading.weights import one_file, unfit
from captum_ib.rgb import as_rgb

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""Of the pictures that OpenAI's CLIP was trained on, and of what was fine-tuned from it."""

HEAD = 64
"""Channels per head in all of OpenAI's transformers; no tensor says it."""

_STATED = ("input_resolution", "context_length", "vocab_size")
_BLOCK = re.compile(r"^(visual\.)?transformer\.resblocks\.(\d+)\.(.+)$")
_TOP = {
    "logit_scale": "logit_scale",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
}
_TURNED = {"text_projection": "text_projection.weight", "visual.proj": "visual_projection.weight"}
_IN_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}


def load_openai_clip(name: str, options: Options) -> LoadedModel:
    """A CLIP by the file of its state dict; errors as in :func:`captum_ib.load`.

    Args:
        name: a ``.safetensors`` file, or a pickled one where that is allowed (it is read by the
            unpickler that makes tensors only).
        options: ``mean`` and ``std`` in the place of OpenAI's.
    """
    spec, file = f"openai_clip:{name}", Path(name)
    weights = one_file(spec, name, options)
    words = openai_tokenizer(spec)
    with refusing(file):
        model = convert(weights.read(), str(file))
    if model.config.text_config.vocab_size != words.tokenizer.vocab_size:
        raise FolderError(
            f"{file} has {model.config.text_config.vocab_size} words, and OpenAI's tokenizer "
            f"{words.tokenizer.vocab_size}: they do not belong together"
        )
    words.tokenizer.context_length = model.config.text_config.max_position_embeddings
    mean, std = options.mean or MEAN, options.std or STD
    side = model.config.vision_config.image_size
    return wrapped(
        spec, model, openai_preprocess(side, mean, std), (side, side), mean, std, words=words
    )


def convert(tensors: Mapping[str, Tensor], where: str = "the state dict") -> Any:
    """A transformers ``CLIPModel`` with the weights of a state dict of ``clip``.

    Args:
        tensors: by OpenAI's names, also with ``module.`` in front (of ``DataParallel``).
        where: what errors call them.

    Raises:
        FolderError: the tensors are not those of a CLIP with a vision transformer.
    """
    from transformers import CLIPModel

    given = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    given = {name: tensor for name, tensor in given.items() if name not in _STATED}
    if "visual.layer1.0.conv1.weight" in given:
        raise FolderError(f"{where} is a CLIP with a ResNet, which transformers does not have")
    config = _configuration(given, where)
    renamed = _renamed(given)
    with torch.device("meta"):
        wanted = CLIPModel(config).state_dict()
    faults = unfit(wanted, renamed)
    if faults:
        raise FolderError(f"{where} is no CLIP of OpenAI's: {'; '.join(faults[:3])}")
    model = CLIPModel(config)
    model.load_state_dict(renamed, strict=False)
    return model.float().eval()


def _configuration(given: Mapping[str, Tensor], where: str) -> Any:
    """What the shapes say of the model."""
    from transformers import CLIPConfig

    try:
        vocabulary, width = given["token_embedding.weight"].shape
        length, _ = given["positional_embedding"].shape
        deep, _, patch, _ = given["visual.conv1.weight"].shape
        positions, _ = given["visual.positional_embedding"].shape
        joint = given["text_projection"].shape[1]
    except (KeyError, ValueError) as error:
        raise FolderError(
            f"{where} is no CLIP of OpenAI's: {error} is missing or misshaped"
        ) from None
    for name, size in (("text", width), ("vision", deep)):
        if size % HEAD:
            raise FolderError(f"{where}: {name} width {size} is no multiple of {HEAD}")
    both = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "projection_dim": joint}
    text = {
        "vocab_size": vocabulary,
        "max_position_embeddings": length,
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
        "pad_token_id": None,  # 0 fills texts up, and is a word: the end token tells
        **_sizes(width, given, ""),
    }
    side = patch * math.isqrt(max(0, positions - 1))
    vision = {"patch_size": patch, "image_size": side, **_sizes(deep, given, "visual.")}
    return CLIPConfig(
        text_config={**both, **text}, vision_config={**both, **vision}, projection_dim=joint
    )


def _sizes(width: int, given: Mapping[str, Tensor], tower: str) -> dict[str, int]:
    found = (_BLOCK.match(name) for name in given)
    layers = {match[2] for match in found if match and (match[1] or "") == tower}
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_attention_heads": width // HEAD,
        "num_hidden_layers": len(layers),
    }


def _renamed(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by transformers' names; those without one keep theirs."""
    result: dict[str, Tensor] = {}
    for name, tensor in given.items():
        match = _BLOCK.match(name)
        if match is None:
            turned = name in _TURNED and tensor.ndim == 2
            result[_TOP.get(name, _TURNED.get(name, name))] = tensor.T if turned else tensor
            continue
        tower = "vision_model" if match[1] else "text_model"
        block, inner = f"{tower}.encoder.layers.{int(match[2])}", match[3]
        if inner in ("attn.in_proj_weight", "attn.in_proj_bias"):
            for part, third in zip("qkv", tensor.chunk(3), strict=False):
                result[f"{block}.self_attn.{part}_proj.{inner.rpartition('_')[2]}"] = third
            continue
        stem, _, kind = inner.rpartition(".")
        result[f"{block}.{_IN_BLOCK.get(stem, stem)}.{kind}"] = tensor
    return result


def openai_preprocess(side: int, mean: Any, std: Any, cut: bool = True) -> Any:
    """As OpenAI's: the shorter side to the model's, bicubic, the middle cut out, normalised.

    Args:
        side: the model's.
        mean, std: of the normalisation.
        cut: ``False``: both sides to the model's, whatever the shape, and nothing cut.
    """
    from transformers import CLIPImageProcessor

    square = {"height": side, "width": side}
    processor = CLIPImageProcessor(
        size={"shortest_edge": side} if cut else square,
        crop_size=square,
        do_center_crop=cut,
        image_mean=list(mean),
        image_std=list(std),
    )

    def preprocess(image: Image.Image) -> Tensor:
        return processor(images=as_rgb(image), return_tensors="pt")["pixel_values"][0]

    return preprocess


def openai_tokenizer(spec: str) -> OpenClipTokenizer:
    """OpenAI's vocabulary, which open_clip ships."""
    try:
        from open_clip import SimpleTokenizer
    except ImportError as error:
        raise ModelUnavailableError(
            f"{spec} needs OpenAI's vocabulary, which comes with the package open_clip_torch: "
            "pip install 'captum_ib[openclip]'"
        ) from error
    return OpenClipTokenizer(SimpleTokenizer())
