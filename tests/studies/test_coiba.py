"""The studies of CoIBA's figures: their numbers on a few scenes, against a second way to them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

pytest.importorskip("pandas", reason="pandas is not installed")
pytest.importorskip("yaml", reason="PyYAML is not installed")

from captum.attr import LayerAttribution

from captum_ib import IBA, CoIBA, metrics, studies
from captum_ib.baselines import AttentionRollout
from captum_ib.benchmark.config import DataConfig
from captum_ib.benchmark.whole import FromPictures
from captum_ib.cli import main
from captum_ib.metrics import linear_cka
from captum_ib.studies import coiba_birds, coiba_difficulty, coiba_information
from captum_ib.studies.coiba_numbers import Mean, mean_maps, mean_of, paired
from captum_ib.studies.material import gather

LAYERS = [f"blocks.{index}.norm1" for index in range(8)]


@pytest.fixture(scope="module")
def material():
    return gather("zoo:vit-scenes", DataConfig("scenes"), samples=2, batch_size=2, seed=4)


class Few:
    """A material with few steps, of fits and of curves: what studies do with them is the same."""

    def __init__(self, material):
        self._material = material

    def __getattr__(self, name):
        return getattr(self._material, name)

    def __len__(self):
        return len(self._material)

    def explain(self, method, **settings):
        quick = {"n_steps": 2, "n_samples": 2} if method in ("iba", "coiba") else {}
        return self._material.explain(method, **settings, **quick)

    def score(self, maps, metric, **settings):
        quick = {"steps": 4} if metric in ("insertion", "deletion", "insdel") else {}
        return self._material.score(maps, metric, **settings, **quick)


@pytest.fixture(scope="module")
def few(material):
    return Few(material)


@pytest.fixture(scope="module")
def quick_fit():
    """The same for studies that look into the fit themselves."""
    full = coiba_information.passed
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            coiba_information,
            "passed",
            lambda *args, **kwargs: full(*args, **kwargs, n_steps=2, n_samples=2),
        )
        yield


def test_paired_errors_are_those_of_the_differences():
    one, other = np.array([1.0, 2.0, 6.0, np.nan]), np.array([0.0, 3.0, 1.0, 5.0])
    # Differences 1, −1, 5: mean 5/3, deviation √(28/3), over √3.
    assert paired(one, other) == pytest.approx((5 / 3, (28 / 3) ** 0.5 / 3**0.5))
    assert mean_of(np.array([2.0])).value == 2.0
    assert [Mean(*pair).said for pair in [(3, 1), (-3, 1), (1, 1), (1, np.nan)]] == [
        "above 0",
        "below 0",
        "not told from 0",
        "not told from 0",
    ]


def test_iba_star_s_maps_are_the_mean_of_iba_s(material):
    options = {"n_steps": 2, "n_samples": 2}
    star = material.explain("iba", layer="coiba", **options)
    single = [material.explain("iba", layer=name, **options) for name in LAYERS[2:]]
    for found, expected in zip(mean_maps(single), star, strict=True):
        torch.testing.assert_close(found.image, expected.image)


def test_the_start_sweep_holds_coiba_against_iba_star(few):
    found = studies.get("coiba-figure-3")(few)
    table = found.tables["start"]
    assert table["start"].tolist() == LAYERS and table["layers"].tolist() == list(range(8, 0, -1))
    ours = few.score(few.explain("coiba", layers=LAYERS[5:]), "insdel")
    star = few.score(few.explain("iba", layer=tuple(LAYERS[5:])), "insdel")
    row = table.iloc[5]
    assert row["CoIBA"] == pytest.approx(ours.mean()) and row["IBA*"] == pytest.approx(star.mean())
    assert row["error"] == pytest.approx((ours - star).std(ddof=1) / 2**0.5)
    assert set(found.figures) == {"start"} and "2 samples" in found.said[0]


def test_the_arrival_sweep_begins_where_coiba_does(few):
    table = studies.get("coiba-figure-8")(few).tables["arrival"]
    assert table["arrival"].tolist() == LAYERS[2:] and table["layers"].tolist() == [
        1,
        2,
        3,
        4,
        5,
        6,
    ]


def test_confidence_is_the_probability_of_the_class(material):
    found = coiba_difficulty._confidence(material)
    with torch.no_grad():
        logits = [material.model(batch.pixels) for batch in material.batches]
    targets = torch.cat([batch.targets for batch in material.batches])
    expected = torch.cat(logits).softmax(1)[torch.arange(2), targets]
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "titles"),
    [("coiba-figure-4", ["Insertion", "Deletion", "ΔInsDel"]), ("coiba-figure-7", ["ΔROAD"])],
)
def test_bins_hold_all_samples_and_their_means(few, monkeypatch, name, titles):
    some = {label: coiba_difficulty.METHODS[label] for label in ("CoIBA", "Generic attention")}
    monkeypatch.setattr(coiba_difficulty, "METHODS", some)
    found = studies.get(name)(few)
    assert list(found.tables) == titles
    table = found.tables[titles[-1]]
    assert len(table) == 20 and table["samples"].sum() == 2
    metric, settings = (
        ("insdel", {})
        if name.endswith("4")
        else (
            "road_delta",
            {"percentages": (20, 40, 60, 80)},
        )
    )
    scores = few.score(few.explain("genericattention"), metric, **settings)
    scores = scores * (1 if metric == "insdel" else 100)
    weighted = np.nansum(table["Generic attention"] * table["samples"]) / 2
    assert weighted == pytest.approx(scores.mean())
    assert len(found.said) == 2


def test_the_radar_needs_birds(material, tmp_path, capsys):
    with pytest.raises(ValueError, match="given scenes: give --data funnybirds:FOLDER"):
        studies.get("coiba-figure-6")(material)
    assert main(["benchmark", "--preset", "coiba-figure-6", "--out", str(tmp_path / "o")]) == 2
    assert "path" in capsys.readouterr().err


def test_information_is_that_of_a_plain_pass_through_the_bottlenecks(material):
    """The first bottleneck's bits need no draw: they are those that CoIBA shows."""
    options = {"n_steps": 2, "n_samples": 2}
    found = coiba_information.passed(material, LAYERS[2:4], **options)
    bits = torch.cat(
        [
            CoIBA(material.model, LAYERS[2:4]).attribute(
                batch.pixels, target=batch.targets, seed=4, reduce="none", **options
            )
            for batch in material.batches
        ]
    )
    assert found.bits.shape == (2, 2)
    np.testing.assert_allclose(found.bits[:, 0], bits.mean((1, 2)).numpy(), rtol=1e-4)
    assert found.fit.shape == found.compression.shape == (2, 2)
    # Nats of the loss are bits · ln 2, both means per element.
    np.testing.assert_allclose(found.compression[-1], found.bits[:, 0] * np.log(2), rtol=1e-4)


