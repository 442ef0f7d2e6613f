"""Image processors and tokenizers of transformers from a folder: from plain data only.

transformers reads them from a folder of their own that holds what was checked, and nothing else of
what came with the model.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from captum_ib.loading import values as rule
from captum_ib.loading.files import has, inside, read_json, refusing
from captum_ib.loading.loaded import FolderError
from captum_ib.loading.values import Rule, admitted, short

MAX_VOCABULARY = 2**27
"""Largest file of a tokenizer, in bytes; the largest of real ones holds 35 million."""

VOCABULARIES = (
    "merges.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
)
"""Files of tokenizers that are read as they are, by parsers that make tables of words of them."""

_edges = rule.mapped(rule.side, "height", "width", "shortest_edge", "longest_edge")
_size = rule.either(rule.sides, _edges)
_PIXELS = ("shortest_edge", "longest_edge")  # of Qwen: numbers of pixels
_channels = rule.listed(rule.number, longest=64)
IMAGES: dict[str, Rule] = {
    "crop_pct": rule.crop_share,
    "crop_size": _size,
    "image_mean": _channels,
    "image_std": _channels,
    "include_top": rule.flag,
    "max_num_patches": rule.whole(1, 65_536),
    "patch_size": rule.sides,
    "resample": rule.whole(0, 5),
    "rescale_factor": rule.between(0, 1),
    "rescale_offset": rule.flag,
    "size": _size,
    "size_divisor": rule.side,
    **dict.fromkeys(
        "do_align_long_axis do_center_crop do_convert_rgb do_flip_channel_order do_normalize "
        "do_pad do_reduce_labels do_rescale do_resize do_thumbnail".split(),
        rule.flag,
    ),
}
"""Entries of an image processor that are handed on."""

MAX_PIXELS = 2**24
"""Most pixels of a picture that is cut into patches; real processors say up to 12.8 million."""
_tile_sides = rule.listed(rule.listed(rule.side, longest=2), longest=64)
ANSWERING: dict[str, Rule] = {
    **IMAGES,
    "image_grid_pinpoints": _tile_sides,
    "image_seq_length": rule.whole(1, 65_536),
    "max_image_size": _size,
    "max_patches": rule.whole(1, 64),
    "max_pixels": rule.whole(1, MAX_PIXELS),
    "merge_size": rule.whole(1, 16),
    "min_patches": rule.whole(1, 64),
    "min_pixels": rule.whole(1, MAX_PIXELS),
    "pan_and_scan_max_num_crops": rule.whole(1, 64),
    "pan_and_scan_min_crop_size": rule.side,
    "pan_and_scan_min_ratio_to_activate": rule.between(0, 100),
    "size": rule.either(_size, rule.mapped(rule.whole(1, MAX_PIXELS), *_PIXELS)),
    "temporal_patch_size": rule.whole(1, 16),
    **dict.fromkeys("crop_to_patches do_image_splitting do_pan_and_scan".split(), rule.flag),
}
"""Entries of the image processor of a model that answers."""
GENERATOR: dict[str, Rule] = {
    "image_seq_len": rule.whole(1, 65_536),
    "image_seq_length": rule.whole(1, 65_536),
    "image_token": rule.text,
    "num_additional_image_tokens": rule.whole(0, 64),
    "num_image_tokens": rule.whole(1, 65_536),
    "patch_size": rule.side,
    "video_token": rule.text,
    "vision_aspect_ratio": rule.one_of(*(f"anyres_max_{tiles}" for tiles in range(1, 37))),
    "vision_feature_select_strategy": rule.one_of("default", "full"),
}
"""Entries of ``processor_config.json`` of a model that answers."""

TOKENIZERS = frozenset(
    "AlbertTokenizer BertTokenizer BlipTokenizer CamembertTokenizer CLIPTokenizer "
    "DebertaTokenizer DebertaV2Tokenizer DistilBertTokenizer ElectraTokenizer ErnieTokenizer "
    "GemmaTokenizer GPT2Tokenizer GPTNeoXTokenizer LlamaTokenizer MPNetTokenizer "
    "PreTrainedTokenizer Qwen2Tokenizer RobertaTokenizer RoFormerTokenizer Siglip2Tokenizer "
    "SiglipTokenizer T5Tokenizer TokenizersBackend XLMRobertaTokenizer".split()
)
"""What ``tokenizer_class`` may name, with or without ``Fast`` at the end."""


_OF_NO_MODEL = ("PreTrainedTokenizerFast", "TokenizersBackend")


def _tokenizer_class(value: Any) -> bool:
    return isinstance(value, str) and value.removesuffix("Fast") in TOKENIZERS


def _token(value: Any) -> bool:
    if not isinstance(value, dict):
        return rule.text(value)
    rules: dict[str, Rule] = {
        "__type": rule.one_of("AddedToken"),
        "content": rule.text,
        "id": rule.number,
        **dict.fromkeys("lstrip normalized rstrip single_word special".split(), rule.flag),
    }
    return all(key in rules and rules[key](entry) for key, entry in value.items())


_SPECIAL: dict[str, Rule] = {
    **dict.fromkeys(
        (f"{name}_token" for name in ("bos", "cls", "eos", "mask", "pad", "sep", "unk")), _token
    ),
    "additional_special_tokens": rule.listed(_token),
    "extra_special_tokens": rule.either(rule.listed(_token), rule.mapped(_token)),
    "model_specific_special_tokens": rule.mapped(_token),
    **dict.fromkeys(  # of models that answer
        (f"{n}_token" for n in "boi context_image end_image eoi image start_image video".split()),
        _token,
    ),
}
WORDS: dict[str, Rule] = {
    **_SPECIAL,
    **dict.fromkeys(
        "add_bos_token add_eos_token add_prefix_space clean_up_tokenization_spaces "
        "do_basic_tokenize do_lower_case legacy split_special_tokens strip_accents "
        "spaces_between_special_tokens tokenize_chinese_chars trim_offsets".split(),
        rule.flag,
    ),
    "added_tokens_decoder": rule.mapped(_token),
    "errors": rule.one_of("replace", "strict", "ignore"),
    "max_length": rule.whole(0, rule.MAX_NUMBER),
    "model_input_names": rule.listed(rule.one_of("input_ids", "attention_mask", "token_type_ids")),
    "model_max_length": lambda value: isinstance(value, (int, float)) and value >= 1,
    "padding_side": rule.one_of("left", "right"),
    "tokenizer_class": _tokenizer_class,
    "truncation_side": rule.one_of("left", "right"),
}
"""Entries of ``tokenizer_config.json`` that are handed on."""


def image_processor(folder: Path, config: Any, rules: Mapping[str, Rule] = IMAGES) -> Any:
    """The image processor of a folder.

    Args:
        folder: with ``preprocessor_config.json``, or ``processor_config.json`` with an
            ``image_processor``.
        config: the model's configuration, which names the processor where the file does not.
        rules: of the entries that are handed on.

    Raises:
        FolderError: there is none, or it is not plain data.
    """
    import transformers

    name, given = _image_settings(folder)
    found: dict[str, Any] = admitted(given, rules, str(folder / name), strict=False)
    kind = given.get("image_processor_type") or given.get("feature_extractor_type")
    if kind is not None:
        found["image_processor_type"] = _processor_class(kind, f"{folder / name}")
    with refusing(folder / name), TemporaryDirectory() as home:
        _write(Path(home), "preprocessor_config.json", found)
        return transformers.AutoImageProcessor.from_pretrained(
            home, config=config, local_files_only=True, trust_remote_code=False
        )


def generator_settings(folder: Path) -> dict[str, Any]:
    """What ``processor_config.json`` says of a model that answers; nothing where there is none."""
    name = "processor_config.json"
    if not has(folder, name):
        return {}
    given = read_json(folder, name)
    return admitted(given, GENERATOR, str(folder / name), strict=False)


def _image_settings(folder: Path) -> tuple[str, dict[str, Any]]:
    name = "preprocessor_config.json"
    if not has(folder, name) and has(folder, "processor_config.json"):
        found = read_json(folder, "processor_config.json").get("image_processor")
        if isinstance(found, dict):
            return "processor_config.json", found
    if not has(folder, name):
        raise FolderError(f"{folder} is not a complete model: {name} is missing")
    return name, read_json(folder, name)


def _processor_class(kind: object, where: str) -> str:
    """The name of an image processor of transformers; never another name."""
    import transformers

    name = kind if isinstance(kind, str) else ""
    name = re.sub(r"FeatureExtractor$", "ImageProcessor", name)
    if not re.fullmatch(r"[A-Za-z0-9]+ImageProcessor(Fast|Pil)?", name):
        raise FolderError(f"{where}: {short(kind)} names no image processor of transformers")
    found = getattr(transformers, re.sub(r"(Fast|Pil)$", "", name), None)
    if not isinstance(found, type) or not found.__module__.startswith("transformers.models."):
        raise FolderError(f"{where}: {short(kind)} names no image processor of transformers")
    return name


def tokenizer(folder: Path, config: Any) -> Any:
    """The tokenizer of a folder.

    Raises:
        FolderError: there is none, or it is not plain data.
    """
    import transformers

    # Without one transformers makes a tokenizer that knows no word.
    if not any(has(folder, name) for name in VOCABULARIES):
        raise FolderError(
            f"{folder} has no tokenizer that can be read: there is none of "
            f"{', '.join(VOCABULARIES)}"
        )
    with TemporaryDirectory() as home:
        _copy_words(folder, Path(home))
        # A tokenizer that says it is of no model is in its file; transformers would put the steps
        # of the model's usual one in their place.
        plain = _stated(folder) in _OF_NO_MODEL and has(folder, "tokenizer.json")
        kind = transformers.PreTrainedTokenizerFast if plain else transformers.AutoTokenizer
        more = {} if plain else {"config": config}
        with refusing(f"{folder} has no tokenizer that can be read"):
            found = kind.from_pretrained(
                home, **more, local_files_only=True, trust_remote_code=False
            )
    found.name_or_path = str(folder)
    file = getattr(found, "vocab_file", None)
    if isinstance(file, str):  # copies of a tokenizer in Python read it again
        found.vocab_file = str(folder / Path(file).name)
    return found


def _stated(folder: Path) -> object:
    """The class of tokenizer that a folder names, if any."""
    name = "tokenizer_config.json"
    return read_json(folder, name).get("tokenizer_class") if has(folder, name) else None


def _copy_words(folder: Path, home: Path) -> None:
    """What a tokenizer is read from, checked, in a folder of its own."""
    rewritten: tuple[tuple[str, Mapping[str, Rule] | None], ...] = (
        ("tokenizer_config.json", WORDS),
        ("special_tokens_map.json", _SPECIAL),
        ("added_tokens.json", None),
    )
    for name, rules in rewritten:
        if not has(folder, name):
            continue
        given, where = read_json(folder, name), str(folder / name)
        if rules is None:  # the numbers of words
            rules = dict.fromkeys(given, rule.whole(0, rule.MAX_NUMBER))
        _write(home, name, admitted(given, rules, where, strict=False))
    for name in VOCABULARIES:
        if has(folder, name):
            file = inside(folder, name)
            if file.stat().st_size > MAX_VOCABULARY:
                raise FolderError(f"{folder / name} has more than {MAX_VOCABULARY} bytes")
            shutil.copyfile(file, home / name)


def _write(home: Path, name: str, entries: Mapping[str, Any]) -> None:
    (home / name).write_text(json.dumps(entries), encoding="utf-8")
