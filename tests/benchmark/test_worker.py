"""A worker's numbers: those of the metrics themselves, whatever samples are beside a sample."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="pyarrow is not installed")

import torch
from captum.attr import IntegratedGradients
from PIL import Image

from captum_ib import M2IB, NIB, DualEncoder, metrics, zoo
from captum_ib.benchmark import schema
from captum_ib.benchmark.columns import PROBLEMS
from captum_ib.benchmark.columns_quantus import numpy_seed
from captum_ib.benchmark.config import RunConfig
from captum_ib.benchmark.data import Sample, UnreadableSampleError
from captum_ib.benchmark.explainers import Explainer, Floor, seed_of
from captum_ib.benchmark.reader import Reader
from captum_ib.benchmark.subjects import plain
from captum_ib.benchmark.worker import Worker
from captum_ib.loading.load import load
from tests.benchmark.small import clip, vit

# Quantus 0.5 turns arrays of one element into numbers in a way that numpy 1.25 deprecates.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Conversion of an array with ndim:DeprecationWarning"
)

MEASURED = ("seconds", "peak_bytes")


def evaluated(config) -> list[dict]:
    """All rows of a run, without what a clock says."""
    worker = Worker(config)
    rows = [
        row for chunk in range(worker.chunks) for row in worker.evaluate(chunk).rows.to_pylist()
    ]
    return [{key: value for key, value in row.items() if key not in MEASURED} for row in rows]


def scores_of(rows, label, method) -> list[float]:
    return [row[f"metric:{label}"] for row in rows if row["method"] == method]


def same(one, other, tolerance):
    """Equal rows, numbers within a tolerance (relative to 1)."""
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        assert left.keys() == right.keys()
        for key in left:
            if key == "map" or key == "text_map" or key.startswith(("metric:", "curve:")):
                values = [np.array(row[key], dtype=float) for row in (left, right)]
                np.testing.assert_allclose(*values, rtol=tolerance, atol=tolerance, err_msg=key)
            else:
                assert left[key] == right[key], key


@pytest.mark.parametrize("make", [vit, clip])
def test_numbers_do_not_depend_on_the_batch(make):
    # Captions of the first scenes have different numbers of tokens.
    same(evaluated(make(batch_size=1)), evaluated(make(batch_size=4)), 2e-3)


def test_numbers_do_not_depend_on_what_came_before():
    worker = Worker(vit(batch_size=1))
    first = worker.evaluate(3).rows.drop_columns(MEASURED)
    for chunk in (0, 1):
        worker.evaluate(chunk)
    assert worker.evaluate(3).rows.drop_columns(MEASURED).equals(first)


def test_rows_are_in_order_and_speak_for_themselves():
    config = vit(seeds=[3, 1])
    worker = Worker(config)
    result = worker.evaluate(1)
    order = [(row["index"], row["method"], row["seed"]) for row in result.rows.to_pylist()]
    assert order == [
        (index, method, seed)
        for index in (2, 3)
        for method in ("NIB", "CoIBA", "Random")
        for seed in (1, 3)
    ]
    facts = schema.facts_of(result.rows.schema)
    assert facts == schema.facts_of(result.samples.schema)
    assert facts["fingerprint"] == config.fingerprint()
    assert RunConfig.from_dict(facts["config"]) == config
    assert facts["metrics"]["deletion"]["direction"] == "down"
    assert list(facts["methods"]) == ["NIB", "CoIBA", "Random"]
    assert facts["methods"]["CoIBA"]["unit"] == "bits" and facts["methods"]["NIB"]["signed"]
    assert facts["versions"]["torch"] == torch.__version__.partition("+")[0]


def test_a_method_without_noise_is_computed_once(monkeypatch):
    calls = []
    original = NIB.attribute

    def counted(self, *args, **kwargs):
        calls.append(self)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(NIB, "attribute", counted)
    rows = evaluated(vit(methods=["nib", "random"], seeds=[0, 1, 2]))
    assert len(calls) == 2  # chunks
    for method, different in (("NIB", 1), ("Random", 3)):
        maps = {tuple(row["map"]) for row in rows if (row["method"], row["index"]) == (method, 0)}
        assert len(maps) == different


def test_scores_are_those_of_the_metrics():
    config = vit(
        methods=["nib"],
        metrics=["insertion", "deletion", "insdel", "iou", "drop_image", "increase_image"],
        batch_size=4,
    )
    rows = evaluated(config)
    model = zoo.load("vit-scenes")
    scenes = zoo.scenes.labelled(4, seed=11)
    # What the run sees went through a picture of 8 bits.
    x = model.normalize((scenes.images * 255).round() / 255)
    attribution = NIB(model.model).attribute(x, target=scenes.labels)
    maps = torch.nn.functional.interpolate(attribution, (64, 64), mode="bilinear").numpy()
    for row, expected in zip(rows, attribution, strict=True):
        np.testing.assert_allclose(row["map"], expected.flatten(), rtol=1e-4, atol=1e-5)
        assert (row["map_height"], row["map_width"]) == (8, 8)
    y, black = scenes.labels.numpy(), {"mean": model.mean, "std": model.std}
    given = (model.model, x.numpy(), y, maps)
    insertion, deletion = metrics.Insertion(**black), metrics.Deletion(**black)
    expected = {
        "insertion": insertion(*given),
        "deletion": deletion(*given),
        "iou": metrics.LocalizationIoU()(*given, scenes.mask.numpy()[:, None]),
        "drop_image": metrics.ConfidenceDrop()(*given),
        "increase_image": metrics.ConfidenceIncrease()(*given),
    }
    expected["insdel"] = np.subtract(expected["insertion"], expected["deletion"])
    for label, values in expected.items():
        np.testing.assert_allclose(scores_of(rows, label, "NIB"), values, atol=0.02, err_msg=label)
    for label, metric in (("insertion", insertion), ("deletion", deletion)):
        curves = np.array([row[f"curve:{label}"] for row in rows])
        np.testing.assert_allclose(curves, metric.curves, atol=1e-3)


def test_localisation_by_hand():
    rows = evaluated(vit(metrics=["pointing_game", "relevance_rank"], batch_size=4))
    masks = zoo.scenes.labelled(4, seed=11).mask.numpy()
    for row in rows:
        grid = torch.tensor(row["map"]).view(1, 1, row["map_height"], row["map_width"])
        if grid.shape[-1] != 64:
            grid = torch.nn.functional.interpolate(grid, (64, 64), mode="bilinear")
        values, mask = grid.flatten().numpy(), masks[row["index"]].flatten()
        assert row["metric:pointing_game"] == mask[values.argmax()]
        best = np.argsort(-values)[: mask.sum()]
        assert row["metric:relevance_rank"] == pytest.approx(mask[best].mean(), abs=0.01)


def test_sparseness_of_noise_is_that_of_a_half_normal():
    # The Gini index of |N(0, 1)| is √2 − 1.
    rows = evaluated(vit(methods=["random"], metrics=["sparseness"], samples=8))
    assert np.mean(scores_of(rows, "sparseness", "Random")) == pytest.approx(2**0.5 - 1, abs=0.003)


def test_the_completeness_gap_by_hand():
    config = vit(
        methods=[{"method": "ig", "settings": {"n_steps": 100}}],
        metrics=["completeness"],
        samples=2,
    )
    rows = evaluated(config)
    model, scenes = zoo.load("vit-scenes"), zoo.scenes.labelled(2, seed=11)
    x = model.normalize((scenes.images * 255).round() / 255)
    with torch.no_grad():
        # Quantus' black is the smallest value of the sample.
        dark = x.flatten(1).amin(1)[:, None, None, None].expand_as(x)
        logits = [model.model(value).gather(1, scenes.labels[:, None]) for value in (x, dark)]
    drop = (logits[0] - logits[1])[:, 0]
    explained = IntegratedGradients(model.model).attribute(
        x.requires_grad_(), target=scenes.labels, n_steps=100
    )
    expected = (explained.flatten(1).sum(1) - drop).abs()
    found = scores_of(rows, "completeness", "IntegratedGradients")
    np.testing.assert_allclose(found, expected.detach(), atol=0.02)


def test_road_is_that_of_a_sample_alone_in_both_orders():
    shares = {"settings": {"percentages": [20, 60]}}
    names = ("road", "road_lerf", "road_delta")
    config = vit(methods=["nib"], metrics=[{"metric": name, **shares} for name in names])
    rows = evaluated(config)
    model, scenes = zoo.load("vit-scenes"), zoo.scenes.labelled(4, seed=11)
    x = model.normalize((scenes.images * 255).round() / 255)
    for row in rows:
        index = row["index"]
        one = slice(index, index + 1)
        attribution = torch.tensor(row["map"]).view(1, 1, 8, 8)
        maps = torch.nn.functional.interpolate(attribution, (64, 64), mode="bilinear").numpy()
        left = {}
        for name, order in (("road", "morf"), ("road_lerf", "lerf")):
            road = metrics.ROAD(percentages=[20, 60], disable_warnings=True, order=order)
            with numpy_seed(seed_of(name, f"scene-11-{index}")):
                found = road(model.model, x[one].numpy(), scenes.labels[one].numpy(), a_batch=maps)
            left[name] = np.mean(list(found.values()))
            assert row[f"metric:{name}"] == pytest.approx(left[name])
        assert row["metric:road_delta"] == pytest.approx(left["road_lerf"] - left["road"])


def test_slow_metrics():
    config = vit(
        methods=["saliency"],
        metrics=[{"metric": "max_sensitivity", "settings": {"nr_samples": 2}}, "mprt"],
        samples=2,
    )
    one, other = evaluated(config), evaluated(vit(**{**config.to_dict(), "batch_size": 1}))
    same(one, other, 1e-3)
    for row in one:
        # A gradient moves under noise, and little of it is left when the layers are drawn anew.
        assert row["status"] == "ok" and row["metric:max_sensitivity"] > 0.1
        assert -0.5 < row["metric:mprt"] < 0.5


@pytest.mark.parametrize("given", [{}, {"blank": ""}], ids=["article", "padding"])
def test_the_text_of_a_pair(given):
    text_metrics = [{"metric": m, "settings": given} for m in ("drop_text", "increase_text")]
    rows = evaluated(clip(methods=["m2ib"], metrics=[*text_metrics, "word_share"]))
    model, scenes = zoo.load("clip-scenes"), zoo.scenes.captioned(4, seed=11, size=56)
    dual = DualEncoder.from_model(model.model)
    special = (model.tokenizer.pad_id, model.tokenizer.bos_id, model.tokenizer.eos_id)
    blank = model.tokenizer.pad_id if given else model.tokenizer.words.index("a")
    for row in rows:
        index = row["index"]
        ids, mask = model.tokenizer([scenes.captions[index]])
        length = -(-ids.shape[1] // 8) * 8  # padded to full eights
        ids, mask = model.tokenizer([scenes.captions[index]], pad_to=length)
        x = model.normalize((scenes.images[[index]] * 255).round() / 255)
        image, text = M2IB(dual).attribute((x, ids), additional_forward_args=mask, seed=0)
        np.testing.assert_allclose(row["map"], image.flatten(), rtol=1e-2, atol=1e-3)
        np.testing.assert_allclose(row["text_map"], text.flatten(), rtol=1e-2, atol=1e-3)
        assert row["tokens"] == model.tokens(ids[0])
        options = {"modality": "text", "special_tokens": special, "blank_token": blank}
        for label, metric in (
            ("drop_text", metrics.ConfidenceDrop(**options)),
            ("increase_text", metrics.ConfidenceIncrease(**options)),
        ):
            (expected,) = metric(dual, ids.numpy(), x.numpy(), text.numpy())
            assert row[f"metric:{label}"] == pytest.approx(expected, abs=0.01)
        content = torch.tensor(scenes.content[index])
        words = text[0, 1 : 1 + len(content)]
        share = float(words[content].sum() / words.sum())
        assert row["metric:word_share"] == pytest.approx(share, abs=1e-3)


class SomeUnreadable:
    """Data of which two samples can't be used, for different reasons."""

    def __init__(self, inner) -> None:
        self.inner, self.id = inner, inner.id

    def __len__(self) -> int:
        return len(self.inner)

    def read(self, index):
        if index == 1:
            raise UnreadableSampleError(self.id(index), "the image is truncated")
        sample = self.inner.read(index)
        return sample if index != 2 else Sample(sample.id, sample.image, label="no such class")


