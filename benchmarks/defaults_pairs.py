"""The image-text models of benchmarks.defaults, and how a setting is judged on their pairs."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from captum.attr import LayerAttribution
from torch import Tensor

from benchmarks.defaults_subjects import (
    CHOOSE_SEED,
    HELD_OUT_SEED,
    PART,
    REFERENCE_SEED,
    Row,
    Scores,
    amounts,
)
from benchmarks.pairs import Bench, Pairs
from captum_ib import DualEncoder, methods, zoo
from captum_ib.metrics import InsertionMinusDeletion


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
    """A small CLIP trained elsewhere, on scenes of another generator; nothing is chosen on it."""
    bench = SmallBench(shared / "conformance/clip")
    halves = {"report": bench.pairs(n_report, HELD_OUT_SEED)}
    return PairModel(bench, halves, bench.pairs(128, REFERENCE_SEED))