def test_information_per_layer_counts_where_the_bound_fails(few, quick_fit):
    found = studies.get("coiba-figure-9a")(few)
    table, full = found.tables["information"], coiba_information.passed(few, LAYERS[2:])
    np.testing.assert_allclose(table["bits, first layer (eq. 8)"], full.bits.mean(0), rtol=1e-6)
    rising = int((full.bits[:, 1:].max(1) > full.bits[:, 0]).sum())
    assert f"than the first one in {rising} of 2 samples" in found.said[1]


def test_accuracy_and_sharing_are_paired(few, quick_fit):
    accuracy = studies.get("coiba-figure-9b")(few).tables["accuracy"]
    assert accuracy["layers"].tolist() == [1, 2, 4, 6, 8]
    # One layer has one ratio, shared or not.
    assert accuracy.loc[0, "shared − individual"] == accuracy.loc[0, "error"] == 0
    found = studies.get("coiba-figure-9c")(few)
    row = found.tables["sharing"].set_index("λ").loc["individual λ"]
    scores = few.score(few.explain("coiba", damping="individual"), "insdel")
    assert row["ΔInsDel"] == pytest.approx(scores.mean())


def test_the_bound_against_the_mean_over_layers(few):
    table = studies.get("coiba-figure-10a")(few).tables["bound"].set_index("score")
    one = few.score(few.explain("coiba"), "deletion")
    other = few.score(few.explain("coiba", compression="layerwise"), "deletion")
    assert table.loc["Deletion", "eq. 8 − eq. 4"] == pytest.approx((one - other).mean())
    assert table.loc["Deletion", "error"] == pytest.approx((one - other).std(ddof=1) / 2**0.5)


