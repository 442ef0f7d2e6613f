"""Studies: the table of them, what they are given, what they write, and the command."""

from __future__ import annotations

import json
from importlib import import_module

import numpy as np
import pytest

pytest.importorskip("pandas", reason="pandas is not installed")
pytest.importorskip("yaml", reason="PyYAML is not installed")


import pandas as pd

from captum_ib import metrics, studies
from captum_ib.benchmark.config import DataConfig
from captum_ib.benchmark.reader import Logits
from captum_ib.cli import main
from captum_ib.studies.findings import Findings
from captum_ib.studies.material import gather


@pytest.fixture(scope="module")
def material():
    return gather("zoo:vit-scenes", DataConfig("scenes"), samples=3, batch_size=2, seed=4)


def test_every_study_has_a_function_and_says_what_it_shows():
    for study in studies.STUDIES.values():
        module, name = study.path.split(":")
        assert callable(getattr(import_module(f"captum_ib.studies.{module}"), name))
        assert study.title and study.paper and study.samples > 0


def test_an_unknown_study_names_the_nearest():
    with pytest.raises(ValueError, match="nearest: coiba-figure-1"):
        studies.get("coiba-figure1")


def test_scores_are_those_of_the_metric_itself(material):
    maps = material.explain("attentionrollout")
    found = material.score(maps, "insertion")
    loaded = material.loaded
    direct = []
    for batch, of_batch in zip(material.batches, maps, strict=True):
        metric = metrics.Insertion(mean=loaded.mean, std=loaded.std)
        direct += metric(
            Logits(material.model),
            batch.pixels.numpy(),
            batch.targets.numpy(),
            a_batch=of_batch.at(batch.pixels.shape[2:]),
            softmax=True,
            device="cpu",
        )
    assert len(material) == 3
    np.testing.assert_allclose(found, np.array(direct, dtype=float), rtol=1e-6)


def test_a_metric_that_explains_again_is_refused(material):
    maps = material.explain("attentionrollout")
    with pytest.raises(ValueError, match="explains other pictures again"):
        material.score(maps, "max_sensitivity")


def test_findings_are_a_page_tables_and_a_record(tmp_path):
    table = pd.DataFrame({"steps": [5, 10], "drop": [1.25, 0.5]})
    findings = Findings({"steps": table}, said=("More steps, less drop.",))
    files = findings.write(tmp_path / "out", "some-study", "A title", {"seed": 3})
    assert [file.name for file in files] == [
        "some-study.md",
        "some-study-steps.csv",
        "some-study.json",
    ]
    page = files[0].read_text(encoding="utf-8")
    assert page.startswith(
        "# A title\n\nMore steps, less drop.\n\n## steps\n\n|   steps |   drop |"
    )
    assert pd.read_csv(files[1])["drop"].tolist() == [1.25, 0.5]
    assert json.loads(files[2].read_text(encoding="utf-8"))["seed"] == 3


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--method", "iba"], "leave --method out"),
        (["--seeds", "1", "--seeds", "2"], "takes one seed, given 2"),
    ],
)
def test_the_command_refuses_what_a_study_has_of_its_own(flags, word, tmp_path, capsys):
    out = tmp_path / "o"
    assert main(["benchmark", "--preset", "coiba-figure-1", "--out", str(out), *flags]) == 2
    assert word in capsys.readouterr().err
    assert not out.exists()


def test_presets_are_listed(capsys):
    assert main(["benchmark", "--list-presets"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert "paper-small" in names and "coiba-figure-1" in names
