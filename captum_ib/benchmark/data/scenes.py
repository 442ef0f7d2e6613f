"""Generated scenes as samples: captioned for a dual encoder, labelled for a classifier."""

from __future__ import annotations

from PIL import Image
from torch import Tensor

from captum_ib.benchmark.config import DataConfig
from captum_ib.benchmark.data.samples import Dataset, Sample
from captum_ib.loading.load import LoadedModel
from captum_ib.zoo import scenes
from captum_ib.zoo.evaluate import HELD_OUT_SEED

ENDLESS = 10**9
"""Length of what never ends; a run says how many samples it takes."""


def open_dataset(config: DataConfig, loaded: LoadedModel) -> Dataset:
    """Scenes for a model, at its image size; scene i depends on the seed and i only.

    Options: ``seed`` (default: that of the held-out scenes; the models of the zoo were trained on
    seed 0), ``objects``, the fewest and most per scene (default 1 to 4).

    Raises:
        ValueError: an option is out of range; or a classifier whose classes are not the scenes'.
    """
    captioned = loaded.kind == "dual"
    if not captioned and loaded.labels is not None and loaded.labels != list(scenes.NAMED_SHAPES):
        raise ValueError(
            f"scenes have the classes {', '.join(scenes.NAMED_SHAPES)}, which are not those of "
            f"{loaded.name}; use zoo:vit-scenes, or other data"
        )
    seed = config.options.get("seed", HELD_OUT_SEED)
    objects = config.options.get("objects", (1, scenes.MAX_OBJECTS))
    where = {"seed": seed, "size": loaded.image_size, "objects": objects}

    def read(place: int, name: str) -> Sample:
        if not captioned:
            scene = scenes.labelled(1, start=place, **where)
            label = int(scene.labels[0])
            return Sample(name, _picture(scene.images[0]), label, mask=scene.mask[0].numpy())
        scene = scenes.captioned(1, start=place, **where)
        caption, mask = scene.captions[0], scene.mask[0].numpy()
        said = zip(caption.split(), scene.content[0], strict=True)
        words = tuple(word for word, content in said if content)
        return Sample(name, _picture(scene.images[0]), None, caption, mask, words)

    read(0, "")  # an option out of range shows here
    return Dataset(ENDLESS, lambda place: f"scene-{seed}-{place}", read)


def _picture(pixels: Tensor) -> Image.Image:
    return Image.fromarray((pixels * 255).round().byte().permute(1, 2, 0).numpy())
