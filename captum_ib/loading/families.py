"""Which transformers models a folder may hold: by family, with the classes that are built."""

from __future__ import annotations

from typing import Any

from captum_ib.loading.loaded import FolderError, Modality
from captum_ib.loading.values import short

CLASSIFIERS: dict[str, tuple[str, ...]] = {
    "beit": ("BeitForImageClassification",),
    "bit": ("BitForImageClassification",),
    "clip": ("CLIPForImageClassification",),
    "convnext": ("ConvNextForImageClassification",),
    "convnextv2": ("ConvNextV2ForImageClassification",),
    "cvt": ("CvtForImageClassification",),
    "data2vec-vision": ("Data2VecVisionForImageClassification",),
    "deit": ("DeiTForImageClassification", "DeiTForImageClassificationWithTeacher"),
    "dinov2": ("Dinov2ForImageClassification",),
    "dinov2_with_registers": ("Dinov2WithRegistersForImageClassification",),
    "efficientnet": ("EfficientNetForImageClassification",),
    "focalnet": ("FocalNetForImageClassification",),
    "hiera": ("HieraForImageClassification",),
    "ijepa": ("IJepaForImageClassification",),
    "levit": ("LevitForImageClassification", "LevitForImageClassificationWithTeacher"),
    "metaclip_2": ("MetaClip2ForImageClassification",),
    "mobilenet_v1": ("MobileNetV1ForImageClassification",),
    "mobilenet_v2": ("MobileNetV2ForImageClassification",),
    "mobilevit": ("MobileViTForImageClassification",),
    "mobilevitv2": ("MobileViTV2ForImageClassification",),
    "poolformer": ("PoolFormerForImageClassification",),
    "pvt": ("PvtForImageClassification",),
    "pvt_v2": ("PvtV2ForImageClassification",),
    "regnet": ("RegNetForImageClassification",),
    "resnet": ("ResNetForImageClassification",),
    "segformer": ("SegformerForImageClassification",),
    "siglip": ("SiglipForImageClassification",),
    "siglip2": ("Siglip2ForImageClassification",),
    "swiftformer": ("SwiftFormerForImageClassification",),
    "swin": ("SwinForImageClassification",),
    "swinv2": ("Swinv2ForImageClassification",),
    "vit": ("ViTForImageClassification",),
    "vit_msn": ("ViTMSNForImageClassification",),
}
"""``model_type`` → classes for image classification, the first where the folder names none.

Left out on purpose: ``timm_wrapper``, which hands a folder's words to timm.
"""

DUALS: dict[str, tuple[str, ...]] = {
    "aimv2": ("Aimv2Model",),
    "align": ("AlignModel",),
    "altclip": ("AltCLIPModel",),
    "blip": ("BlipModel", "BlipForImageTextRetrieval"),
    "chinese_clip": ("ChineseCLIPModel",),
    "clip": ("CLIPModel",),
    "clipseg": ("CLIPSegModel",),
    "flava": ("FlavaModel",),
    "groupvit": ("GroupViTModel",),
    "metaclip_2": ("MetaClip2Model",),
    "owlv2": ("Owlv2Model",),
    "owlvit": ("OwlViTModel",),
    "siglip": ("SiglipModel",),
    "siglip2": ("Siglip2Model",),
    "vision-text-dual-encoder": ("VisionTextDualEncoderModel",),
}
"""``model_type`` → classes of dual encoders."""

OTHER_HEADS = {
    "clipseg": r"^decoder\.",
    "flava": r"^(image_codebook|mim_head|mlm_head|itm_head|mmm_image_head|mmm_text_head)\.",
    "owlv2": r"^(class_head|box_head|objectness_head|layer_norm)\.",
    "owlvit": r"^(class_head|box_head|layer_norm)\.",
}
"""Tensors of a dual encoder's file that belong to what else was built on it."""

SOUNDS: dict[str, tuple[str, ...]] = {"clap": ("ClapModel",)}
"""``model_type`` → classes of dual encoders of sounds and texts."""

