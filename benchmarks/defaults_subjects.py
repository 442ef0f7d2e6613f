"""The classifiers of benchmarks.defaults, their samples, and how a setting is judged on them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from captum.attr import LayerAttribution
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from captum_ib import methods, zoo
from captum_ib.metrics import InsertionMinusDeletion, LocalizationIoU, certify
from captum_ib.metrics.funnybirds.data import FunnyBirds
from captum_ib.models.layers import at_depth, blocks_of

CHOOSE_SEED, REFERENCE_SEED, HELD_OUT_SEED = 77, 55, 1_000_003
PART = 16  # samples per call; they never influence each other
ONE_BIT = 1.0
Scores = dict[str, np.ndarray]


@dataclass(frozen=True)
class Row:
    """A method with settings.

    Attributes:
        method: its name in the table of methods.
        at: "paper", "auto", the share of the depth at (or from) which it looks, a layer's name,
            several, or None.
        settings: keywords of ``attribute``.
        references: whether noise statistics are those of a reference set.
    """

    method: str
    at: Any = None
    settings: dict[str, Any] = field(default_factory=dict)
    references: bool = False

    @property
    def label(self) -> str:
        """How tables and files name it."""
        title = methods.get(self.method).title
        said = [f"{name} {value}" for name, value in self.settings.items()]
        place = "" if self.at is None else f", {self.at}" if self.at else ", 0"
        return ", ".join([title + place, *said, *(["references"] if self.references else [])])


@dataclass(frozen=True)
class Samples:
    """Normalised pictures, the class that is explained, and where its evidence is, if known."""

    images: Tensor
    target: Tensor
    mask: Tensor | None = None

    def part(self, start: int) -> Samples:
        """Some of them, without the truth about them."""
        return Samples(self.images[start : start + PART], self.target[start : start + PART])


class Classifier:
    """An image classifier with its two halves."""

    def __init__(
        self, model: nn.Module, halves: dict[str, Samples], references: Tensor, mean: Any, std: Any
    ) -> None:
        self.model, self.halves, self.references = model, halves, references
        self.mean, self.std = mean, std

    def layers(self, row: Row) -> Any:
        """The row's layers, as its class takes them."""
        if isinstance(row.at, float):
            found = blocks_of(self.model)
            if row.method == "coiba":
                chosen = found.blocks[int(row.at * len(found.blocks)) :]
                return [found.site(block)[1] for block in chosen]
            return at_depth(found.blocks, row.at)[1]
        return row.at

    def judge(self, row: Row, half: str, seed: int) -> Scores:
        """Scores per sample."""
        samples = self.halves[half]
        method, noise = self.made(row), None
        if hasattr(method, "estimate"):
            noise = self.made(replace(row, references=True)).statistics
        parts = [
            self._part(method, row, noise, samples.part(at), seed)
            for at in range(0, len(samples.images), PART)
        ]
        found = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        maps = torch.from_numpy(found.pop("map"))
        maps = LayerAttribution.interpolate(maps, samples.images.shape[2:], "bilinear")
        x, y, a = samples.images.numpy(), samples.target.numpy(), maps.numpy()
        judge = InsertionMinusDeletion(mean=self.mean, std=self.std, undefined="nan")
        found["ΔInsDel"] = np.array(judge(self.model, x, y, a, softmax=True, batch_size=PART))
        if samples.mask is not None:
            found |= pointed(maps, samples.mask)
        return found

    def made(self, row: Row) -> Any:
        """The method, with its statistics."""
        layers = self.layers(row)
        method = methods.get(row.method).cls(self.model, *([] if layers is None else [layers]))
        if row.references:
            method.estimate([self.references])
        return method

    def _part(self, method: Any, row: Row, noise: Any, some: Samples, seed: int) -> Scores:
        x, target = some.images, some.target
        if noise is None:
            return {"map": method.attribute(x, target=target, **row.settings).detach().numpy()}
        bits, trace = method.attribute(
            x, target=target, seed=seed, return_trace=True, **row.settings
        )
        with torch.no_grad():
            clean = self.model(x).softmax(1).gather(1, target[:, None])[:, 0]
        # Judged with noise of other pictures: the sample's own mean may carry its class.
        cut = certify(method, x, bits, ONE_BIT, target=target, baselines=noise, n_draws=10)
        return {
            "map": bits.numpy(),
            "kept": ((-trace.fit[-1]).exp() / clean).numpy(),
            "cut": cut.replaced.numpy(),
            "stays": 1 - cut.rate.numpy(),
            **amounts(bits, ""),
        }


