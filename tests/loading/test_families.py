"""Every family that a folder may hold comes back from disk as it was, and can be measured first."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import transformers

from captum_ib.loading.budget import check_size
from captum_ib.loading.configurations import configuration
from captum_ib.loading.families import CLASSIFIERS, DUALS, GENERATORS, model_class
from captum_ib.loading.load import load
from tests.models.classifiers import IMAGE_CLASSIFIERS
from tests.models.duals import DUAL_ENCODERS

ROWS = [
    row
    for row in (*IMAGE_CLASSIFIERS, *DUAL_ENCODERS)
    if row.library == "transformers" and "CLAP" not in row.name
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_small_models_come_back_with_their_weights(row, clip_folder, tmp_path):
    if row.missing():
        pytest.skip(row.missing())
    model = row.model()
    if "Classification" not in type(model).__name__ and not hasattr(model.config, "text_config"):
        pytest.skip("no model of images")
    folder = shutil.copytree(clip_folder, tmp_path / "model")
    model.save_pretrained(folder)
    loaded = load(str(folder))
    assert type(loaded.model) is type(model) and loaded.left_out == ()
    given, found = model.state_dict(), loaded.model.state_dict()
    assert given.keys() == found.keys()
    assert all(torch.equal(given[name], found[name]) for name in given)


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted({*CLASSIFIERS, *DUALS, *GENERATORS}))
def test_configurations_are_taken_as_transformers_writes_them(family):
    kind = transformers.CONFIG_MAPPING[family] if _known(family) else None
    if kind is None or family == "vision-text-dual-encoder":  # which has no default
        pytest.skip("not in this version of transformers")
    head = [{**CLASSIFIERS, **DUALS, **GENERATORS}[family][0]]
    given = json.loads(kind(architectures=head).to_json_string(use_diff=False))
    given["_name_or_path"], given["auto_map"] = "some/where", {"AutoModel": "bomb.Bomb"}
    chosen, modalities = model_class(given, "config.json")
    pairs = family in DUALS or family in GENERATORS
    assert (chosen.__name__, modalities) == (head[0], ("image", "text") if pairs else ("image",))
    found = configuration(given, "config.json")
    clean = kind(architectures=head).to_dict()
    free = ("auto_map", "_name_or_path", "out_features", "out_indices")
    taken, written = (
        json.loads(json.dumps({key: value for key, value in entries.items() if key not in free}))
        for entries in (found.to_dict(), clean)
    )
    if isinstance(written.get("vision_config"), dict):  # LLaVA's says one, which nothing reads
        written["vision_config"].pop("vocab_size", None)
    assert taken == written
    assert not hasattr(found, "auto_map") and not found.name_or_path
    size = 2**37 if family in GENERATORS else None  # they are large: only with weights
    check_size(lambda: chosen(found), size, "config.json")


def _known(family: str) -> bool:
    return family in transformers.CONFIG_MAPPING