def test_unreadable_samples_are_recorded_and_skipped():
    whole = [row for row in evaluated(vit(batch_size=4)) if row["index"] in (0, 3)]
    worker = Worker(vit(batch_size=4))
    worker.data = SomeUnreadable(worker.data)
    result = worker.evaluate(0)
    rows = [
        {key: value for key, value in row.items() if key not in MEASURED}
        for row in result.rows.to_pylist()
    ]
    same(rows, whole, 2e-3)
    samples = result.samples.to_pylist()
    assert [row["status"] for row in samples] == ["ok", "skipped", "skipped", "ok"]
    assert samples[1]["reason"] == "the image is truncated" and samples[1]["thumbnail"] is None
    assert "no such class" in samples[2]["reason"]
    assert [row["sample"] for row in samples] == [f"scene-11-{i}" for i in range(4)]


def test_samples_hold_what_the_model_saw():
    from io import BytesIO

    worker = Worker(vit(samples=1))
    (row,) = worker.evaluate(0).samples.to_pylist()
    scene = zoo.scenes.labelled(1, seed=11)
    picture = np.asarray(Image.open(BytesIO(row["thumbnail"])))
    expected = (scene.images[0] * 255).round().byte().permute(1, 2, 0).numpy()
    assert np.abs(picture.astype(int) - expected).max() <= 1
    assert (np.asarray(Image.open(BytesIO(row["mask"]))) == scene.mask[0].numpy()).all()
    model = zoo.load("vit-scenes")
    with torch.no_grad():
        probability = model.model(model.normalize(scene.images)).softmax(1)[0, scene.labels[0]]
    assert row["confidence"] == pytest.approx(float(probability), abs=1e-3)
    assert row["label"] == model.labels[scene.labels[0]] and row["caption"] is None


