"""The pictures of the methods' pages and of the page on figures, drawn with the bundled models.

The docs build draws them every time; a picture is replaced only where it has changed.
By hand, from the repository's root: ``python docs/figures.py [folder]``.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from captum.attr import IntegratedGradients
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from captum_ib import (
    CAM2IB,
    IBA,
    M2IB,
    NIB,
    BitsCurve,
    CoIBA,
    CoM2IB,
    DualEncoder,
    InputIBA,
    zoo,
)
from captum_ib.collapse import is_collapsed
from captum_ib.curve import Curve
from captum_ib.visualization import (
    Panel,
    Passage,
    Style,
    enlarged,
    grid,
    overlay,
    save,
    texts,
)
from captum_ib.zoo.evaluate import HELD_OUT_SEED

SAME = 1.5
"""Mean difference of pixel values (of 255) up to which two pictures count as the same."""
START = 1000  # scenes of the held-out seed that no table uses to choose anything
SEED = 0
SPECIAL = ("<bos>", "<eos>", "<pad>")


@cache
def classifier() -> tuple[Any, Tensor, Tensor, Tensor]:
    """``vit-scenes``; two pictures in [0, 1]; the same normalised; their classes."""
    vit = zoo.load("vit-scenes")
    scenes = zoo.scenes.labelled(
        2, seed=HELD_OUT_SEED, start=START, objects=(3, 4), size=vit.image_size
    )
    return vit, scenes.images, vit.normalize(scenes.images), scenes.labels


@cache
def pairs() -> tuple[Any, DualEncoder, Any, Tensor, Tensor, Tensor]:
    """``clip-scenes``; as a dual encoder; two scenes; normalised pictures, ids and mask."""
    clip = zoo.load("clip-scenes")
    scenes = zoo.scenes.captioned(
        2, seed=HELD_OUT_SEED, start=START, objects=(3, 4), size=clip.image_size
    )
    ids, mask = clip.tokenizer(scenes.captions)
    dual = DualEncoder.from_model(clip.model)
    return clip, dual, scenes, clip.normalize(scenes.images), ids, mask


def class_grid(methods: dict[str, tuple[Any, dict[str, Any]]], unit: str = "bits") -> Figure:
    """Two scenes below each other, and beside each the map of every method."""
    vit, images, inputs, labels = classifier()
    maps = {
        title: method.attribute(inputs, target=labels, **settings)
        for title, (method, settings) in methods.items()
    }
    rows = [[Panel(title, each[i], unit) for title, each in maps.items()] for i in range(2)]
    return grid(list(images), rows, titles=[vit.labels[int(label)] for label in labels])


def pair_grid(methods: dict[str, tuple[Any, dict[str, Any]]], unit: str = "bits") -> Figure:
    """Two pairs below each other, and beside each the map and the caption of every method."""
    clip, _, scenes, pixels, ids, mask = pairs()
    found = {
        title: method.attribute((pixels, ids), additional_forward_args=mask, **settings)
        for title, (method, settings) in methods.items()
    }
    rows = []
    for i in range(2):
        words = clip.tokens(ids[i])
        shown = [at for at, word in enumerate(words) if word not in SPECIAL]
        rows.append(
            [
                Panel(title, image[i], unit, None, [words[at] for at in shown], text[i, shown])
                for title, (image, text) in found.items()
            ]
        )
    return grid(list(scenes.images), rows, titles=scenes.captions)


def iba() -> Figure:
    """IBA at three depths."""
    model = classifier()[0].model
    return class_grid(
        {f"IBA, block {b} of 8": (IBA(model, f"blocks.{b}"), {"seed": SEED}) for b in (1, 4, 7)}
    )


def input_iba() -> Figure:
    """InputIBA with its prior and without, beside IBA at the layer whose features it matches."""
    model = classifier()[0].model
    return class_grid(
        {
            "InputIBA": (InputIBA(model, "auto"), {"seed": SEED}),
            "InputIBA, no prior": (InputIBA(model, "auto"), {"seed": SEED, "prior": "none"}),
            "IBA": (IBA(model, "auto"), {"seed": SEED, "beta": 1.0}),
        }
    )


def coiba() -> Figure:
    """CoIBA beside IBA and the mean of IBA over the same layers."""
    model = classifier()[0].model
    comprehensive = CoIBA(model)
    layers = [name for name, _ in comprehensive.layers]
    return class_grid(
        {
            "CoIBA": (comprehensive, {"seed": SEED}),
            "IBA* (mean over the same layers)": (IBA(model, layers), {"seed": SEED}),
            "IBA (block 4 of 8)": (IBA(model), {"seed": SEED}),
        }
    )


def nib() -> Figure:
    """NIB on pairs, at the paper's depth and where it did best."""
    dual = pairs()[1]
    return pair_grid(
        {
            "NIB, layers='paper'": (NIB(dual, "paper"), {}),
            "NIB, layers='auto'": (NIB(dual, "auto"), {}),
        },
        unit="cosine",
    )


