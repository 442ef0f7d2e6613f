"""Metrics over the whole set are those of captum_ib.metrics, one file per method and seed."""

from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="pyarrow is not installed")

import torch
from captum.attr import Saliency
from PIL import Image

from captum_ib import DualEncoder, metrics, zoo
from captum_ib.benchmark import whole
from captum_ib.benchmark.run import run
from captum_ib.benchmark.store import read_table
from captum_ib.loading.load import load
from captum_ib.metrics.funnybirds import PARTS
from tests.benchmark.small import clip, vit

ROAR = {
    "metric": "roar_plus",
    "label": "ROAR+",
    "settings": {"epochs": 1, "lr": 1e-3, "train_batch_size": 4},
}


def rows(folder) -> list[dict]:
    return [row for path in whole.whole_files(folder) for row in read_table(path).to_pylist()]


def stored(folder, method, seed, size):
    """The maps that a run stored, upsampled."""
    maps, texts = [], []
    for row in read_table(folder / "results.parquet").to_pylist():
        if (row["method"], row["seed"]) == (method, seed):
            grid = torch.tensor(row["map"]).view(1, 1, row["map_height"], row["map_width"])
            maps.append(torch.nn.functional.interpolate(grid, size, mode="bilinear"))
            texts.append(row["text_map"])
    return torch.cat(maps).numpy(), texts


def test_roar_plus_of_a_classifier_and_what_is_missing(tmp_path, monkeypatch):
    config = vit(methods=["nib", "random"], metrics=["iou", ROAR], samples=12, seeds=[0, 1])
    run(config, tmp_path, show_progress=False)
    found = rows(tmp_path)
    assert [(row["method"], row["seed"], row["metric"]) for row in found] == [
        ("NIB", 0, "ROAR+"), ("NIB", 1, "ROAR+"), ("Random", 0, "ROAR+"), ("Random", 1, "ROAR+")
    ]  # fmt: skip
    model, scenes = zoo.load("vit-scenes"), zoo.scenes.labelled(12, seed=11)
    x = model.normalize((scenes.images * 255).round() / 255).numpy()
    maps, _ = stored(tmp_path, "NIB", 1, (64, 64))
    roar = metrics.ROARPlus(seeds=(1,), **ROAR["settings"])
    (expected,) = roar(model.model, x, scenes.labels.numpy(), maps)
    assert found[1]["value"] == pytest.approx(expected, rel=1e-3)
    files = whole.whole_files(tmp_path)
    files[2].write_bytes(b"broken")
    made = []
    original = whole.ROAR.__call__

    def counted(self, line, explainer, seed):
        made.append((line.label, seed))
        return original(self, line, explainer, seed)

    monkeypatch.setattr(whole.ROAR, "__call__", counted)
    run(config, tmp_path, show_progress=False)
    assert made == [("Random", 0)] and rows(tmp_path) == found
    assert not list((tmp_path / "whole").glob("training-*"))


def test_a_metric_takes_fewer_seeds_than_the_run(tmp_path):
    few = {**ROAR, "settings": {**ROAR["settings"], "seeds": 1}}
    config = vit(methods=["random"], metrics=["iou", few], samples=6, seeds=[3, 1])
    run(config, tmp_path, show_progress=False)
    assert [(row["method"], row["seed"]) for row in rows(tmp_path)] == [("Random", 3)]
    run(config, tmp_path, show_progress=False)
    with pytest.raises(ValueError, match="settings.seeds should be"):
        vit(metrics=[{"metric": "roar_plus", "settings": {"seeds": 0}}])


def test_roar_plus_of_pairs_degrades_both_sides(tmp_path):
    config = clip(methods=["nib"], metrics=[ROAR], samples=12)
    run(config, tmp_path, show_progress=False)
    (found,) = rows(tmp_path)
    model, scenes = zoo.load("clip-scenes"), zoo.scenes.captioned(12, seed=11, size=56)
    x = model.normalize((scenes.images * 255).round() / 255).numpy()
    ids = model.tokenizer(scenes.captions, pad_to=16)[0].numpy()
    maps, texts = stored(tmp_path, "NIB", 0, (56, 56))
    text = np.zeros(ids.shape, np.float32)
    for row, values in zip(text, texts, strict=True):
        row[: len(values)] = values
    tokenizer = model.tokenizer
    roar = metrics.ROARPlus(
        special_tokens=(tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id),
        blank_token=tokenizer.words.index("a"),
        **ROAR["settings"],
    )
    dual = DualEncoder.from_model(model.model)
    (expected,) = roar(dual, x, ids, maps, custom_batch=text)
    assert found["value"] == pytest.approx(expected, rel=1e-2)


