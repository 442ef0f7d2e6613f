"""What a folder may say about a timm model: which classes, which arguments, which preprocessing."""

from __future__ import annotations

from typing import Any

from captum_ib.loading import values as rule
from captum_ib.loading.loaded import FolderError
from captum_ib.loading.values import Rule, admitted, short

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

_count = rule.whole(0, rule.MAX_NUMBER)
_share = rule.between(0, 1)
_pooling = rule.one_of("", "avg", "avgmax", "max", "token", "map", "catavgmax", "fast")
_activation = rule.one_of("gelu", "gelu_tanh", "quick_gelu", "relu", "relu6", "silu", "hard_swish")
_norm = rule.one_of("batchnorm", "batchnorm2d", "layernorm", "layernorm2d", "rmsnorm", "rmsnorm2d")

ARGUMENTS: dict[str, Rule] = {
    name: kept
    for kept, names in (
        (_activation, "act_layer"),
        (
            _share,
            "attn_drop_rate drop_path_rate drop_rate norm_eps patch_drop_rate "
            "pos_drop_rate proj_drop_rate",
        ),
        (
            rule.flag,
            "class_token conv_bias conv_mlp dynamic_img_pad dynamic_img_size fc_norm "
            "final_norm head_norm_first no_embed_class pre_norm proj_bias qk_norm "
            "qkv_bias qkv_fused scale_mlp strict_img_size swiglu_mlp tokens_norm "
            "use_abs_pos_emb use_fc_norm use_grn use_pos_embed use_rel_pos_bias "
            "use_rot_pos_emb use_shared_rel_pos_bias",
        ),
        (
            _count,
            "cls_attn_layers depth depth_token_only num_blocks num_classes num_reg_tokens "
            "reg_tokens",
        ),
        (rule.listed(_count), "depths dims embed_dim num_heads"),
        (rule.number, "eta head_init_scale init_values ls_init_value"),
        (_pooling, "global_pool"),
        (rule.sides, "img_size patch_size ref_feat_shape"),
        (rule.whole(3, 3), "in_chans"),
        (rule.listed(rule.side), "kernel_sizes"),
        (rule.listed(rule.between(0, 100)), "mlp_ratio"),
        (rule.between(0, 100), "mlp_ratio_token_only"),
        (_norm, "norm_layer"),
        (rule.whole(1, 32), "output_stride"),
        (rule.one_of("", "none", "learn"), "pos_embed"),
        (rule.listed(rule.whole(0, 256)), "pretrained_window_sizes"),
        (rule.one_of("patch", "overlap", "overlap_tiered"), "stem_type"),
        (rule.listed(rule.whole(1, 256)), "window_size"),
    )
    for name in names.split()
}
"""Arguments of a model that a folder may set (``kwargs`` or ``model_args``)."""

_three = rule.listed(rule.number, longest=3)
PREPROCESSING: dict[str, Rule] = {
    "crop_mode": rule.one_of("center", "squash", "border"),
    "crop_pct": rule.crop_share,
    "fixed_input_size": rule.flag,
    "input_size": lambda value: isinstance(value, list) and len(value) == 3 and rule.sides(value),
    "interpolation": rule.one_of("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"),
    "mean": _three,
    "num_classes": _count,
    "std": _three,
}
"""Entries of ``pretrained_cfg`` that are handed on; where weights come from is never among them."""

_labels = rule.either(rule.listed(rule.text, longest=rule.MAX_NUMBER), rule.mapped(rule.text))
CONFIGURATION: dict[str, Rule] = {
    "architecture": rule.text,
    "constructor": rule.text,
    "kwargs": rule.mapped(lambda value: True),
    "label_descriptions": _labels,
    "label_names": _labels,
    "mean": _three,
    "model_args": rule.mapped(lambda value: True),
    "num_classes": _count,
    "pretrained_cfg": rule.mapped(lambda value: True),
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
