"""Load ALBEF's contrastive part from its published checkpoints (pretrained, or for retrieval).

The sizes are read off the tensors. What a checkpoint holds beside both encoders and their
projections (momentum models, queues, the heads for matching and for words, the layers of the
fusion) is left out by name; a tensor of no known part is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from captum_ib.loading.files import refusing
from captum_ib.loading.from_openai import HEAD, MEAN, STD, openai_preprocess
from captum_ib.loading.hub_tokenizer import HubTokenizer
from captum_ib.loading.hubs import wrapped
from captum_ib.loading.loaded import FolderError, LoadedModel, Options
from captum_ib.loading.processing import tokenizer
from captum_ib.loading.weights import one_file, unfit
from captum_ib.models.albef import Albef

_REST = re.compile(
    r"^(temp|image_queue|text_queue|idx_queue|queue_ptr|queue_total|itm_head\..*|mlm_head\..*"
    r"|text_encoder\.(cls\.|pooler\.).*|\w+_m\..*|.*position_ids)$"
)
_BLOCK = re.compile(r"^visual_encoder\.blocks\.(\d+)\.")
_LAYER = re.compile(r"^text_encoder\.encoder\.layer\.(\d+)\.(crossattention\.)?")


def load_albef(name: str, options: Options) -> LoadedModel:
    """An ALBEF by the file of its checkpoint; errors as in :func:`captum_ib.load`.

    Args:
        name: a ``.safetensors`` file, or a pickled one where that is allowed (it is read by the
            unpickler that makes tensors only). BERT's words lie beside it, as ``vocab.txt`` or
            ``tokenizer.json``.
        options: ``mean`` and ``std`` in the place of the published ones.
    """
    spec = f"albef:{name}"
    weights = one_file(spec, name, options)
    with refusing(name):
        model = convert(weights.read(), name)
    text = model.config.text
    words = tokenizer(Path(name).parent, text)
    words.model_max_length = min(words.model_max_length, text.max_position_embeddings)
    mean, std = options.mean or MEAN, options.std or STD
    side = model.config.vision["img_size"]
    reader = HubTokenizer(words, None, text.vocab_size)
    preprocess = openai_preprocess(side, mean, std, cut=False)
    return wrapped(spec, model, preprocess, (side, side), mean, std, words=reader)


def convert(tensors: Mapping[str, Tensor], where: str = "the state dict") -> Albef:
    """An :class:`~captum_ib.models.albef.Albef` with the weights of a checkpoint.

    Args:
        tensors: by the published names, also with ``module.`` in front (of ``DataParallel``).
        where: what errors call them.

    Raises:
        FolderError: the tensors are not those of an ALBEF.
    """
    given = {
        name.removeprefix("module.").replace("text_encoder.bert.", "text_encoder."): tensor
        for name, tensor in tensors.items()
    }
    given = {name: tensor for name, tensor in given.items() if not _REST.match(name)}
    fused = {match[1] for match in map(_LAYER.match, given) if match and match[2]}
    given = {
        name: tensor
        for name, tensor in given.items()
        if not ((match := _LAYER.match(name)) and match[1] in fused)
    }
    vision, text, joint = _configuration(given, where)
    with torch.device("meta"):
        wanted = Albef(vision, text, joint).state_dict()
    faults = unfit(wanted, given)
    if faults:
        raise FolderError(f"{where} is no ALBEF: {'; '.join(faults[:3])}")
    model = Albef(vision, text, joint)
    model.load_state_dict(given, strict=False)
    return model.float().eval()


def _configuration(given: Mapping[str, Tensor], where: str) -> tuple[dict[str, Any], Any, int]:
    """What the shapes say of the model: timm's arguments, BERT's configuration, the joint width."""
    from transformers import BertConfig

    try:
        deep, _, patch, _ = given["visual_encoder.patch_embed.proj.weight"].shape
        positions = given["visual_encoder.pos_embed"].shape[1]
        inner = given["visual_encoder.blocks.0.mlp.fc1.weight"].shape[0]
        vocabulary, width = given["text_encoder.embeddings.word_embeddings.weight"].shape
        length = given["text_encoder.embeddings.position_embeddings.weight"].shape[0]
        wide = given["text_encoder.encoder.layer.0.intermediate.dense.weight"].shape[0]
        joint = given["text_proj.weight"].shape[0]
    except (KeyError, ValueError, IndexError) as error:
        raise FolderError(f"{where} is no ALBEF: {error} is missing or misshaped") from None
    for name, size in (("text", width), ("vision", deep)):
        if size % HEAD:
            raise FolderError(f"{where}: {name} width {size} is no multiple of {HEAD}")
    vision = {
        "img_size": patch * math.isqrt(max(0, positions - 1)),
        "patch_size": patch,
        "embed_dim": deep,
        "depth": len({match[1] for match in map(_BLOCK.match, given) if match}),
        "num_heads": deep // HEAD,
        "mlp_ratio": inner / deep,
    }
    text = BertConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=len({match[1] for match in map(_LAYER.match, given) if match}),
        num_attention_heads=width // HEAD,
        intermediate_size=wide,
        max_position_embeddings=length,
    )
    return vision, text, joint