def test_a_failure_is_a_null_and_a_note(tmp_path, monkeypatch):
    def fails(self, *args):
        raise RuntimeError("diverged")

    monkeypatch.setattr(whole.ROAR, "__call__", fails)
    summary = run(vit(methods=["nib"], metrics=[ROAR]), tmp_path, show_progress=False)
    assert [row["value"] for row in rows(tmp_path)] == [None]
    assert summary.notes == ["ROAR+ failed for NIB: diverged"]


@pytest.fixture
def birds(tmp_path):
    """FunnyBirds of three classes that differ in the beak's colour, two birds each."""
    root = tmp_path / "birds"
    root.mkdir()
    classes = [dict.fromkeys(PARTS, 0) | {"beak": number} for number in range(3)]
    text = json.dumps([{"class_idx": i, "parts": parts} for i, parts in enumerate(classes)])
    (root / "classes.json").write_text(text)
    listing = json.dumps([{"class_idx": i // 2, "bg_objects": ""} for i in range(6)])
    (root / "dataset_test.json").write_text(listing)
    colours = ((255, 255, 0), (255, 255, 253), (255, 0, 1), (0, 0, 255), (0, 255, 1))

    def save(path, kept, number, marks):
        pixels = np.full((64, 64, 3), 90, np.uint8)
        for place, part in enumerate(PARTS):
            if part in kept:
                own = (80 * (number // 2) + 30, 40 * place, 20 * number)
                pixels[4 + 12 * place : 12 + 12 * place, 20:44] = colours[place] if marks else own
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)

    for number in range(6):
        name = f"{number // 2}/{number:06d}"
        save(root / f"test/{name}.png", PARTS, number, False)
        save(root / f"test_part_map/{name}.png", PARTS, number, True)
        for count in range(len(PARTS) + 1):
            for kept in combinations(sorted(PARTS), count):
                file = "body_" + "_".join(kept) + ".png"
                save(root / f"test_interventions/{name}/{file}", kept, number, False)
    return root


class Pictures(torch.nn.Module):
    """Pictures in [0, 1] to logits."""

    def __init__(self, loaded) -> None:
        super().__init__()
        self.model, self.loaded = loaded.model, loaded

    def prepared(self, pictures):
        small = torch.nn.functional.interpolate(
            pictures, self.loaded.image_size, mode="bilinear", antialias=True
        )
        return (small - self.loaded.mean[0]) / self.loaded.std[0]

    def forward(self, pictures):
        return self.model(self.prepared(pictures))


@pytest.mark.parametrize("samples", [None, 4])
def test_funnybirds(birds, tmp_path, vit_folder, samples):
    config = vit(
        model=str(vit_folder),
        data={"kind": "funnybirds", "path": str(birds)},
        methods=["saliency", "random"],
        metrics=[{"metric": "funnybirds", "label": "FB"}],
        samples=samples,
        seeds=[0, 1],
    )
    run(config, tmp_path / "out", show_progress=False)
    found = rows(tmp_path / "out")
    pictures = Pictures(load(str(vit_folder))).eval()

    def explain(model, inputs, targets, **kwargs):
        x = pictures.prepared(torch.as_tensor(inputs)).requires_grad_()
        values = Saliency(pictures.model).attribute(x, target=torch.as_tensor(targets))
        maps = values.sum(1, keepdim=True)
        return torch.nn.functional.interpolate(maps, (64, 64), mode="bilinear").numpy()

    data = metrics.FunnyBirds(birds)
    table = read_table(tmp_path / "out" / "samples.parquet")
    chosen = {int(name.rpartition("/")[2]) for name in table["sample"].to_pylist()}
    data.birds = [bird for bird in data.birds if bird.index in chosen]
    assert len(data.birds) == (samples or 6)
    expected = metrics.evaluate_funnybirds(pictures, explain, data).as_dict()
    for seed in (0, 1):
        values = {
            row["metric"]: row["value"]
            for row in found
            if (row["method"], row["seed"]) == ("Saliency", seed)
        }
        assert values.keys() == {"FB", *(f"FB:{name}" for name in expected)}
        for name, value in [*expected.items(), ("", expected["total"])]:
            given = values[f"FB:{name}".rstrip(":")]
            assert np.isnan(value) if given is None else given == pytest.approx(value, abs=1e-4)
    noise = [row["value"] for row in found if (row["method"], row["metric"]) == ("Random", "FB:sd")]
    assert len(noise) == 2
