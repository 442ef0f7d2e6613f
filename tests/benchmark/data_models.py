"""Models as data sees them: a kind, and names of classes."""

from __future__ import annotations

from torch import nn

from captum_ib.loading.loaded import LoadedModel, Resize


def model(kind="classifier", labels=("cat", "dog", "great ape, ape")):
    half = (0.5, 0.5, 0.5)
    return LoadedModel(
        name="a model",
        model=nn.Identity(),
        kind=kind,
        preprocess=Resize((8, 8), half, half),
        image_size=(32, 48),
        mean=half,
        std=half,
        labels=None if labels is None else list(labels),
    )
