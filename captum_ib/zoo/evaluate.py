"""Measure the models of the zoo on held-out scenes: ``python -m captum_ib.zoo.evaluate``.

``clip-scenes``: over captions, how well the images that hold all that a caption names rank above
those that don't (area under the ROC curve). Classifiers: accuracy, and how sure they are.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from captum_ib import zoo
from captum_ib.zoo import captions, scenes
from captum_ib.zoo.worlds import generator

HELD_OUT_SEED = 1_000_003
"""Seed of the held-out scenes. Streams of different seeds never meet (see :mod:`.scenes`)."""

_BINS = 20


def auc(scores: Tensor, positive: Tensor) -> Tensor:
    """Area under the ROC curve: how often a positive scores above a negative, ties counting half.

    Args:
        scores: ``(..., N)`` scores.
        positive: ``(..., N)`` bool.

    Returns:
        ``(...)`` float64 in [0, 1]; nan for a row without positives or without negatives.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> auc(torch.tensor([0.9, 0.4, 0.4, 0.1]), torch.tensor([True, True, False, False])).item()
        0.875
    """
    if scores.shape != positive.shape:
        raise ValueError(
            f"scores and positive must have the same shape; got {tuple(scores.shape)} and "
            f"{tuple(positive.shape)}."
        )
    difference = scores[..., :, None] - scores[..., None, :]
    won = (difference > 0).double() + 0.5 * (difference == 0).double()
    pairs = positive[..., :, None] & ~positive[..., None, :]
    return (won * pairs).sum((-1, -2)) / pairs.sum((-1, -2))


def similarities(model: zoo.ZooModel, data: scenes.CaptionedScenes, batch: int = 200) -> Tensor:
    """Cosine similarity of every caption with every image, ``(N captions, N images)``."""
    if model.tokenizer is None:
        raise TypeError(f"{model.name} takes no captions; pass zoo.load('clip-scenes').")
    network, embeds = model.model, []
    with torch.no_grad():
        for images in data.images.split(batch):
            vision = network.vision_model(pixel_values=model.normalize(images))
            embeds.append(network.visual_projection(vision[1]))
        ids, mask = model.tokenizer.encode(data.captions)
        text = network.text_model(input_ids=ids, attention_mask=mask)
        words = network.text_projection(text[1])
    return functional.normalize(words, dim=-1) @ functional.normalize(torch.cat(embeds), dim=-1).T


def caption_aucs(
    model: zoo.ZooModel, n: int = 400, *, seed: int = HELD_OUT_SEED, batch: int = 200
) -> Tensor:
    """Per caption the AUC of ranking n images by whether they hold all that the caption names.

    Args:
        model: ``zoo.load("clip-scenes")``, or another model that zoo.load gave for such scenes.
        n: Number of scenes, of which both the captions and the images are taken.
        seed: Seed of the scenes.
        batch: Images per forward pass.

    Returns:
        ``(n,)`` float64.
    """
    data = scenes.captioned(n, seed=seed, size=model.image_size)
    true = captions.holds(data.mentions, data.colours, data.shapes)
    cosine = similarities(model, data, batch)
    # Row by row: all pairs of all captions at once would take gigabytes.
    return torch.stack([auc(row, label) for row, label in zip(cosine, true, strict=True)])


def correct(
    model: zoo.ZooModel, n: int = 2000, *, seed: int = HELD_OUT_SEED, batch: int = 200
) -> Tensor:
    """Which of n held-out scenes a classifier of the zoo classifies rightly: ``(n,)`` bool.

    Args:
        model: ``zoo.load("vit-scenes")``, ``zoo.load("vit-relations")``, or another model that
            zoo.load gave for such scenes.
        n: Number of scenes.
        seed: Seed of the scenes.
        batch: Images drawn and classified at a time.
    """
    given, labels = probabilities(model, n, seed=seed, batch=batch)
    return given.argmax(1) == labels


def probabilities(
    model: zoo.ZooModel, n: int = 2000, *, seed: int = HELD_OUT_SEED, batch: int = 200
) -> tuple[Tensor, Tensor]:
    """What a classifier says of n held-out scenes, and what is true of them.

    Args:
        model, n, seed, batch: As for :func:`correct`.

    Returns:
        The probabilities of the classes ``(n, C)`` and the labels ``(n,)``.
    """
    draw = generator(model.labels) or scenes.labelled
    given, labels = [], []
    with torch.no_grad():
        for start in range(0, n, batch):
            data = draw(min(batch, n - start), seed=seed, start=start, size=model.image_size)
            given.append(model.model(model.normalize(data.images)).softmax(1))
            labels.append(data.labels)
    return torch.cat(given), torch.cat(labels)


def histogram(given: Tensor, labels: Tensor) -> str:
    """How sure a classifier is, in 20 bins of probability, a line each.

    Args:
        given: ``(N, C)`` probabilities of the classes.
        labels: ``(N,)`` the true classes.

    Returns:
        Per bin: the share of the samples whose true class has such a probability; the share whose
        answer, the likeliest class, has; how often such an answer is right.

    Example:
        >>> given = torch.tensor([[0.9, 0.1], [0.9, 0.1]])
        >>> print(histogram(given, torch.tensor([0, 1])).splitlines()[-2])
        0.90-0.95    0.5000  1.0000     0.500
    """
    sure, answer = given.max(1)
    true = given.gather(1, labels[:, None])[:, 0]
    lines = ["probability   class  answer  accuracy"]
    for number in range(_BINS):
        of_class, of_answer = _in_bin(true, number), _in_bin(sure, number)
        right = (answer == labels)[of_answer].double().mean().item()
        lines.append(
            f"{number / _BINS:.2f}-{(number + 1) / _BINS:.2f}   {_share(of_class):7.4f} "
            f"{_share(of_answer):7.4f}  {f'{right:.3f}' if of_answer.any() else '-':>8}"
        )
    return "\n".join(lines)


def _in_bin(values: Tensor, number: int) -> Tensor:
    return (values * _BINS).long().clamp(max=_BINS - 1) == number


def _share(chosen: Tensor) -> float:
    return chosen.double().mean().item()


def report(model: zoo.ZooModel, n: int, seed: int) -> str:
    """One line with what a model reaches on n held-out scenes."""
    if model.kind == "dual":
        values = caption_aucs(model, n, seed=seed)
        if values.isnan().any():
            raise ValueError(f"with n={n} some caption is true of all or of no image; take more.")
        spread = values.std().item() / n**0.5
        return (
            f"{model.name}: mean AUC {values.mean().item():.4f} ± {spread:.4f} (standard error) "
            f"over {n} captions, lowest {values.min().item():.4f}, seed {seed}"
        )
    count = int(correct(model, n, seed=seed).sum())
    return f"{model.name}: accuracy {count / n:.4f} ({count} of {n}), seed {seed}"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: print what the models reach on held-out scenes."""
    parser = argparse.ArgumentParser(prog="python -m captum_ib.zoo.evaluate", description=__doc__)
    parser.add_argument("name", choices=sorted(zoo.names()), help="which model")
    parser.add_argument("--folder", type=Path, help="its folder (default: the one in the package)")
    parser.add_argument("--seed", type=int, default=HELD_OUT_SEED)
    parser.add_argument(
        "--confidence", action="store_true", help="also how sure a classifier is, in 20 bins"
    )
    parser.add_argument("-n", type=int, default=2000, help="number of held-out scenes")
    given = parser.parse_args(arguments)
    try:
        model = zoo.load(given.name, given.folder)
        if given.confidence and model.labels is None:
            raise ValueError(f"{given.name} has no classes; --confidence is for classifiers.")
        line = report(model, given.n, given.seed)
        if given.confidence:
            line += "\n" + histogram(*probabilities(model, given.n, seed=given.seed))
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
