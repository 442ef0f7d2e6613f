"""Figures of pairs: the cosines in their tables are those of the model, the pictures have rows."""

from __future__ import annotations

import pytest

pytest.importorskip("pandas", reason="pandas is not installed")
pytest.importorskip("yaml", reason="PyYAML is not installed")

import torch

from captum_ib import studies
from captum_ib.benchmark.config import DataConfig
from captum_ib.studies import pairs
from captum_ib.studies.material import gather


@pytest.fixture(scope="module")
def material():
    return gather("zoo:clip-scenes", DataConfig("scenes"), samples=2, seed=1)


@pytest.fixture(autouse=True)
def two_methods(monkeypatch):
    fast = {name: pairs.SEVEN[name] for name in ("Saliency", "M2IB")}
    own = ("cam2ib", {"n_steps": 2, "n_samples": 2})
    monkeypatch.setattr(pairs, "SEVEN", {**fast, "CA-M2IB": own})


def test_degraded_pairs_and_their_cosines(material):
    found = studies.get("ca-m2ib-figure-3")(material)
    table = found.tables["cosines"].set_index("method")
    with torch.no_grad():
        whole = torch.cat([material.model(b.pixels, b.input_ids, b.mask) for b in material.batches])
    assert table["pair"].tolist() == pytest.approx([whole.mean().item()] * 3, abs=1e-6)
    assert list(table.index) == ["Saliency", "M2IB", "CA-M2IB"]
    assert table.lt(1.0).to_numpy().all() and len(set(table["kept image"])) == 3
    assert len(found.figures["samples"].axes) == 3 * 2 * 3
    assert found.said[0].startswith("Mean cosine of 2 pairs as they are: ")


def test_maps_with_the_truth_outlined(material):
    found = studies.get("ca-m2ib-figure-2")(material)
    table = found.tables["localisation"].set_index("method")
    maps = material.explain("m2ib")
    assert table.loc["M2IB", "IoU"] == pytest.approx(material.score(maps, "iou").mean())
    figure = found.figures["maps"]
    assert len(figure.axes) == len(material.batches[0]) * 2 * 4
    outlined = [ax for ax in figure.axes if ax.collections]
    assert len(outlined) >= len(material.batches[0]) * 4


def test_a_classifier_is_refused():
    pictures = gather("zoo:vit-scenes", DataConfig("scenes"), samples=1)
    with pytest.raises(ValueError, match="of image-text pairs: give a dual encoder"):
        studies.get("ca-m2ib-figure-2")(pictures)
