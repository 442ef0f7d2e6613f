"""What takes the place of pixels that a metric removes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, zeros_like

from captum_ib.metrics.base import per_channel

Numbers = float | Sequence[float] | None
Fill = Literal["black", "mean", "blur"]


def black(images: Tensor, mean: Numbers, std: Numbers, baseline: Numbers, metric: str) -> Tensor:
    """Black in pixel space, or the baseline, in units of the model's input; ``(N, C, H, W)``.

    Args:
        images: ``(N, C, H, W)``, whose place it takes.
        mean: per channel, what preprocessing subtracted; with ``std``.
        std: per channel, what preprocessing divided by.
        baseline: a number or one per channel, instead of black.
        metric: its name, for the error.

    Raises:
        ValueError: negative values, so 0 is not black, and nothing that says what is.
    """
    if baseline is not None:
        return per_channel(baseline, images, "baseline").expand_as(images)
    if mean is not None and std is not None:
        shift = per_channel(mean, images, "mean")
        return (-shift / per_channel(std, images, "std")).expand_as(images)
    if bool((images < 0).any()):
        raise ValueError(
            f"{metric}: images have negative values, so they are preprocessed and 0 is not "
            "black; build the metric with the preprocessing's mean= and std=, or with "
            "baseline= to say what deleted pixels become"
        )
    return zeros_like(images)