def breaking(original, bad: int, count: list[int]):
    """A method that fails whenever a certain sample is in the batch."""

    def call(self, subjects, seed, model=None):
        count.append(len(subjects))
        if bad in subjects.indices:
            raise RuntimeError("this one\nis too hard")
        return original(self, subjects, seed, model)

    return call


def test_a_sample_that_a_method_fails_on_leaves_its_neighbours_alone(monkeypatch):
    whole = evaluated(vit(methods=["nib"], batch_size=4))
    count: list[int] = []
    monkeypatch.setattr(Explainer, "__call__", breaking(Explainer.__call__, 2, count))
    rows = evaluated(vit(methods=["nib"], batch_size=4))
    assert count == [4, 1, 1, 1, 1]
    same([rows[i] for i in (0, 1, 3)], [whole[i] for i in (0, 1, 3)], 2e-3)
    failed = rows[2]
    assert (failed["status"], failed["reason"]) == ("failed", "this one is too hard")
    assert failed["map"] is None and failed["metric:iou"] is None


def test_a_constant_map_is_a_failure_of_its_sample_alone(monkeypatch):
    whole = evaluated(vit(methods=["nib"], batch_size=4))
    original = Explainer.__call__

    def flat(self, subjects, seed, model=None):
        maps = original(self, subjects, seed, model)
        maps.image[1] = 0.25
        return maps

    monkeypatch.setattr(Explainer, "__call__", flat)
    rows = evaluated(vit(methods=["nib"], batch_size=4))
    same([rows[i] for i in (0, 2, 3)], [whole[i] for i in (0, 2, 3)], 2e-3)
    assert rows[1]["status"] == "failed"
    assert rows[1]["reason"] == "the map is constant (0.25 everywhere), so it ranks nothing"
    assert rows[1]["map"] == [0.25] * 64 and rows[1]["metric:deletion"] is None


