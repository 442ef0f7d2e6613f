"""Pictures to explain where nobody brings one: held-out scenes of the zoo."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from captum_ib.loading.load import LoadedModel
from captum_ib.zoo import scenes
from captum_ib.zoo.worlds import generator


def held_out(loaded: LoadedModel, count: int, seed: int) -> tuple[list[Image.Image], list[str]]:
    """Scenes that no model of the zoo was trained on, of the model's size, and their questions.

    Args:
        loaded: a dual encoder gets scenes with captions, a classifier scenes with a class.
        count: how many.
        seed: of the scenes.

    Returns:
        The pictures; and their captions, or their classes as indices of the zoo's classifier.
    """
    from captum_ib.zoo.evaluate import HELD_OUT_SEED

    size = loaded.image_size
    if loaded.kind == "dual":
        captioned = scenes.captioned(count, seed=HELD_OUT_SEED + seed, size=size)
        return [_to_picture(image) for image in captioned.images], captioned.captions
    # Classes of another kind get scenes of shapes: pictures of something, and a question.
    draw = generator(loaded.labels) or scenes.labelled
    labelled = draw(count, seed=HELD_OUT_SEED + seed, size=size)
    pictures = [_to_picture(image) for image in labelled.images]
    return pictures, [str(int(label)) for label in labelled.labels]


def _to_picture(image: Tensor) -> Image.Image:
    array = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return Image.fromarray(array)
