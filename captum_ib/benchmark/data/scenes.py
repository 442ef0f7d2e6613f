"""Generated scenes as samples: captioned for a dual encoder, labelled for a classifier."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from captum_ib.benchmark.config import DataConfig
from captum_ib.benchmark.data.samples import Sample
from captum_ib.loading.load import LoadedModel
from captum_ib.zoo import scenes
from captum_ib.zoo.evaluate import HELD_OUT_SEED

ENDLESS = 10**9
"""Length of what never ends; a run says how many samples it takes."""


@dataclass(frozen=True)
class SceneData:
    """Scenes of one seed; scene i depends on ``(seed, i)`` only.

    Attributes:
        seed: of the scenes. The models of the zoo were trained on seed 0.
        size: (height, width) of the pictures, the model's.
        captioned: with a caption and its words of content, or with a class.
        objects: fewest and most objects per scene.
    """

    seed: int
    size: tuple[int, int]
    captioned: bool
    objects: tuple[int, int]

    def __len__(self) -> int:
        return ENDLESS

    def id(self, index: int) -> str:
        """Names the seed and the place, e.g. ``scene-7-12``."""
        if not 0 <= index < ENDLESS:
            raise IndexError(f"sample {index} of {ENDLESS}")
        return f"scene-{self.seed}-{index}"

    def read(self, index: int) -> Sample:
        """Draw a scene."""
        name = self.id(index)
        where = {"seed": self.seed, "start": index, "size": self.size, "objects": self.objects}
        if not self.captioned:
            scene = scenes.labelled(1, **where)
            label = int(scene.labels[0])
            return Sample(name, _picture(scene.images[0]), label, mask=scene.mask[0].numpy())
        scene = scenes.captioned(1, **where)
        caption = scene.captions[0]
        said = zip(caption.split(), scene.content[0], strict=True)
        return Sample(
            name,
            _picture(scene.images[0]),
            caption=caption,
            mask=scene.mask[0].numpy(),
            words=tuple(word for word, content in said if content),
        )


def _picture(pixels: Tensor) -> Image.Image:
    return Image.fromarray((pixels * 255).round().byte().permute(1, 2, 0).numpy())


def open_dataset(config: DataConfig, loaded: LoadedModel) -> SceneData:
    """Scenes for a model, at its image size.

    Options: ``seed`` (default: that of the held-out scenes), ``objects``, the fewest and most per
    scene (default 1 to 4).

    Raises:
        ValueError: an option is out of range; or a classifier whose classes are not the scenes'.
    """
    captioned = loaded.kind == "dual"
    if not captioned and loaded.labels is not None and loaded.labels != list(scenes.NAMED_SHAPES):
        raise ValueError(
            f"scenes have the classes {', '.join(scenes.NAMED_SHAPES)}, which are not those of "
            f"{loaded.name}; use zoo:vit-scenes, or other data"
        )
    options = config.options
    data = SceneData(
        seed=options.get("seed", HELD_OUT_SEED),
        size=loaded.image_size,
        captioned=captioned,
        objects=options.get("objects", (1, scenes.MAX_OBJECTS)),
    )
    data.read(0)  # an option out of range shows here
    return data