def test_a_metric_that_fails_on_a_sample(monkeypatch):
    road = {"metric": "road", "settings": {"percentages": [50]}}
    config = vit(methods=["nib"], metrics=["iou", road], batch_size=4, samples=3)
    whole = evaluated(config)
    original = metrics.ROAD.evaluate_batch
    seen: list[int] = []

    def fails(self, *args, **kwargs):
        seen.append(1)
        if len(seen) in (2, 4):  # the second sample, among the others and by itself
            raise AssertionError
        return original(self, *args, **kwargs)

    monkeypatch.setattr(metrics.ROAD, "evaluate_batch", fails)
    rows = evaluated(config)
    same([rows[0], rows[2]], [whole[0], whole[2]], 2e-3)
    assert (rows[1]["status"], rows[1]["reason"]) == ("failed", "road: AssertionError")
    assert rows[1]["metric:road"] is None
    assert rows[1]["metric:iou"] == pytest.approx(whole[1]["metric:iou"], abs=1e-3)


def test_a_bug_is_no_failure_of_a_sample():
    assert not issubclass(KeyboardInterrupt, PROBLEMS) and not issubclass(MemoryError, PROBLEMS)
    assert not issubclass(SystemExit, PROBLEMS)


def test_the_floor_is_noise_of_the_sample_alone():
    floor, pixels = Floor(), torch.zeros(3, 3, 32, 32)
    maps = floor(plain(["a", "b", "a"], pixels, torch.zeros(3, dtype=torch.long)), 5).image
    assert maps.shape == (3, 1, 32, 32)
    assert torch.equal(maps[0], maps[2]) and not torch.equal(maps[0], maps[1])
    alone = floor(plain(["b"], pixels[:1], torch.zeros(1, dtype=torch.long)), 5).image
    assert torch.equal(alone[0], maps[1])
    other = floor(plain(["b"], pixels[:1], torch.zeros(1, dtype=torch.long)), 6).image
    assert not torch.equal(other[0], maps[1])
    assert abs(float(maps[:2].mean())) < 0.1 and abs(float(maps[:2].std()) - 1) < 0.1


