"""What a folder may say about a timm model: which classes, which arguments, which preprocessing."""

from __future__ import annotations

from typing import Any

from captum_ib.loading.loaded import FolderError
from captum_ib.loading.values import (
    MAX_NUMBER,
    Rule,
    admitted,
    between,
    crop_share,
    either,
    flag,
    listed,
    mapped,
    number,
    one_of,
    short,
    side,
    sides,
    text,
    whole,
)

CLASSES = (
    "beit.Beit",
    "cait.Cait",
    "convnext.ConvNeXt",
    "deit.VisionTransformerDistilled",
    "eva.Eva",
    "mlp_mixer.MlpMixer",
    "swin_transformer.SwinTransformer",
    "swin_transformer_v2.SwinTransformerV2",
    "vision_transformer.VisionTransformer",
    "xcit.Xcit",
)
"""Classes of ``timm.models`` that ``constructor`` may name: built from numbers alone."""

_count = whole(0, MAX_NUMBER)
_share = between(0, 1)
_pooling = one_of("", "avg", "avgmax", "max", "token", "map", "catavgmax", "fast")
_activation = one_of("gelu", "gelu_tanh", "quick_gelu", "relu", "relu6", "silu", "hard_swish")
_norm = one_of("batchnorm", "batchnorm2d", "layernorm", "layernorm2d", "rmsnorm", "rmsnorm2d")

ARGUMENTS: dict[str, Rule] = {
    "act_layer": _activation,
    "attn_drop_rate": _share,
    "class_token": flag,
    "cls_attn_layers": _count,
    "conv_bias": flag,
    "conv_mlp": flag,
    "depth": _count,
    "depth_token_only": _count,
    "depths": listed(_count),
    "dims": listed(_count),
    "drop_path_rate": _share,
    "drop_rate": _share,
    "dynamic_img_pad": flag,
    "dynamic_img_size": flag,
    "embed_dim": listed(_count),
    "eta": number,
    "fc_norm": flag,
    "final_norm": flag,
    "global_pool": _pooling,
    "head_init_scale": number,
    "head_norm_first": flag,
    "img_size": sides,
    "in_chans": whole(3, 3),
    "init_values": number,
    "kernel_sizes": listed(side),
    "ls_init_value": number,
    "mlp_ratio": listed(between(0, 100)),
    "mlp_ratio_token_only": between(0, 100),
    "no_embed_class": flag,
    "norm_eps": _share,
    "norm_layer": _norm,
    "num_blocks": _count,
    "num_classes": _count,
    "num_heads": listed(_count),
    "num_reg_tokens": _count,
    "output_stride": whole(1, 32),
    "patch_drop_rate": _share,
    "patch_size": sides,
    "pos_drop_rate": _share,
    "pos_embed": one_of("", "none", "learn"),
    "pre_norm": flag,
    "pretrained_window_sizes": listed(whole(0, 256)),
    "proj_bias": flag,
    "proj_drop_rate": _share,
    "qk_norm": flag,
    "qkv_bias": flag,
    "qkv_fused": flag,
    "ref_feat_shape": sides,
    "reg_tokens": _count,
    "scale_mlp": flag,
    "stem_type": one_of("patch", "overlap", "overlap_tiered"),
    "strict_img_size": flag,
    "swiglu_mlp": flag,
    "tokens_norm": flag,
    "use_abs_pos_emb": flag,
    "use_fc_norm": flag,
    "use_grn": flag,
    "use_pos_embed": flag,
    "use_rel_pos_bias": flag,
    "use_rot_pos_emb": flag,
    "use_shared_rel_pos_bias": flag,
    "window_size": listed(whole(1, 256)),
}
"""Arguments of a model that a folder may set (``kwargs`` or ``model_args``)."""

_three = listed(number, longest=3)
PREPROCESSING: dict[str, Rule] = {
    "crop_mode": one_of("center", "squash", "border"),
    "crop_pct": crop_share,
    "fixed_input_size": flag,
    "input_size": lambda value: isinstance(value, list) and len(value) == 3 and sides(value),
    "interpolation": one_of("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"),
    "mean": _three,
    "num_classes": _count,
    "std": _three,
}
"""Entries of ``pretrained_cfg`` that are handed on; where weights come from is never among them."""

_labels = either(listed(text, longest=MAX_NUMBER), mapped(text))
CONFIGURATION: dict[str, Rule] = {
    "architecture": text,
    "constructor": text,
    "kwargs": mapped(lambda value: True),
    "label_descriptions": _labels,
    "label_names": _labels,
    "mean": _three,
    "model_args": mapped(lambda value: True),
    "num_classes": _count,
    "pretrained_cfg": mapped(lambda value: True),
    "std": _three,
}


def timm_configuration(config: object, where: str) -> dict[str, Any]:
    """A configuration in timm's form, seen to be harmless; what is not used is left out.

    Raises:
        FolderError: an argument is not one that a folder may set, or has no plain value.
    """
    found = admitted(config, CONFIGURATION, where, strict=False)
    for key in ("kwargs", "model_args"):
        if found.get(key) is not None:
            found[key] = admitted(found[key], ARGUMENTS, f"{where}: {key}", strict=True)
    if found.get("pretrained_cfg") is not None:
        rules = PREPROCESSING
        found["pretrained_cfg"] = admitted(
            found["pretrained_cfg"], rules, f"{where}: pretrained_cfg", strict=False
        )
    return {key: value for key, value in found.items() if value is not None}


def timm_class(name: object, where: str) -> type:
    """The class that ``constructor`` names.

    Raises:
        FolderError: it is not in the list.
    """
    import timm

    leaf = name.removeprefix("timm.models.") if isinstance(name, str) else ""
    known = {**{entry: entry for entry in CLASSES}, **{e.split(".")[1]: e for e in CLASSES}}
    if leaf not in known:
        raise FolderError(
            f"{where}: {short(name)} is neither a model nor a class of timm.models that a folder "
            f"may name: {', '.join(CLASSES)}"
        )
    module, _, attribute = known[leaf].partition(".")
    return getattr(getattr(timm.models, module), attribute)


def labels_of(config: dict[str, Any], where: str) -> list[str] | None:
    """Names of the classes, descriptions before names.

    Raises:
        FolderError: there is no description for a name.
    """
    names = config.get("label_names")
    labels = config.get("label_descriptions") or names
    if isinstance(labels, dict):  # timm: description by label name, in the order of the names
        order = names if names is not None else list(labels)
        missing = [name for name in order if name not in labels]
        if missing:
            raise FolderError(f"{where}: label_descriptions has none for {short(missing[0])}")
        return [labels[name] for name in order]
    return None if labels is None else ([labels] if isinstance(labels, str) else labels)
