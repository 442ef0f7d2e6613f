"""Load a model from a folder that holds ``config.json`` and ``model.safetensors``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from captum_ib.loading.from_timm import wrap_timm
from captum_ib.loading.from_transformers import load_transformers
from captum_ib.loading.hubs import checked, one_line, pickled
from captum_ib.loading.loaded import LoadedModel, Options, Resize, Triple, triple


def load_folder(folder: Path, options: Options) -> LoadedModel:
    """The model in a folder; which library made it stands in its ``config.json``.

    - transformers: ``model_type``, with ``preprocessor_config.json`` and a tokenizer beside it.
    - timm: ``architecture`` (a timm name) with ``model_args`` and ``pretrained_cfg``, or
      ``constructor`` (``timm.models.….Class``) with ``kwargs``, ``mean`` and ``std``.
    - a transformers CLIP whose vocabulary is a list of whole words, ``words.json``.

    Raises:
        ValueError: the configuration is missing or is none of these, or does not fit the weights.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise ValueError(f"{folder} is not a model: it holds no config.json")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not valid JSON: {one_line(error)}") from error
    if "constructor" in config or "architecture" in config:
        return _timm(folder, config, options)
    if "model_type" not in config:
        raise ValueError(
            f"{file} says neither model_type (transformers) nor architecture or constructor (timm)"
        )
    if (folder / "words.json").is_file():
        return _clip_of_words(folder, config, options)
    return load_transformers(str(folder), options)


def _timm(folder: Path, config: dict[str, Any], options: Options) -> LoadedModel:
    model = _timm_module(folder, config)
    _fill(model, folder, options)
    labels = config.get("label_descriptions") or config.get("label_names")
    if isinstance(labels, dict):  # timm: description by label name, in the order of the names
        labels = [labels[name] for name in config.get("label_names", labels)]
    if "pretrained_cfg" in config:
        model.pretrained_cfg = config["pretrained_cfg"]
        return wrap_timm(str(folder), model, labels)
    mean, std = _normalisation(folder, config, options)
    size = _pair(config.get("kwargs", config.get("model_args", {})).get("img_size", 224))
    preprocess = Resize(size, mean, std)
    return checked(
        LoadedModel(
            str(folder), model.eval(), "classifier", preprocess, size, mean, std, labels=labels
        )
    )


def _timm_module(folder: Path, config: dict[str, Any]) -> nn.Module:
    """The module that ``config`` describes; only timm's own names are ever called."""
    import timm

    arguments = config.get("kwargs", config.get("model_args", {}))
    name = config.get("constructor", config.get("architecture", ""))
    if timm.is_model(name):
        arguments = {"num_classes": config.get("num_classes"), **arguments}
        return timm.create_model(name, pretrained=False, **arguments)
    module, _, leaf = name.removeprefix("timm.models.").rpartition(".")
    home = getattr(timm.models, module, None) if module else timm.models
    constructor = getattr(home, leaf, None)
    if not (isinstance(constructor, type) and issubclass(constructor, nn.Module)):
        raise ValueError(
            f"{folder / 'config.json'}: {name!r} is neither a model nor a class of timm.models"
        )
    return constructor(**arguments)


def _clip_of_words(folder: Path, config: dict[str, Any], options: Options) -> LoadedModel:
    """A transformers CLIP with a vocabulary of whole words, as the zoo's."""
    from transformers import CLIPConfig, CLIPModel

    from captum_ib.zoo.tokenizer import WordTokenizer

    if config["model_type"] != "clip":
        raise ValueError(
            f"{folder}: words.json goes with model_type clip, not {config['model_type']}"
        )
    model = CLIPModel(CLIPConfig(**config))
    _fill(model, folder, options)
    mean, std = _normalisation(folder, config, options)
    size = _pair(config["vision_config"]["image_size"])
    words = WordTokenizer.from_file(
        folder / "words.json", config["text_config"]["max_position_embeddings"]
    )
    return checked(
        LoadedModel(
            name=str(folder),
            model=model.eval(),
            kind="dual",
            preprocess=Resize(size, mean, std),
            image_size=size,
            mean=mean,
            std=std,
            tokenizer=words,
            tokens=words.tokens,
            special_tokens=words.special_tokens,
        )
    )


def _fill(model: nn.Module, folder: Path, options: Options) -> None:
    """Put the folder's weights into the model."""
    if not options.pretrained:
        return
    file = folder / "model.safetensors"
    if not file.is_file():
        others = any(folder.glob("*.bin")) or any(folder.glob("*.pth")) or any(folder.glob("*.pt"))
        raise ValueError(pickled(str(folder)) if others else f"{file} is missing")
    try:
        model.load_state_dict(load_file(file))
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(f"{file} does not fit config.json beside it: {one_line(error)}") from error


def _normalisation(folder: Path, config: dict[str, Any], options: Options) -> tuple[Triple, Triple]:
    mean = options.mean or config.get("mean")
    std = options.std or config.get("std")
    if mean is None or std is None:
        raise ValueError(
            f"{folder / 'config.json'} does not say how images are normalised; pass mean= and std= "
            "(three numbers each), or write them there"
        )
    return triple(mean, "mean"), triple(std, "std")


def _pair(size: int | list[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