def test_a_mask_goes_the_way_of_its_picture(clip_folder):
    # CLIP's processor scales the shorter side and cuts the middle out of the longer one.
    loaded = load(str(clip_folder))
    mask = np.zeros((64, 128), dtype=bool)
    mask[:, 32:64] = True  # the left half of the middle
    sample = Sample("x", Image.new("RGB", (128, 64)), caption="a red circle", mask=mask)
    dual = DualEncoder.from_model(loaded.model)
    reader = Reader(loaded, dual, torch.device("cpu"), torch.float32)
    truth = reader(0, sample)[0].truth[0]
    assert truth.shape == (32, 32)
    assert truth[:, :15].all() and not truth[:, 17:].any()


def test_words_in_pieces_and_padding(clip_folder):
    loaded = load(str(clip_folder))
    dual = DualEncoder.from_model(loaded.model)
    reader = Reader(loaded, dual, torch.device("cpu"), torch.float32)
    picture = Image.new("RGB", (32, 32))
    subject, _ = reader(0, Sample("x", picture, caption="a red circle", words=("red", "circle")))
    assert subject.input_ids.tolist() == [[1, 4, 5, 6, 2, 0, 0, 0]]
    assert subject.mask.tolist() == [[1, 1, 1, 1, 1, 0, 0, 0]]
    assert subject.valid.tolist() == [[False, True, True, True, False, False, False, False]]
    assert np.flatnonzero(subject.content[0]).tolist() == [2, 3]
    with pytest.raises(ValueError, match="no caption"):
        reader(0, Sample("x", picture))


def test_the_configuration_travels():
    config = pickle.loads(pickle.dumps(vit()))  # noqa: S301 (our own)
    assert config == vit() and Worker(config).count == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "no-such-model"}, "unknown model"),
        ({"device": "cuda:99"}, "can't be used"),
        (
            {"methods": [{"method": "iba", "settings": {"layer": "blocks.99"}}]},
            "blocks.99",
        ),
        ({"metrics": [{"metric": "iou", "settings": {"quantile": 1.5}}]}, "quantile"),
    ],
)
def test_mistakes_show_before_anything_is_computed(change, message):
    with pytest.raises(ValueError, match=message):
        Worker(vit(**change))


def test_a_model_of_the_wrong_kind(clip_folder):
    # Not of the zoo, so that only the loaded model can tell.
    common = {"model": str(clip_folder), "data": vit().to_dict()["data"]}
    with pytest.raises(ValueError, match="CoIBA: coiba can't explain an image-text model"):
        Worker(vit(**common, methods=["coiba"], metrics=["iou"]))
    with pytest.raises(ValueError, match="road can't judge a dual"):
        Worker(vit(**common, methods=["nib"], metrics=["road"]))


def test_a_blank_that_is_no_word():
    unknown = [{"metric": "drop_text", "settings": {"blank": "xyzzy"}}]
    with pytest.raises(ValueError, match="blank 'xyzzy' is no word of the model"):
        Worker(clip(metrics=unknown))
    two = [{"metric": "drop_text", "settings": {"blank": "red circle"}}]
    with pytest.raises(ValueError, match="is 2 tokens of the model, expected one"):
        Worker(clip(metrics=two))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision(dtype):
    road = {"metric": "road", "settings": {"percentages": [50]}}
    wanted = ["insertion", "iou", "drop_image", "sparseness", "completeness", road]
    methods = ["genericattention", "saliency"]
    common = {"methods": methods, "metrics": wanted, "samples": 2}
    half, full = evaluated(vit(**common, dtype=dtype)), evaluated(vit(**common))
    for one, other in zip(half, full, strict=True):
        assert (one["status"], one["reason"]) == ("ok", None)
        assert one["metric:insertion"] == pytest.approx(other["metric:insertion"], abs=5)
        assert one["metric:completeness"] == pytest.approx(other["metric:completeness"], rel=0.1)
    assert [row["map"] for row in half] != [row["map"] for row in full]


def test_a_dual_encoder_without_a_tokenizer(monkeypatch):
    from dataclasses import replace

    from captum_ib.benchmark import worker

    def wordless(name):
        return replace(load(name), tokenizer=None, tokens=None)

    monkeypatch.setattr(worker, "load", wordless)
    with pytest.raises(ValueError, match="zoo:clip-scenes has no tokenizer"):
        Worker(clip())
