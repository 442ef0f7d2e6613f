"""What demo and app show of the world: photographs from scikit-image, and a pair of sentences."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

from captum_ib.zoo.packaged import PACKAGED, installed

PHOTOGRAPHS = ("chelsea.png", "coffee.png", "rocket.jpg")
"""Files of ``skimage/data``: by Stéfan van der Walt (CC0), by Rachel Michetti (CC0), and by SpaceX
(public domain)."""

MORE = ("astronaut.png", "clock_motion.png", "hubble_deep_field.jpg")
"""Further ones, so that the app has six: by NASA, by Stefan van der Walt, by NASA, all three in the
public domain."""

SENTENCES = ("A cat sleeps on the sofa.", "The kitten is napping on the couch.")
"""Two texts that say the same in other words."""


def missing() -> list[str]:
    """What pip would have to install for this part of the demo."""
    there = installed()
    models = [one.distribution for name, one in PACKAGED.items() if name not in there]
    return models if has_photographs() else [*models, "scikit-image"]


def has_photographs() -> bool:
    """Whether the package that holds them is installed."""
    return find_spec("skimage") is not None


def photographs(names: Sequence[str] = PHOTOGRAPHS) -> list[Image.Image]:
    """Photographs by the names of their files; the package that holds them is not imported."""
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise ImportError("the photographs need the package scikit-image: pip install scikit-image")
    folder = Path(spec.origin).parent / "data"
    return [Image.open(folder / name).convert("RGB") for name in names]
