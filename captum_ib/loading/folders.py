"""Load a model from a folder that holds ``config.json`` and ``model.safetensors``.

A folder is data: nothing in it is executed, and it names nothing that is then fetched or imported.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from torch import nn

from captum_ib.loading.budget import check_size
from captum_ib.loading.configurations import configuration
from captum_ib.loading.files import MAX_BYTES, has, inside, one_line, read_json, refusing
from captum_ib.loading.from_open_clip import CONFIG, read_open_clip
from captum_ib.loading.from_sentence import load_transformers
from captum_ib.loading.from_timm import wrap_timm
from captum_ib.loading.hubs import wrapped
from captum_ib.loading.loaded import FolderError, LoadedModel, Options, Resize, Triple, triple
from captum_ib.loading.timm_rules import labels_of, timm_class, timm_configuration
from captum_ib.loading.values import admitted, sides
from captum_ib.loading.weights import Weights, fill, find_weights


def load_folder(folder: Path, options: Options) -> LoadedModel:
    """The model in a folder; which library made it stands in its ``config.json``.

    - sentence-transformers: ``modules.json``, with the pooling in a folder of its own.
    - transformers: ``model_type``, with ``preprocessor_config.json`` and a tokenizer beside it.
    - timm: ``architecture`` (a timm name) with ``model_args`` and ``pretrained_cfg``, or
      ``constructor`` (``timm.models.….Class``) with ``kwargs``, ``mean`` and ``std``.
    - open_clip: ``open_clip_config.json``.
    - a transformers CLIP whose vocabulary is a list of whole words, ``words.json``.

    Raises:
        ValueError: the configuration is missing or is none of these, says what a folder may not
            say, or does not fit the weights.
    """
    if has(folder, CONFIG):
        return read_open_clip(folder, str(folder), options)
    if not has(folder, "config.json"):
        raise FolderError(f"{folder} is not a model: it holds no config.json")
    config = read_json(folder, "config.json")
    with refusing(folder):
        if "constructor" in config or "architecture" in config:
            return _timm(folder, config, options)
        if "model_type" not in config:
            raise FolderError(
                f"{folder / 'config.json'} says neither model_type (transformers) nor "
                "architecture or constructor (timm)"
            )
        if has(folder, "words.json"):
            return _clip_of_words(folder, config, options)
        return load_transformers(str(folder), options)


def _timm(folder: Path, config: dict[str, Any], options: Options) -> LoadedModel:
    where = str(folder / "config.json")
    config = timm_configuration(config, where)
    weights = find_weights(folder, options) if options.pretrained else None
    model, left_out = _filled(lambda: _timm_module(where, config), weights, folder)
    labels = labels_of(config, where)
    classes = getattr(model, "num_classes", None)
    if labels is not None and classes and len(labels) != classes:
        raise FolderError(f"{where}: {len(labels)} labels for {classes} classes")
    if "pretrained_cfg" in config:
        model.pretrained_cfg = config["pretrained_cfg"]
        return wrap_timm(str(folder), model, labels, left_out)
    mean, std = _normalisation(folder, config, options)
    size = _pair(config.get("kwargs", config.get("model_args", {})).get("img_size", 224))
    preprocess = Resize(size, mean, std)
    return wrapped(
        str(folder), model, preprocess, size, mean, std, labels=labels, left_out=left_out
    )


def _timm_module(where: str, config: dict[str, Any]) -> nn.Module:
    """The module that ``config`` describes; only timm's own names are ever called."""
    import timm

    arguments = config.get("kwargs", config.get("model_args", {}))
    name = config.get("constructor", config.get("architecture", ""))
    if timm.is_model(name):
        if "num_classes" in config:
            arguments = {"num_classes": config["num_classes"], **arguments}
        return timm.create_model(name, pretrained=False, **arguments)
    kind = timm_class(name, where)
    known = inspect.signature(kind).parameters
    unknown = sorted(set(arguments) - set(known)) if "kwargs" not in known else []
    if unknown:
        raise FolderError(f"{where}: {kind.__name__} takes no {', '.join(unknown)}")
    return kind(**arguments)


def _clip_of_words(folder: Path, config: dict[str, Any], options: Options) -> LoadedModel:
    """A transformers CLIP with a vocabulary of whole words, as the zoo's."""
    from transformers import CLIPModel

    if config["model_type"] != "clip":
        raise FolderError(
            f"{folder}: words.json goes with model_type clip, not {config['model_type']}"
        )
    where = str(folder / "config.json")
    settings = configuration(config, where)
    weights = find_weights(folder, options) if options.pretrained else None
    words = _words(folder, settings.text_config)
    model, left_out = _filled(lambda: CLIPModel(settings), weights, folder)
    mean, std = _normalisation(folder, config, options)
    vision = admitted(
        {"image_size": settings.vision_config.image_size}, {"image_size": sides}, where, strict=True
    )
    size = _pair(vision["image_size"])
    preprocess = Resize(size, mean, std)
    return wrapped(str(folder), model, preprocess, size, mean, std, words=words, left_out=left_out)


def _words(folder: Path, text: Any) -> Any:
    """The tokenizer in ``words.json``."""
    from captum_ib.zoo.tokenizer import WordTokenizer as tokenizer

    file = inside(folder, "words.json")
    if file.stat().st_size > MAX_BYTES:
        raise FolderError(f"{folder / 'words.json'} has more than {MAX_BYTES} bytes")
    with refusing(f"{folder / 'words.json'} is no list of words"):
        words = tokenizer.from_file(file, text.max_position_embeddings)
    if len(words) > text.vocab_size:
        raise FolderError(
            f"{folder / 'words.json'} has {len(words)} words, but the model {text.vocab_size}"
        )
    return words


def _filled(build: Any, weights: Weights | None, folder: Path) -> tuple[Any, tuple[str, ...]]:
    """A model with its weights, and what of them was left out."""
    where = folder / "config.json"
    check_size(build, None if weights is None else weights.size, where)
    model = build()
    return model, () if weights is None else fill(model, weights)


def _normalisation(folder: Path, config: dict[str, Any], options: Options) -> tuple[Triple, Triple]:
    mean = options.mean or config.get("mean")
    std = options.std or config.get("std")
    if mean is None or std is None:
        raise FolderError(
            f"{folder / 'config.json'} does not say how images are normalised; pass mean= and std= "
            "(three numbers each), or write them there"
        )
    try:
        return triple(mean, "mean"), triple(std, "std")
    except ValueError as error:
        raise FolderError(f"{folder / 'config.json'}: {one_line(error)}") from error


def _pair(size: int | list[int]) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    if len(size) != 2:
        raise FolderError(f"a size must be one number or two, given {size}")
    return size[0], size[1]
