"""What a folder's configuration of a transformers model may say, and what is made of it."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

from captum_ib.loading import values as rule
from captum_ib.loading.families import DUALS, GENERATORS, SOUNDS
from captum_ib.loading.files import refusing
from captum_ib.loading.loaded import FolderError
from captum_ib.loading.values import Rule, admitted, short

TOWERS = frozenset(
    "bert camembert clip clip_text_model clip_vision_model deit dinov2 distilbert roberta siglip "
    "siglip_text_model siglip_vision_model swin vit xlm-roberta".split()
)
"""``model_type`` of the towers of a ``vision-text-dual-encoder``."""

LANGUAGES = frozenset("gemma gemma2 llama mistral qwen2 qwen3 smollm3".split())
"""``model_type`` of the language models in a vision-language model."""
_CLIP, _SIGLIP = "clip_vision_model", "siglip_vision_model"
_PARTS_OF: dict[str, dict[str, str]] = {  # what transformers takes where a part says no family
    "gemma3": {"vision_config": _SIGLIP},
    "idefics3": {"text_config": "llama"},
    "internvl": {"text_config": "qwen2"},
    "llava": {"text_config": "llama", "vision_config": _CLIP},
    "llava_next": {"text_config": "llama", "vision_config": _CLIP},
    "llava_onevision": {"text_config": "qwen2", "vision_config": _SIGLIP},
    "paligemma": {"text_config": "gemma", "vision_config": _SIGLIP},
    "smolvlm": {"text_config": "llama"},
}

_word = rule.one_of(  # of any entry that is neither listed below nor a number
    *"absolute relative_key relative_key_query avg max mean cls linear gelu gelu_new gelu_fast "
    "gelu_pytorch_tanh quick_gelu relu relu6 silu swish mish tanh sigmoid leaky_relu hard_swish "
    "hardswish gelu_10 laplace selu elu prelu".split(),
    *"preactivation bottleneck basic same SAME valid VALID x y dw_bn dw conv base large".split(),
    *"default full layer_norm rms_norm".split(),  # of models that answer
    *(f"anyres_max_{tiles}" for tiles in range(1, 37)),
)
_plain: Rule = rule.either(rule.number, rule.listed(rule.either(rule.number, _word)), _word)
_depth = rule.listed(rule.either(rule.number, rule.listed(rule.number)))
_dtype = rule.one_of("float32", "float16", "bfloat16")
_SIZES: dict[str, Rule] = {
    **dict.fromkeys(("image_size", "patch_size", "window_size"), rule.sides),
    "num_channels": rule.whole(1, 64),
}

COMMON: dict[str, Rule] = {
    "architectures": rule.listed(rule.text, longest=10),
    "bos_token_id": rule.number,
    "dtype": _dtype,
    "eos_token_id": rule.listed(rule.number),
    "id2label": rule.mapped(rule.text),
    "is_decoder": rule.flag,
    "label2id": rule.mapped(rule.either(rule.number, rule.text)),
    "model_type": rule.text,
    "num_labels": rule.whole(0, rule.MAX_NUMBER),
    "pad_token_id": rule.number,
    "problem_type": rule.one_of(
        "regression", "single_label_classification", "multi_label_classification"
    ),
    "sep_token_id": rule.number,
    "tie_word_embeddings": rule.flag,
    "torch_dtype": _dtype,
}
"""Entries that every transformers configuration may have."""

_base = rule.above_zero(1e9)
_angles = rule.mapped(
    rule.either(
        _base,
        rule.listed(rule.number),
        rule.flag,
        rule.one_of("default", "linear", "dynamic", "yarn", "longrope", "llama3", "mrope", "axial"),
    )
)
# By the name of a field of the configuration's class: what it may say, older names included, which
# the class turns into today's.
_BY_FIELD: dict[str, dict[str, Rule]] = {
    "rope_parameters": {
        "rope_parameters": rule.either(_angles, rule.mapped(_angles)),
        "rope_scaling": _angles,
        **dict.fromkeys(
            "rope_theta rope_local_base_freq global_rope_theta local_rope_theta rotary_emb_base "
            "rotary_pct partial_rotary_factor".split(),
            _base,
        ),
        "head_dim": rule.whole(1, 4096),  # read where it is given, and declared by some only
    },
    "pos_att_type": {  # DeBERTa reads these where they are given, and declares the first only
        "pos_att_type": rule.listed(rule.one_of("c2p", "p2c", "p2p", "c2p|p2c", "p2c|c2p")),
        "attention_head_size": rule.whole(1, 4096),
        "cls_dropout": rule.between(0, 1),
        "conv_act": rule.one_of("tanh", "gelu", "relu"),
        "conv_groups": rule.whole(1, 1024),
        "conv_kernel_size": rule.whole(0, 64),
        "norm_rel_ebd": rule.one_of("none", "layer_norm"),
        "position_buckets": rule.whole(-1, rule.MAX_NUMBER),
        "share_att_key": rule.flag,
        "talking_head": rule.flag,
    },
    "layer_types": {"layer_types": rule.listed(rule.one_of("full_attention", "sliding_attention"))},
    "classifier_pooling": {"classifier_pooling": rule.one_of("bos", "cls", "late", "mean")},
    "summary_type": {"summary_type": rule.one_of("cls_index", "first", "last", "mean")},
}

_BACKBONE = {"out_features", "out_indices", "stage_names"}  # of models without a head
_PARTS = (
    "audio_config",
    "image_codebook_config",
    "image_config",
    "multimodal_config",
    "text_config",
    "text_config_dict",
    "vision_config",
    "vision_config_dict",
)


def configuration(config: dict[str, Any], where: str) -> Any:
    """The transformers configuration of a folder, made from its plain entries only.

    Entries that the family does not know are left out, and so is whatever says where something is
    to be loaded from, or how (``auto_map``, ``_name_or_path``, ``attn_implementation``, …).

    Raises:
        FolderError: an entry has no plain value, or the weights are said to be quantised.
    """
    import transformers

    if config.get("quantization_config") is not None:
        raise FolderError(
            f"{where}: quantised weights can't be explained; use the weights that they were made "
            "from (a configuration without quantization_config)"
        )
    family = config["model_type"]
    entries = _entries(transformers.CONFIG_MAPPING[family], config, where)
    with refusing(f"{where} is no configuration of a {family}"):
        found = transformers.CONFIG_MAPPING[family](**entries)
    if family == "aimv2":  # sdpa would read texts without padding in both directions
        found._attn_implementation = "eager"
    return found


def _entries(kind: Any, config: object, where: str) -> dict[str, Any]:
    """The entries that a configuration class is made from, parts included."""
    known = _fields(kind)
    rules: dict[str, Rule] = dict.fromkeys(known, rule.either(_plain, _depth))
    rules.update({key: sized for key, sized in _SIZES.items() if key in known})
    for key in known & set(_BY_FIELD):
        rules.update(_BY_FIELD[key])
    rules.update(COMMON)
    both = kind.model_type in DUALS or kind.model_type in SOUNDS
    if kind.model_type in GENERATORS and isinstance(config, dict) and "text_config" not in config:
        config = {**config, "text_config": config}  # Qwen's older form: all on one level
    present = [key for key in _PARTS if key in known or both]
    parts = dict.fromkeys(present, rule.mapped(lambda value: True))
    found = admitted(config, {**rules, **parts}, where, strict=False)
    found.pop("model_type", None)
    for key in parts:
        if found.get(key) is not None:
            inner = _part(kind, key.removesuffix("_dict"), found[key], where)
            found[key] = {**_entries(inner, found[key], f"{where}: {key}")}
            if _is_open(kind, key):
                found[key]["model_type"] = inner.model_type
    return {key: value for key, value in found.items() if value is not None or key in known}


def _part(kind: Any, key: str, config: dict[str, Any], where: str) -> Any:
    """The class of a part of a configuration."""
    import transformers

    if _is_open(kind, key):
        family = config.get("model_type") or _PARTS_OF.get(kind.model_type, {}).get(key)
        towers = kind.model_type == "vision-text-dual-encoder" or key == "vision_config"
        admissible = TOWERS if towers else LANGUAGES
        if family not in admissible:
            raise FolderError(
                f"{where}: {key} can't be of the family {short(family)}; "
                f"{'towers' if towers else 'language models'} are {', '.join(sorted(admissible))}"
            )
        return transformers.CONFIG_MAPPING[family]
    if kind.model_type in GENERATORS:
        return kind.sub_configs[key]
    if key in getattr(kind, "sub_configs", {}):
        return kind.sub_configs[key]
    stem = kind.__name__.removesuffix("Config")
    part = key.removesuffix("_config").capitalize()
    return getattr(transformers, f"{stem}{part}Config")


def _is_open(kind: Any, key: str) -> bool:
    """Whether a part may be of several families, and says of which."""
    if kind.model_type in GENERATORS:
        return kind.sub_configs[key].__name__ == "AutoConfig"
    return kind.model_type == "vision-text-dual-encoder"


def _fields(kind: Any) -> set[str]:
    """Names of the entries that a configuration class adds to those of its base."""
    import transformers

    if dataclasses.is_dataclass(kind):
        base = {field.name for field in dataclasses.fields(transformers.PretrainedConfig)}
        names = {field.name for field in dataclasses.fields(kind)} - base
    else:
        names = {
            entry.name
            for entry in inspect.signature(kind.__init__).parameters.values()
            if entry.kind is entry.POSITIONAL_OR_KEYWORD and entry.name != "self"
        }
    return {name for name in names - _BACKBONE if not name.startswith("_")}