def test_alignment_is_cka_with_iba_at_each_layer(few):
    found = studies.get("coiba-figure-10b")(few)
    table = found.tables["cka"].set_index("layer")
    assert table.index.tolist() == LAYERS[2:]
    options = {"seed": 4, "n_steps": 2, "n_samples": 2}

    def maps(method, **more):
        parts = [
            method.attribute(batch.pixels, target=batch.targets, **options, **more)
            for batch in few.batches
        ]
        return torch.cat(parts).flatten(1)

    ours, theirs = maps(CoIBA(few.model)), maps(IBA(few.model, LAYERS[4]), channel="uniform")
    assert table.loc[LAYERS[4], "eq. 8, uniform IBA"] == pytest.approx(linear_cka(ours, theirs))


def test_uniform_channels_are_held_against_elementwise(few):
    table = studies.get("coiba-figure-10c")(few).tables["channels"].set_index("method")
    one = few.score(few.explain("iba", channel="uniform"), "insdel")
    other = few.score(few.explain("iba"), "insdel")
    assert table.loc["IBA", "uniform − elementwise"] == pytest.approx((one - other).mean())


def test_layers_show_their_maps(few):
    found = studies.get("coiba-figure-1")(few)
    assert list(found.figures) == ["ssim", "winners", "maps"]
    scores = few.score(few.explain("iba", layer=LAYERS[3]), "insdel")
    assert (found.tables["layers"]["collapsed"] == 0).all()  # two steps leave nearly everything
    assert found.tables["layers"]["ΔInsDel"][3] == pytest.approx(scores.mean())


def test_the_command_writes_a_page(tmp_path, capsys):
    out = tmp_path / "out"
    flags = ["--samples", "2", "--seeds", "3", "--out", str(out)]
    assert main(["benchmark", "--preset", "coiba-figure-10a", *flags]) == 0
    assert (out / "coiba-figure-10a-bound.png").stat().st_size > 1000
    record = json.loads((out / "coiba-figure-10a.json").read_text(encoding="utf-8"))
    assert (record["samples"], record["seed"]) == (2, 3)
    assert "ΔInsDel, eq. 8 − eq. 4:" in capsys.readouterr().out


def test_the_radar_is_that_of_the_protocols(conformance, funnybirds, monkeypatch):
    methods = {"CoIBA": ("attentionrollout", {}), "Random": ("random", {})}
    monkeypatch.setattr(coiba_birds, "METHODS", methods)
    data = DataConfig("funnybirds", str(funnybirds))
    birds = gather(str(conformance / "vit"), data, samples=2, batch_size=2)
    found = studies.get("coiba-figure-6")(birds)
    table = found.tables["funnybirds"].set_index("method")
    assert sorted(table.index) == ["CoIBA", "Random"] and set(found.figures) == {"radar-1"}
    kept = metrics.FunnyBirds(str(funnybirds))
    numbers = {int(name.rpartition("/")[2]) for name in birds.batches[0].ids}
    kept.birds = [bird for bird in kept.birds if bird.index in numbers]
    model = FromPictures(birds.model, birds.reader).eval()

    def rollout(model, inputs, targets, **more):
        pixels = model.prepared(torch.as_tensor(inputs))
        maps = AttentionRollout(birds.model).attribute(pixels, target=torch.as_tensor(targets))
        return LayerAttribution.interpolate(maps, inputs.shape[2:], "bilinear").numpy()

    expected = metrics.evaluate_funnybirds(model, rollout, kept)
    assert table.loc["CoIBA", "total"] == pytest.approx(expected.total, nan_ok=True)
    assert table.loc["CoIBA", "sd"] == pytest.approx(expected.sd)