TEXTS: dict[str, tuple[str, ...]] = {
    family: (f"{stem}ForSequenceClassification",)
    for family, stem in {
        "bert": "Bert",
        "camembert": "Camembert",
        "data2vec-text": "Data2VecText",
        "deberta": "Deberta",
        "deberta-v2": "DebertaV2",
        "distilbert": "DistilBert",
        "electra": "Electra",
        "ernie": "Ernie",
        "eurobert": "EuroBert",
        "gemma": "Gemma",
        "gemma2": "Gemma2",
        "gemma3_text": "Gemma3Text",
        "gpt2": "GPT2",
        "gpt_neox": "GPTNeoX",
        "llama": "Llama",
        "megatron-bert": "MegatronBert",
        "mistral": "Mistral",
        "modernbert": "ModernBert",
        "mpnet": "MPNet",
        "opt": "OPT",
        "phi3": "Phi3",
        "qwen2": "Qwen2",
        "qwen3": "Qwen3",
        "roberta": "Roberta",
        "roformer": "RoFormer",
        "smollm3": "SmolLM3",
        "xlm-roberta": "XLMRoberta",
        "xlm-roberta-xl": "XLMRobertaXL",
    }.items()
}
"""``model_type`` → class for the classification of texts.

Left out: ALBERT, whose one block is run again and again, so that no layer is a depth.
"""

GENERATORS: dict[str, tuple[str, ...]] = {
    family: (f"{stem}ForConditionalGeneration",)
    for family, stem in {
        "gemma3": "Gemma3",
        "idefics3": "Idefics3",
        "internvl": "InternVL",
        "llava": "Llava",
        "llava_next": "LlavaNext",
        "llava_onevision": "LlavaOnevision",
        "paligemma": "PaliGemma",
        "qwen2_5_vl": "Qwen2_5_VL",
        "qwen2_vl": "Qwen2VL",
        "qwen3_vl": "Qwen3VL",
        "smolvlm": "SmolVLM",
    }.items()
}
"""``model_type`` → class of vision-language models that answer."""

_TABLES: tuple[tuple[str, dict[str, tuple[str, ...]], tuple[Modality, ...]], ...] = (
    ("ForImageClassification", CLASSIFIERS, ("image",)),
    ("ForSequenceClassification", TEXTS, ("text",)),
    ("ForConditionalGeneration", GENERATORS, ("image", "text")),
    ("", DUALS, ("image", "text")),
)


def model_class(config: dict[str, Any], where: str) -> tuple[type, tuple[Modality, ...]]:
    """The transformers class that a configuration asks for, and what its inputs are.

    Raises:
        FolderError: it asks for a family that is not in the lists, or for one without a head.
    """
    import transformers

    family, heads = config.get("model_type"), config.get("architectures") or []
    if not isinstance(family, str) or not isinstance(heads, list):
        raise FolderError(f"{where}: model_type must be a word and architectures a list of words")
    heads = [head for head in heads if isinstance(head, str)]
    modalities: tuple[Modality, ...]
    table, modalities = next(
        (table, inputs)
        for word, table, inputs in _TABLES
        if not word or any(word in head for head in heads)
    )
    if family in SOUNDS and table is DUALS:
        table = SOUNDS
        modalities = ("audio", "text")
    if family not in table:
        raise FolderError(
            f"{where} is a {short('/'.join(heads) or family)[1:-1]}; only image classifiers "
            f"(…ForImageClassification: {', '.join(CLASSIFIERS)}), text classifiers "
            f"(…ForSequenceClassification: {', '.join(TEXTS)}), models that answer "
            f"(…ForConditionalGeneration: {', '.join(GENERATORS)}) and dual encoders "
            f"({', '.join((*DUALS, *SOUNDS))}) can be explained from a name; build another one "
            "yourself and pass it to the method"
        )
    name = next((entry for entry in table[family] if entry in heads), table[family][0])
    if not hasattr(transformers, name):
        raise FolderError(f"{where}: transformers {transformers.__version__} has no {name}")
    return getattr(transformers, name), modalities
