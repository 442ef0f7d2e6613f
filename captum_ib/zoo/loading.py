"""Load a trained model of the zoo together with what it needs to take pictures and captions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from captum_ib.lazy import at_front_door
from captum_ib.rgb import as_rgb
from captum_ib.zoo import architectures
from captum_ib.zoo.packaged import PACKAGED
from captum_ib.zoo.tokenizer import WordTokenizer

WEIGHTS = Path(__file__).parent / "weights"
"""Folder of the package that holds one folder per model."""


@dataclass(frozen=True)
class ZooModel:
    """A trained model and what belongs to it.

    Attributes:
        name: Its name in the zoo.
        model: The network in eval mode, float32, on the CPU: a transformers ``CLIPModel``
            (``kind="dual"``) or a timm ``VisionTransformer`` (``kind="classifier"``).
        kind: What the model does.
        tokenizer: ``tokenizer(captions) -> (input_ids, attention_mask)``; None for a classifier.
        labels: Names of the classes; None for a dual encoder.
        image_size: Height and width of its images in pixels.
        mean, std: Normalisation of the three channels of images in [0, 1].
    """

    name: str
    model: Any
    kind: Literal["classifier", "dual"]
    tokenizer: WordTokenizer | None
    labels: list[str] | None
    image_size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def preprocess(self, image: Image.Image) -> Tensor:
        """Resize a picture to the model's size (aspect ratio not kept) and normalise it.

        Args:
            image: A PIL image of any size and mode.

        Returns:
            ``(3, H, W)`` float32.

        Raises:
            TypeError: If ``image`` is no PIL image.
        """
        if not isinstance(image, Image.Image):
            raise TypeError(
                f"image must be a PIL image; got {type(image).__name__}. Use normalize(...) for a "
                f"tensor with values in [0, 1]."
            )
        height, width = self.image_size
        picture = as_rgb(image).resize((width, height), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
        return self.normalize(pixels)

    def normalize(self, images: Tensor) -> Tensor:
        """Normalise images ``(..., 3, H, W)`` with values in [0, 1], as the scenes have them."""
        mean = images.new_tensor(self.mean)[:, None, None]
        return (images - mean) / images.new_tensor(self.std)[:, None, None]

    def tokens(self, ids: Tensor) -> list[str]:
        """The words of one row ``(T,)`` of token ids.

        Raises:
            TypeError: If the model takes no captions.
        """
        if self.tokenizer is None:
            raise TypeError(f"{self.name} is a classifier and has no tokens.")
        return self.tokenizer.tokens(ids)


def names() -> list[str]:
    """Names of the models that come with the package.

    Example:
        >>> names()
        ['clip-scenes', 'vit-scenes', 'vit-relations']
    """
    return list(architectures.SPECS)


@overload
def load(name: Literal["efficientnet-lite0", "minilm"], folder: None = None) -> Any: ...
@overload
def load(name: str, folder: str | Path | None = None) -> ZooModel: ...
def load(name: str, folder: str | Path | None = None) -> ZooModel | Any:
    """Load a model of the zoo.

    Args:
        name: ``"clip-scenes"``, a dual encoder, or a classifier: ``"vit-scenes"`` tells shapes,
            ``"vit-relations"`` where one object lies, seen from another. With the extra ``weights``
            also ``"efficientnet-lite0"``, an ImageNet classifier, and ``"minilm"``, a sentence
            encoder (all-MiniLM-L6-v2).
        folder: Where ``python -m captum_ib.zoo.train`` wrote the model; by default the trained
            weights that come with the package.

    Returns:
        The model, in eval mode, and what belongs to it. Of the last two, what
        ``captum_ib.load(name)`` gives: a :class:`captum_ib.loading.LoadedModel`.

    Raises:
        MissingExtraError: The extra ``weights`` is not installed.
        ValueError: If there is no such model, or the folder's files are not those of this model.
        FileNotFoundError: If the folder lacks one of the model's files.

    Example:
        >>> model = load("vit-scenes")
        >>> model.labels[:3]
        ['circle', 'square', 'triangle']
        >>> from captum_ib.zoo import scenes
        >>> model.model(model.normalize(scenes.labelled(2).images)).shape
        torch.Size([2, 7])
    """
    if name in PACKAGED:
        if folder is not None:
            raise ValueError(f"{name} comes in a package; load({name!r}) takes no folder.")
        return at_front_door("load")(f"zoo:{name}")
    if name not in architectures.SPECS:
        has = ", ".join([*names(), *PACKAGED])
        raise ValueError(f"unknown model {name!r}; the zoo has {has}.")
    spec = architectures.SPECS[name]
    home = WEIGHTS / name if folder is None else Path(folder)
    for file in ("config.json", "model.safetensors"):
        if not (home / file).is_file():
            raise FileNotFoundError(
                f"{home / file} is missing. Run `python -m captum_ib.zoo.train {name} --out "
                f"{home}`, or reinstall the package."
            )
    config = architectures.config_of(name)
    _require(config, home / "config.json", name)
    # Fresh weights are drawn only to be overwritten: leave the caller's random numbers alone.
    with torch.random.fork_rng(devices=[]):
        model = architectures.build(config)
    file = home / "model.safetensors"
    try:
        model.load_state_dict(load_file(file))
    except (RuntimeError, SafetensorError) as error:  # RuntimeError: names or shapes, said on lines
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{file} does not hold the weights of {name}: {reason}") from error
    dual = config.get("model_type") == "clip"
    return ZooModel(
        name=name,
        model=model.eval(),
        kind="dual" if dual else "classifier",
        tokenizer=WordTokenizer.from_file(home / "words.json") if dual else None,
        labels=None if dual else list(config["label_names"]),
        image_size=(spec.size, spec.size),
        mean=(spec.mean, spec.mean, spec.mean),
        std=(spec.std, spec.std, spec.std),
    )


def _require(config: dict[str, Any], file: Path, name: str) -> None:
    """See that a configuration is that of the zoo's model, to the letter.

    The model is then built from what the package says, and never from what the file says.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not valid JSON ({type(error).__name__}).") from error
    if found != config:
        raise ValueError(
            f"{file} is not the configuration of {name}. Load another model with "
            f"captum_ib.load({str(file.parent)!r})."
        )
