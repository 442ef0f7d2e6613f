"""The models of benchmarks.defaults, their samples in two halves, and how a setting is judged."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from captum.attr import LayerAttribution
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from benchmarks.pairs import Bench, Pairs
from captum_ib import DualEncoder, methods, zoo
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
    groups: tuple[int, ...] | None = None


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
        method = self.made(row)
        parts = [
            self._part(
                method, row, samples.images[at : at + PART], samples.target[at : at + PART], seed
            )
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
        if samples.groups is not None:
            found["group"] = np.array(samples.groups)
        return found

    def made(self, row: Row) -> Any:
        """The method, with its statistics."""
        layers = self.layers(row)
        method = methods.get(row.method).cls(self.model, *([] if layers is None else [layers]))
        if row.references:
            method.estimate([self.references])
        return method

    def _part(self, method: Any, row: Row, x: Tensor, target: Tensor, seed: int) -> Scores:
        fitted = hasattr(method, "estimate")
        settings = dict(row.settings)
        if fitted:
            settings |= {"seed": seed, "return_trace": True}
        result = method.attribute(x, target=target, **settings)
        if not fitted:
            return {"map": result.detach().numpy()}
        bits, trace = result
        fit = torch.stack([one.fit[-1] for one in (trace if isinstance(trace, list) else [trace])])
        with torch.no_grad():
            clean = self.model(x).softmax(1).gather(1, target[:, None])[:, 0]
        kept = (-fit).exp().mean(0) / clean
        certificate = certify(method, x, bits, ONE_BIT, target=target, n_draws=10)
        return {
            "map": bits.numpy(),
            "kept": kept.numpy(),
            "cut": certificate.replaced.numpy(),
            "stays": 1 - certificate.rate.numpy(),
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


class PairModel:
    """An image–text model with its two halves; judged as in benchmarks.pairs."""

    def __init__(self, bench: Bench, halves: dict[str, Pairs], references: Pairs) -> None:
        self.bench, self.halves, self.references = bench, halves, references

    def layers(self, row: Row) -> Any:
        """One layer per tower for a share of the depth."""
        if isinstance(row.at, float):
            dual = self.bench.dual
            return [dual.default_layer(side, row.at)[1] for side in dual.modalities[:2]]
        return row.at

    def judge(self, row: Row, half: str, seed: int) -> Scores:
        """Scores per pair."""
        pairs, dual = self.halves[half], self.bench.dual
        layers = self.layers(row)
        method = methods.get(row.method).cls(dual, *([] if layers is None else [layers]))
        if row.references:
            other = self.references
            method.estimate([(other.pixels, other.ids, other.mask)])
        parts = [
            self._part(method, row, pairs.part(at, at + PART), seed)
            for at in range(0, len(pairs.ids), PART)
        ]
        found = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        image, text = (torch.from_numpy(found.pop(key)) for key in ("image map", "text map"))
        return found | self.bench.scores(pairs, image, text) | self._curve(pairs, image)

    def _curve(self, pairs: Pairs, image: Tensor) -> Scores:
        model = self.bench.zoo
        maps = LayerAttribution.interpolate(image, model.image_size, "bilinear").numpy()
        judge = InsertionMinusDeletion(
            mean=model.mean, std=model.std, modality="image", undefined="nan"
        )
        x, y = pairs.pixels.numpy(), pairs.ids.numpy()
        return {"ΔInsDel": np.array(judge(self.bench.dual, x, y, maps))}

    def _part(self, method: Any, row: Row, pairs: Pairs, seed: int) -> Scores:
        fitted = hasattr(method, "estimate")
        settings = dict(row.settings) | ({"seed": seed, "return_trace": True} if fitted else {})
        inputs = (pairs.pixels, pairs.ids)
        found = method.attribute(inputs, additional_forward_args=pairs.mask, **settings)
        maps, traces = found if fitted else (found, ())
        scores = {"image map": maps[0].detach().numpy(), "text map": maps[1].detach().numpy()}
        with torch.no_grad():
            clean = self.bench.dual(*inputs, pairs.mask)
        for side, bits, trace in zip(("image", "text"), maps, traces, strict=False):
            scores |= amounts(bits, f"{side} ")
            scores[f"{side} kept"] = (-trace.fit[-1] / clean).numpy()
        return scores


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
    """A ViT on rendered birds: chosen on training pictures, reported on others."""
    folder = shared / "conformance/vit"
    config = json.loads((folder / "config.json").read_text())
    model = VisionTransformer(**config["kwargs"]).eval()
    model.load_state_dict(load_file(folder / "model.safetensors"))
    train, test = (FunnyBirds(shared / "funnybirds", split) for split in ("train", "test"))
    side = config["kwargs"]["img_size"]

    def part(birds: list[tuple[FunnyBirds, Any]]) -> Samples:
        pictures = torch.stack([data.image(bird) for data, bird in birds])
        small = F.interpolate(
            pictures, (side, side), mode="bilinear", antialias=True, align_corners=False
        )
        images = (small - 0.5) / 0.5
        return Samples(images, classes(model, images))

    seen = [(train, bird) for bird in train.birds]
    held_out = [(test, bird) for bird in test.birds] + seen[1::3]
    halves = {"choose": part(seen[::3][:n_choose]), "report": part(held_out[:n_report])}
    return Classifier(model, halves, part(seen[2::3]).images, 0.5, 0.5)


PHOTOGRAPHS = ("chelsea", "rocket", "motorcycle_left", "coffee", "astronaut", "camera")


def photographs(n_choose: int, n_report: int, *, weights: Path, **folders: Path) -> Classifier:
    """EfficientNet-Lite0 on scikit-image's photographs, two crops each."""
    model = timm.create_model("efficientnet_lite0", pretrained=False).eval()
    stored = torch.load(weights, weights_only=True, map_location="cpu")
    model.load_state_dict(dict(zip(model.state_dict(), stored.values(), strict=True)))
    mean, std = model.default_cfg["mean"], model.default_cfg["std"]

    def part(names: tuple[str, ...]) -> Samples:
        pixels = torch.cat([crop for name in names for crop in crops(name)])
        images = (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
        groups = tuple(number for number in range(len(names)) for _ in range(2))
        return Samples(images, classes(model, images), groups=groups)

    half = len(PHOTOGRAPHS) // 2
    halves = {"choose": part(PHOTOGRAPHS[:half]), "report": part(PHOTOGRAPHS[half:])}
    return Classifier(model, halves, part(PHOTOGRAPHS[:half]).images, mean, std)


def crops(name: str, side: int = 224) -> list[Tensor]:
    """The largest square in the middle of a photograph, and its upper left 80 %, mirrored."""
    from skimage import data, io

    if name == "motorcycle_left":
        pixels = io.imread(Path(data.__file__).parent / "motorcycle_left.png")
    else:
        pixels = getattr(data, name)()
    picture = torch.from_numpy(np.ascontiguousarray(pixels)).float() / 255
    picture = picture.expand(3, -1, -1) if picture.ndim == 2 else picture.movedim(-1, 0)
    size = min(picture.shape[1:])
    top, left = ((length - size) // 2 for length in picture.shape[1:])
    square = picture[None, :, top : top + size, left : left + size]
    cut = square[..., : size * 4 // 5, : size * 4 // 5].flip(-1)
    return [
        F.interpolate(one, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
        for one in (square, cut)
    ]


def clip_scenes(n_choose: int, n_report: int, **folders: Path) -> PairModel:
    """The zoo's CLIP on generated scenes and captions."""
    bench = Bench()
    halves = {
        "choose": bench.pairs(n_choose, CHOOSE_SEED),
        "report": bench.pairs(n_report, HELD_OUT_SEED),
    }
    return PairModel(bench, halves, bench.pairs(128, REFERENCE_SEED))


class SmallBench(Bench):
    """The CLIP of a folder with words.json, on those of the zoo's scenes that it has words for."""

    def __init__(self, folder: Path) -> None:
        from transformers import CLIPModel

        model = CLIPModel.from_pretrained(folder, local_files_only=True).eval()
        self.words = json.loads((folder / "words.json").read_text())
        self.dual = DualEncoder.from_model(model)
        tokens = SimpleNamespace(pad_id=0, bos_id=29, eos_id=30)
        self.zoo: Any = SimpleNamespace(image_size=(56, 56), mean=0.5, std=0.5, tokenizer=tokens)

    def pairs(self, n: int, seed: int) -> Pairs:
        scenes = zoo.scenes.captioned(3 * n, seed=seed, size=self.zoo.image_size)
        rows = [[self.word(word) for word in caption.split()] for caption in scenes.captions]
        kept = [at for at, row in enumerate(rows) if None not in row and len(row) < 15][:n]
        ids, words, content = torch.zeros(3, len(kept), 16, dtype=torch.long)
        for place, at in enumerate(kept):
            length = len(rows[at])
            ids[place, : length + 2] = torch.tensor([29, *rows[at], 30])
            words[place, 1 : 1 + length] = 1
            content[place, 1 : 1 + length] = torch.tensor(scenes.content[at])
        mask = (ids != 0).long()
        pixels = (scenes.images[kept] - 0.5) / 0.5
        return Pairs(pixels, ids, mask, scenes.mask[kept], words.bool(), content.bool())

    def word(self, word: str) -> int | None:
        """A word's number; the model says "a" where English says "an"."""
        word = "a" if word == "an" else word
        return self.words.index(word) if word in self.words else None


def clip_small(n_choose: int, n_report: int, *, shared: Path, **folders: Path) -> PairModel:
    """Another small CLIP, trained elsewhere on scenes of another generator."""
    bench = SmallBench(shared / "conformance/clip")
    halves = {
        "choose": bench.pairs(n_choose, CHOOSE_SEED),
        "report": bench.pairs(n_report, HELD_OUT_SEED),
    }
    return PairModel(bench, halves, bench.pairs(128, REFERENCE_SEED))


SUBJECTS = {
    "vit-scenes": vit_scenes,
    "funnybirds": funnybirds,
    "photographs": photographs,
    "clip-scenes": clip_scenes,
    "clip-small": clip_small,
}