def amounts(bits: Tensor, side: str) -> Scores:
    """Bits in all, and 1 where the fit kept nothing: no position of the map has a whole bit."""
    flat = bits.flatten(1)
    collapsed = flat.amax(1) < ONE_BIT
    return {f"{side}bits": flat.sum(1).numpy(), f"{side}collapsed": collapsed.double().numpy()}


def pointed(maps: Tensor, mask: Tensor) -> Scores:
    """Whether the maximum lies in the mask, and the IoU of the map's largest values with it."""
    peak = maps.flatten(1).argmax(1, keepdim=True)
    hit = mask.flatten(1).gather(1, peak)[:, 0].double().numpy()
    judge, truth = LocalizationIoU(undefined="nan"), mask[:, None].float().numpy()
    iou = judge(None, maps.numpy(), np.zeros(len(maps), int), a_batch=maps.numpy(), s_batch=truth)
    return {"pointing": hit, "IoU": np.array(iou)}


def classes(model: nn.Module, images: Tensor) -> Tensor:
    """The predicted class."""
    with torch.no_grad():
        return torch.cat([model(part).argmax(1) for part in images.split(PART)])


def vit_scenes(n_choose: int, n_report: int, **folders: Path) -> Classifier:
    """The zoo's ViT; generated scenes."""
    loaded = zoo.load("vit-scenes")

    def part(n: int, seed: int) -> Samples:
        scenes = zoo.scenes.labelled(n, seed=seed, size=loaded.image_size)
        images = loaded.normalize(scenes.images)
        return Samples(images, classes(loaded.model, images), scenes.mask)

    halves = {"choose": part(n_choose, CHOOSE_SEED), "report": part(n_report, HELD_OUT_SEED)}
    references = part(128, REFERENCE_SEED).images
    return Classifier(loaded.model, halves, references, loaded.mean, loaded.std)


def funnybirds(n_choose: int, n_report: int, *, shared: Path, **folders: Path) -> Classifier:
    """A ViT on rendered birds: the test pictures; nothing is chosen on them."""
    folder = shared / "conformance/vit"
    config = json.loads((folder / "config.json").read_text())
    model = VisionTransformer(**config["kwargs"]).eval()
    model.load_state_dict(load_file(folder / "model.safetensors"))
    side = config["kwargs"]["img_size"]

    def pictures(split: str, n: int) -> Tensor:
        data = FunnyBirds(shared / "funnybirds", split)
        full = torch.stack([data.image(bird) for bird in data.birds[:: len(data.birds) // n]])
        small = F.interpolate(
            full, (side, side), mode="bilinear", antialias=True, align_corners=False
        )
        return (small - 0.5) / 0.5

    images = pictures("test", min(n_report, 40))
    halves = {"report": Samples(images, classes(model, images))}
    return Classifier(model, halves, pictures("train", 50), 0.5, 0.5)


PHOTOGRAPHS = (
    "chelsea",
    "rocket",
    "coffee",
    "astronaut",
    "camera",
    "clock_motion",
    "motorcycle_left",
)


def photographs(n_choose: int, n_report: int, *, weights: Path, **folders: Path) -> Classifier:
    """EfficientNet-Lite0 on scikit-image's photographs; nothing is chosen on them."""
    model = timm.create_model("efficientnet_lite0", pretrained=False).eval()
    stored = torch.load(weights, weights_only=True, map_location="cpu")
    model.load_state_dict(dict(zip(model.state_dict(), stored.values(), strict=True)))
    mean, std = model.default_cfg["mean"], model.default_cfg["std"]
    pixels = torch.cat([photograph(name) for name in PHOTOGRAPHS[:n_report]])
    images = (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    samples = Samples(images, classes(model, images))
    return Classifier(model, {"report": samples}, images, mean, std)


def photograph(name: str, side: int = 224) -> Tensor:
    """The largest square in the middle of a photograph, ``(1, 3, side, side)`` in [0, 1]."""
    from skimage import data, io

    file = next(Path(data.__file__).parent.glob(f"{name}.*"))
    picture = torch.from_numpy(np.ascontiguousarray(io.imread(file))).float() / 255
    picture = picture.expand(3, -1, -1) if picture.ndim == 2 else picture.movedim(-1, 0)[:3]
    size = min(picture.shape[1:])
    top, left = ((length - size) // 2 for length in picture.shape[1:])
    square = picture[None, :, top : top + size, left : left + size]
    return F.interpolate(square, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
