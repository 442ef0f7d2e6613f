"""Pictures for those who bring none: held-out scenes of the kind that the model knows."""

import numpy as np
import pytest

from captum_ib import load, zoo
from captum_ib.explaining.scenes import held_out


@pytest.mark.parametrize(
    ("name", "draw"),
    [("vit-scenes", zoo.scenes.labelled), ("vit-relations", zoo.relations.labelled)],
)
def test_a_classifier_of_the_zoo_gets_its_own_scenes(name, draw):
    loaded = load(name)
    pictures, questions = held_out(loaded, 3, seed=2)
    expected = draw(3, seed=1_000_005, size=loaded.image_size)
    assert questions == [str(label) for label in expected.labels.tolist()]
    pixels = np.stack([np.asarray(picture) for picture in pictures]).transpose(0, 3, 1, 2) / 255
    assert np.abs(pixels - expected.images.numpy()).max() <= 0.5 / 255 + 1e-6