def m2ib() -> Figure:
    """M2IB: the layer and the prior matter more than anything else."""
    dual = pairs()[1]
    towers = ["vision_model.encoder.layers.0", "text_model.encoder.layers.0"]
    return pair_grid(
        {
            "M2IB (blocks 6 and 4)": (M2IB(dual), {"seed": SEED}),
            "M2IB (blocks 0)": (M2IB(dual, towers), {"seed": SEED}),
            "M2IB (blocks 0), prior='estimated'": (
                M2IB(dual, towers),
                {"seed": SEED, "prior": "estimated"},
            ),
        }
    )


def ca_m2ib() -> Figure:
    """CA-M2IB beside M2IB, at the paper's depth."""
    dual = pairs()[1]
    return pair_grid(
        {"M2IB": (M2IB(dual), {"seed": SEED}), "CA-M2IB": (CAM2IB(dual), {"seed": SEED})}
    )


def com2ib() -> Figure:
    """CoM2IB without and with references, and guided."""
    clip, dual, *_ = pairs()
    others = zoo.scenes.captioned(64, seed=2, size=clip.image_size)
    referred = CoM2IB(dual)
    referred.estimate([(clip.normalize(others.images), *clip.tokenizer(others.captions))])
    return pair_grid(
        {
            "CoM2IB": (CoM2IB(dual), {"seed": SEED}),
            "CoM2IB, with references": (referred, {"seed": SEED}),
            "the same, guidance=0.25": (referred, {"seed": SEED, "guidance": 0.25}),
        }
    )


def _references() -> Tensor:
    """Other scenes, whose activations the noise is like."""
    vit = classifier()[0]
    return vit.normalize(zoo.scenes.labelled(64, seed=7, size=vit.image_size).images)


@cache
def _curve() -> Curve:
    vit, _, x, target = classifier()
    blocks = [f"blocks.{number}" for number in range(2, 8)]
    found = BitsCurve(CoIBA(vit.model, blocks)).attribute(
        x, _references(), target, seed=SEED, return_curve=True
    )
    return found[1]


def bits_curve() -> Figure:
    """The share kept against the bits of the two scenes."""
    return _curve().plot()


def bits_strip() -> Figure:
    """The first scene's maps along the path."""
    return _curve().strip(0)


def quickstart() -> Figure:
    """A class and a caption, each with two methods."""
    vit, images, inputs, labels = classifier()
    clip, dual, scenes, pixels, ids, mask = pairs()
    steps = {"n_steps": 50, "internal_batch_size": 20}
    gradients = IntegratedGradients(vit.model).attribute(
        inputs[:1].clone().requires_grad_(), target=labels[:1], **steps
    )
    bits = CoIBA(vit.model).attribute(inputs[:1], target=labels[:1], seed=SEED)
    method = CoM2IB(dual)
    pair = {"additional_forward_args": mask[:1]}
    image, text = method.attribute((pixels[:1], ids[:1]), seed=SEED, **pair)
    signed_image, signed_text = NIB(dual, "auto").attribute((pixels[:1], ids[:1]), **pair)
    words = clip.tokens(ids[0])
    shown = [at for at, word in enumerate(words) if word not in SPECIAL]
    said = [words[at] for at in shown]
    rows = [
        [
            Panel("Integrated Gradients", gradients[0].sum(0).detach(), "logits", True),
            Panel("CoIBA", bits[0], "bits"),
        ],
        [
            Panel("NIB", signed_image[0], "cosine", True, said, signed_text[0, shown]),
            Panel("CoM2IB", image[0], "bits", False, said, text[0, shown]),
        ],
    ]
    titles = [f"class: {vit.labels[int(labels[0])]}", scenes.captions[0]]
    return grid([images[0], scenes.images[0]], rows, titles=titles)


