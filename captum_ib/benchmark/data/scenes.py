"""Generated scenes as samples: captioned for a dual encoder, labelled for a classifier."""

from __future__ import annotations

from PIL import Image
from torch import Tensor

from captum_ib.benchmark.config import DataConfig
from captum_ib.benchmark.data.samples import Dataset, Sample
from captum_ib.loading.load import LoadedModel
from captum_ib.zoo import relations, scenes
from captum_ib.zoo.evaluate import HELD_OUT_SEED
from captum_ib.zoo.worlds import generator

ENDLESS = 10**9
"""Length of what never ends; a run says how many samples it takes."""


def open_dataset(config: DataConfig, loaded: LoadedModel) -> Dataset:
    """Scenes for a model, at its image size; scene i depends on the seed and i only.

    A classifier whose classes are directions gets scenes of relations, another one those of shapes.

    Options: ``seed`` (default: that of the held-out scenes; the models of the zoo were trained on
    seed 0), ``objects``, the fewest and most per scene (default 1 to 4; for relations 3 to 7).

    Raises:
        ValueError: an option is out of range; or a classifier whose classes are not the scenes'.
    """
    captioned = loaded.kind == "dual"
    labelled = generator(None if captioned else loaded.labels)
    if labelled is None:
        raise ValueError(
            f"scenes have the classes {', '.join(scenes.NAMED_SHAPES)} or "
            f"{', '.join(relations.DIRECTIONS)}, which are not those of {loaded.name}; use "
            f"zoo:vit-scenes, zoo:vit-relations, or other data"
        )
    seed = config.options.get("seed", HELD_OUT_SEED)
    where = {"seed": seed, "size": loaded.image_size}
    if "objects" in config.options:
        where["objects"] = config.options["objects"]

    def read(place: int, name: str) -> Sample:
        if not captioned:
            scene = labelled(1, start=place, **where)
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
