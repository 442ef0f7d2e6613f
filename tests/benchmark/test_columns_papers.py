"""Columns of the papers' metrics: their numbers are those of the metrics, called by hand."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="pyarrow is not installed")

import torch

from captum_ib import NIB, metrics, zoo
from captum_ib.benchmark.run import run
from captum_ib.benchmark.subjects import Pairs
from captum_ib.benchmark.whole_again import Grids, Prompts
from captum_ib.benchmark.worker import Worker
from captum_ib.metrics.prompts import map_change
from tests.benchmark.small import clip, vit

LOCATED = ("pixel_accuracy", "mean_iou", "average_precision", "energy_pointing")
ORDERED = [{"metric": name, "settings": {"steps": 8}} for name in ("morf", "lerf", "srg")]
FEW = {"metric": "mu_fidelity", "settings": {"draws": 10, "grid": 4}}


def grown(row):
    grid = torch.tensor(row["map"]).view(1, 1, row["map_height"], row["map_width"])
    return torch.nn.functional.interpolate(grid, (64, 64), mode="bilinear").numpy()


def test_a_classifier_in_all_columns():
    names = [*LOCATED, *ORDERED, FEW, "completeness_error"]
    config = vit(methods=["nib"], metrics=names, samples=2)
    rows = Worker(config).evaluate(0).rows.to_pylist()
    model, scenes = zoo.load("vit-scenes"), zoo.scenes.labelled(2, seed=11)
    x = model.normalize((scenes.images * 255).round() / 255)
    y, masks = scenes.labels.numpy(), scenes.mask.numpy()[:, None]
    maps = np.concatenate([grown(row) for row in rows])
    given, black = (model.model, x.numpy(), y, maps), {"mean": model.mean, "std": model.std}
    raw = {"softmax": False}
    expected = {
        "pixel_accuracy": metrics.PixelAccuracy()(*given, masks),
        "mean_iou": metrics.MeanIoU()(*given, masks),
        "average_precision": metrics.AveragePrecision()(*given, masks),
        "energy_pointing": metrics.EnergyPointingGame()(*given, masks),
        "morf": metrics.MoRF(steps=8, **black)(*given),
        "lerf": metrics.LeRF(steps=8, **black)(*given),
        "mu_fidelity": metrics.MuFidelity(grid=4, draws=10, **black)(*given, **raw),
    }
    expected["srg"] = np.subtract(expected["lerf"], expected["morf"])
    for label, values in expected.items():
        found = [row[f"metric:{label}"] for row in rows]
        np.testing.assert_allclose(found, values, atol=0.02, err_msg=label)
    dark = torch.tensor(model.mean).neg() / torch.tensor(model.std)
    with torch.no_grad():
        logits = [
            model.model(each).gather(1, scenes.labels[:, None])[:, 0]
            for each in (x, dark.view(1, 3, 1, 1).expand_as(x))
        ]
    change = (logits[0] - logits[1]).numpy()
    sums = np.array([sum(row["map"]) for row in rows])  # of the map itself, before upsampling
    gap = np.abs(sums - change) / np.abs(change)
    np.testing.assert_allclose([row["metric:completeness_error"] for row in rows], gap, rtol=1e-2)
    for label in ("morf", "lerf"):
        assert len(rows[0][f"curve:{label}"]) == 9
    assert "curve:srg" not in rows[0]


def test_a_pair_in_all_columns():
    names = [ORDERED[2], FEW, {"metric": "synergy", "settings": {"steps": 4}}, "energy_pointing"]
    config = clip(methods=["nib"], metrics=names, samples=2)
    worker = Worker(config)
    rows = worker.evaluate(0).rows.to_pylist()
    assert [row["reason"] for row in rows] == [None, None]
    text, loaded = worker.reader.text, worker.loaded
    for row in rows:
        (group,), _ = worker.read([row["index"]])
        assert isinstance(group, Pairs) and text is not None
        metric = metrics.SynergisticFaithfulness(
            special_tokens=text.special_ids,
            blank_token=text.blank(None),
            steps=4,
            mean=loaded.mean,
            std=loaded.std,
        )
        size = tuple(group.pixels.shape[2:])
        grid = torch.tensor(row["map"]).view(1, 1, row["map_height"], row["map_width"])
        image = torch.nn.functional.interpolate(grid, size, mode="bilinear").numpy()
        ids, words = group.input_ids.numpy(), np.array([row["text_map"]])
        (score,) = metric(worker.model, group.pixels.numpy(), ids, image, custom_batch=words)
        assert row["metric:synergy"] == pytest.approx(score, abs=0.01)
        assert -1 <= row["metric:mu_fidelity"] <= 1


def test_grids_by_hand(tmp_path):
    config = vit(methods=["nib"], metrics=["grid_pointing"], samples=12, batch_size=4)
    worker = Worker(config)
    game = Grids(worker, None, config.metrics[0])  # type: ignore[arg-type]
    ((line, explainer),) = worker.explainers
    (score,) = game(line, explainer, 0).values()
    model, scenes = zoo.load("vit-scenes"), zoo.scenes.labelled(12, seed=11)
    x = model.normalize((scenes.images * 255).round() / 255)
    with torch.no_grad():
        p = model.model(x).softmax(1)
    right = p.argmax(1) == scenes.labels
    sure = torch.where(right, p.gather(1, scenes.labels[:, None])[:, 0], 0.0)
    grids = metrics.pointing_grids(x.numpy(), scenes.labels.numpy(), sure.numpy())
    maps = metrics.explain_func(NIB)(model=model.model, inputs=grids.images, targets=grids.targets)
    found = metrics.EnergyPointingGame()(None, grids.images, grids.targets, maps, grids.masks)
    assert len(found) == len(game._made) * 4 and score == pytest.approx(np.mean(found), abs=1e-3)


def test_a_grid_that_is_too_large_is_said(tmp_path):
    grid = {"metric": "grid_pointing", "settings": {"side": 3}}
    config = vit(methods=["random"], metrics=[grid, "pointing_game"], samples=2)
    said = run(config, tmp_path / "run")
    assert "grid_pointing failed for Random: a grid of 9 cells needs 9 samples of" in str(said)


def test_prompts_by_hand():
    prompts = {"metric": "prompt_sensitivity", "settings": {"null": 2}}
    # All ten steps: after fewer, the order of the map is still that of the activations alone.
    few = {"method": "m2ib", "settings": {"n_samples": 1}}
    config = clip(methods=["nib", few, "random"], metrics=[prompts], samples=2)
    worker = Worker(config)
    judge = Prompts(worker, None, config.metrics[0])  # type: ignore[arg-type]
    nib, m2ib, noise = (judge(line, explainer, 0) for line, explainer in worker.explainers)
    label = "prompt_sensitivity"
    # Noise does not read: the same map with any caption, another one with any seed.
    assert [noise[f"{label}{part}"] for part in ("", ":shuffled", ":gibberish")] == [0, 0, 0]
    assert noise[f"{label}:same_caption"] == pytest.approx(1, abs=0.05)
    assert noise[f"{label}:p_value"] == 1
    # A method without noise has the same map with the same caption.
    assert nib[f"{label}:same_caption"] == 0 and nib[f"{label}:p_value"] == pytest.approx(1 / 3)
    explainer = worker.explainers[0][1]
    pairs = judge._pairs
    moved = [
        map_change(
            explainer(pairs[i], 0).image.double(),
            explainer(pairs[1 - i].with_pixels(pairs[i].pixels), 0).image.double(),
        ).item()
        for i in range(2)
    ]
    assert nib[label] == pytest.approx(np.mean(moved)) and min(moved) > 0.01
    assert 0 < m2ib[f"{label}:same_caption"] < m2ib[label]


def test_scores_over_the_whole_set_reach_the_table(tmp_path):
    from captum_ib.report import read_tables

    metrics_ = [{"metric": "prompt_sensitivity", "settings": {"null": 1}}, "energy_pointing"]
    run(clip(methods=["nib", "random"], metrics=metrics_, samples=2), tmp_path / "run")
    (table,) = read_tables([tmp_path / "run"])
    up = {metric.title: metric.up for metric in table.whole}
    assert up == {
        "Prompt sensitivity": True,
        "Shuffled": True,
        "Gibberish": True,
        "Same caption": False,
        "P value": False,
    }
    assert table.lines[1].cells["prompt_sensitivity"].mean == 0