def figures_styles() -> Figure:
    """One map in six styles."""
    vit, images, inputs, labels = classifier()
    bits = CoIBA(vit.model).attribute(inputs[:1], target=labels[:1], seed=SEED)[0]
    styles = {
        "Style()": Style(),
        "Style(opacity=0.4)": Style(opacity=0.4),
        "Style(grey=True)": Style(grey=True),
        "Style(contours=3)": Style(contours=3),
        'Style(cmap="magma")': Style(cmap="magma"),
        "Style(masked=True)": Style(masked=True),
    }
    figure = Figure(figsize=(9.6, 6.6), facecolor="white")
    for number, (title, style) in enumerate(styles.items()):
        ax = figure.add_subplot(2, 3, number + 1)
        ax.imshow(overlay(enlarged(images[0]), bits, style=style))
        ax.set_axis_off()
        ax.set_title(title, family="monospace", fontsize=10)
    figure.subplots_adjust(0.02, 0.02, 0.98, 0.94, 0.06, 0.14)
    return figure


def figures_collapsed() -> Figure:
    """A depth at which IBA collapses, the same at a hundredth of its β, and an earlier depth."""
    vit, images, inputs, labels = classifier()
    runs = {
        "IBA, block 4 of 8, beta=10": ("blocks.4", 10.0),
        "IBA, block 4 of 8, beta=0.1": ("blocks.4", 0.1),
        "IBA, block 1 of 8, beta=10": ("blocks.1", 10.0),
    }
    maps = {}
    for title, (layer, beta) in runs.items():
        bits, trace = IBA(vit.model, layer).attribute(
            inputs, target=labels, beta=beta, seed=SEED, return_trace=True
        )
        maps[title] = bits, is_collapsed(bits, trace).tolist()
    rows = [
        [Panel(title, bits[i], collapsed=lost[i]) for title, (bits, lost) in maps.items()]
        for i in range(2)
    ]
    return grid(list(images), rows, titles=[vit.labels[int(label)] for label in labels])


def figures_texts() -> Figure:
    """The words of a caption alone, by two methods."""
    clip, dual, _, pixels, ids, mask = pairs()
    words = clip.tokens(ids[1])
    shown = [at for at, word in enumerate(words) if word not in SPECIAL]
    said = [words[at] for at in shown]
    pair = {"additional_forward_args": mask[1:]}
    _, bits = CoM2IB(dual).attribute((pixels[1:], ids[1:]), seed=SEED, **pair)
    _, signed = NIB(dual, "auto").attribute((pixels[1:], ids[1:]), **pair)
    return texts(
        [
            Passage("CoM2IB", said, bits[0, shown]),
            Passage("NIB", said, signed[0, shown], "cosine", True),
        ],
        title="What a caption says of its picture",
    )


PICTURES: dict[str, Callable[[], Figure]] = {
    function.__name__: function
    for function in (
        *(iba, input_iba, coiba, nib, m2ib, ca_m2ib, com2ib, bits_curve, bits_strip, quickstart),
        *(figures_styles, figures_collapsed, figures_texts),
    )
}
"""Name of the file → what draws it."""


def draw_all(folder: Path, names: tuple[str, ...] = tuple(PICTURES)) -> list[str]:
    """Draw the pictures into ``folder``; returns the files that are new or have changed."""
    folder.mkdir(parents=True, exist_ok=True)
    changed = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            fresh = save(PICTURES[name](), Path(scratch) / f"{name}.png", dpi=100)
            old = folder / fresh.name
            if not same(fresh, old):
                old.write_bytes(fresh.read_bytes())
                changed.append(fresh.name)
    return changed


def same(one: Path, other: Path) -> bool:
    """Whether both files hold the same picture, but for rounding."""
    if not other.is_file():
        return False
    first, second = (np.asarray(Image.open(path).convert("RGB"), float) for path in (one, other))
    return first.shape == second.shape and bool(np.abs(first - second).mean() <= SAME)


if __name__ == "__main__":
    torch.set_num_threads(1)
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "images/methods"
    sys.stdout.write("\n".join(draw_all(target)) + "\n")
