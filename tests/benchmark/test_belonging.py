"""A run takes no file for its own that is another's, and no data that changed."""

from __future__ import annotations

import json
import os
import pickle
import shutil

import pytest

pytest.importorskip("pyarrow", reason="pyarrow is not installed")

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from captum_ib import zoo
from captum_ib.benchmark import schema
from captum_ib.benchmark.belonging import STAMP, sample_digest
from captum_ib.benchmark.config import RunConfig
from captum_ib.benchmark.data import Sample
from captum_ib.benchmark.run import run
from captum_ib.benchmark.store import DifferentRunError, read_table
from captum_ib.report.reading import open_run
from tests.benchmark.small import vit

SMALL = {"batch_size": 1, "samples": 2, "methods": ["nib"], "metrics": ["iou"]}
MEND = "move it out of the folder and give the same command again, which makes it anew"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Finished runs by name: a small one, and others that differ from it in one thing."""
    home = tmp_path_factory.mktemp("runs")
    changes = {"own": {}, "seed": {"seeds": [1]}, "methods": {"methods": ["saliency"]}}
    for name, change in changes.items():
        run(vit(**{**SMALL, **change}), home / name, show_progress=False)
    return home


@pytest.fixture
def folder(made, tmp_path):
    """A copy of the small run."""
    return shutil.copytree(made / "own", tmp_path / "own")


def refused(folder, message, **change) -> None:
    """The run does not go on, says why in one line, and leaves all files as they are."""
    before = {path: path.read_bytes() for path in folder.rglob("*.parquet")}
    with pytest.raises(DifferentRunError) as error:
        run(vit(**{**SMALL, **change}), folder, show_progress=False)
    text = str(error.value)
    assert message in text and "\n" not in text
    assert {path: path.read_bytes() for path in folder.rglob("*.parquet")} == before


def rewritten(path, change) -> None:
    """The file with another table, and the metadata that it had."""
    table = read_table(path)
    pq.write_table(change(table).replace_schema_metadata(table.schema.metadata), path)


def test_every_file_says_what_it_belongs_to(made):
    fingerprint = vit(**SMALL).fingerprint()
    stamps = {
        path.relative_to(made / "own").as_posix(): schema.facts_of(pq.read_schema(path), STAMP)
        for path in (made / "own").rglob("*.parquet")
    }
    assert {stamp.pop("run") for stamp in stamps.values()} == {fingerprint}
    data = {name: stamp.pop("data") for name, stamp in stamps.items()}
    assert stamps == {
        "parts/000000.parquet": {"kind": "parts", "chunk": 0, "rows": 1},
        "parts/000001.parquet": {"kind": "parts", "chunk": 1, "rows": 1},
        "samples/000000.parquet": {"kind": "samples", "chunk": 0, "rows": 1},
        "samples/000001.parquet": {"kind": "samples", "chunk": 1, "rows": 1},
        "results.parquet": {"kind": "results", "rows": 2},
        "samples.parquet": {"kind": "samples", "rows": 2},
    }
    assert data["parts/000000.parquet"] == data["samples/000000.parquet"]
    assert data["results.parquet"] == data["samples.parquet"]
    assert len(set(data.values())) == 3


def test_swapped_parts(folder):
    first, second = (folder / "parts" / f"{chunk:06d}.parquet" for chunk in (0, 1))
    spare = first.with_name("spare")
    for path, target in ((first, spare), (second, first), (spare, second)):
        path.rename(target)
    refused(folder, f"{first} does not belong to this run: its chunk is 1, expected 0; {MEND}")


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ("seed", "seeds[0]: 1 in the folder, 0 now"),
        ("methods", "methods[0].method: 'saliency' in the folder, 'nib' now"),
    ],
)
def test_parts_of_another_run(made, folder, other, what):
    shutil.copy(made / other / "parts" / "000001.parquet", folder / "parts" / "000001.parquet")
    refused(folder, f"it is of a run that differs in {what}")


def test_a_part_of_another_run_whose_chunk_is_not_finished(made, folder):
    shutil.copy(made / "seed" / "parts" / "000001.parquet", folder / "parts" / "000001.parquet")
    (folder / "samples" / "000001.parquet").unlink()
    refused(folder, "it is of a run that differs in seeds[0]: 1 in the folder, 0 now")


def test_a_part_without_rows(folder):
    path = folder / "parts" / "000001.parquet"
    rewritten(path, lambda table: table.slice(0, 0))
    refused(folder, f"{path} does not belong to this run: it has 0 rows, expected 1")
    table = read_table(path)
    stamp = schema.facts_of(table.schema, STAMP) | {"rows": 0}  # and one that does not hide it
    metadata = table.schema.metadata | {STAMP: json.dumps(stamp).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    refused(folder, f"{path} does not belong to this run: it has 0 rows, expected 1")


def test_a_part_with_rows_of_other_samples(folder):
    path = folder / "parts" / "000001.parquet"
    rewritten(path, lambda table: table.set_column(0, "index", pa.array([0], pa.int64())))
    refused(folder, "it has 1 rows ((0, 'NIB', 0), expected (1, 'NIB', 0)), expected 1")


@pytest.mark.parametrize("name", ["results", "samples"])
def test_joined_files_of_another_run(made, folder, name):
    shutil.copy(made / "seed" / f"{name}.parquet", folder)
    refused(folder, "it is of a run that differs in seeds[0]: 1 in the folder, 0 now")
    (folder / "parts" / "000001.parquet").unlink()  # nor is it written over
    refused(folder, "it is of a run that differs in seeds[0]: 1 in the folder, 0 now")


def test_joined_results_that_lack_rows(folder):
    rewritten(folder / "results.parquet", lambda table: table.slice(0, 1))
    refused(folder, "it has 1 rows, expected 2")


def test_a_folder_without_run_json(folder):
    (folder / "run.json").unlink()
    refused(folder, "holds results.parquet but no run.json, which says what it belongs to; put run")
    for name in ("results", "samples"):
        (folder / f"{name}.parquet").unlink()
    refused(folder, "holds parts/000000.parquet but no run.json")


@pytest.mark.parametrize("content", [{"model": 5}, None, {"batch_size": "x"}])
def test_a_run_json_with_another_configuration(folder, content):
    path = folder / "run.json"
    record = json.loads(path.read_text())
    config = None if content is None else record["config"] | content
    path.write_text(json.dumps(record | {"config": config}))
    refused(folder, "describes no run")


def test_the_run_json_of_another_run(made, folder):
    shutil.copy(made / "seed" / "run.json", folder)
    refused(folder, "holds another run, which differs in seeds[0]: 1 in the folder, 0 now")
    refused(folder, "it is of a run that differs in seeds[0]: 0 in the folder, 1 now", seeds=[1])


def test_a_part_that_says_nothing_of_itself(folder):
    path = folder / "samples" / "000000.parquet"
    table = read_table(path)
    pq.write_table(table.replace_schema_metadata(None), path)
    refused(folder, f"{path} does not belong to this run: the Parquet file has no captum_ib.part")


def test_parts_beyond_the_run(folder):
    for kind in ("parts", "samples"):
        shutil.copy(folder / kind / "000001.parquet", folder / kind / "000007.parquet")
    refused(folder, "its chunk is 7, expected 0 to 1")


def test_scores_over_the_whole_set_of_another_run(tmp_path):
    roar = {"metric": "roar_plus", "settings": {"epochs": 1, "train_batch_size": 4}}
    config = vit(methods=["nib", "random"], metrics=[roar], samples=6)
    run(config, tmp_path, show_progress=False)
    one, other = (tmp_path / "whole" / f"000-00{number}-0.parquet" for number in (0, 1))
    kept = one.read_bytes()
    shutil.copy(other, one)
    with pytest.raises(DifferentRunError, match="its method is 'Random', expected 'NIB'"):
        run(config, tmp_path, show_progress=False)
    one.write_bytes(kept)
    shutil.copy(one, tmp_path / "whole" / "more.parquet")
    with pytest.raises(DifferentRunError, match="the run has no such metric, method or seed"):
        run(config, tmp_path, show_progress=False)


@pytest.fixture
def pairs(tmp_path):
    """A table of three pairs with masks, and the run of it."""
    home = tmp_path / "data"
    home.mkdir()
    scenes = zoo.scenes.captioned(3, seed=11, size=56)
    rows = ["id,image,caption,mask"]
    for number, (image, mask) in enumerate(zip(scenes.images, scenes.mask, strict=True)):
        pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(home / f"{number}.png")
        Image.fromarray(mask.numpy()).save(home / f"mask-{number}.png")
        rows.append(f"{number},{number}.png,{scenes.captions[number]},mask-{number}.png")
    (home / "pairs.csv").write_text("\n".join(rows) + "\n")
    options = {"id": "id", "caption": "caption", "mask": "mask", "shuffle": None}
    config = {
        "model": "zoo:clip-scenes",
        "data": {"kind": "table", "path": str(home / "pairs.csv"), "options": options},
        "methods": ["nib"],
        "metrics": ["iou"],
        "batch_size": 2,
    }
    return home, RunConfig.from_dict(config)


def other_pixel(home):
    path = home / "2.png"
    pixels = np.array(Image.open(path))
    pixels[5, 7, 1] ^= 1
    Image.fromarray(pixels).save(path)


def other_caption(home):
    path = home / "pairs.csv"
    *lines, last = path.read_text().splitlines()
    cells, first = last.split(","), lines[1].split(",")
    path.write_text("\n".join([*lines, ",".join([*cells[:2], first[2], cells[3]])]) + "\n")


def other_mask(home):
    (home / "mask-2.png").write_bytes((home / "mask-0.png").read_bytes())


def broken_picture(home):
    (home / "2.png").write_bytes(b"no picture")


@pytest.mark.parametrize("change", [other_pixel, other_caption, other_mask, broken_picture])
def test_other_data_under_the_same_ids(pairs, tmp_path, change):
    home, config = pairs
    run(config, tmp_path / "out", show_progress=False)
    assert run(config, tmp_path / "out", show_progress=False).computed == 0
    kept = {path: path.read_bytes() for path in home.iterdir()}
    change(home)
    assert {path: path.read_bytes() for path in home.iterdir()} != kept
    with pytest.raises(DifferentRunError) as error:
        run(config, tmp_path / "out", show_progress=False)
    path = tmp_path / "out" / "samples" / "000001.parquet"
    assert f"the data changed since {path} was computed" in str(error.value)
    assert "put the old data back, or use another folder" in str(error.value)
    for path, content in kept.items():
        path.write_bytes(content)
    assert run(config, tmp_path / "out", show_progress=False).computed == 0


def test_what_the_digest_of_a_sample_covers():
    picture, mask = Image.new("RGB", (4, 2)), np.zeros((2, 4), bool)
    base = {"image": picture, "label": 3, "caption": "a", "mask": mask, "words": ("a",)}
    changes = [
        {},
        {"image": Image.new("RGB", (2, 4))},
        {"image": Image.new("RGB", (4, 2), (0, 0, 1))},
        {"label": 4},
        {"label": "3"},
        {"caption": "b"},
        {"mask": ~mask},
        {"mask": None},
        {"words": ("a", "b")},
        {"words": None},
    ]
    digests = [sample_digest("x", Sample("x", **{**base, **change})) for change in changes]
    digests += [sample_digest("y", Sample("y", **base)), sample_digest("x", None)]
    assert len(set(digests)) == len(changes) + 2
    same = {**base, "label": np.int64(3), "mask": mask.astype(np.uint8)}
    assert sample_digest("x", Sample("x", **same)) == digests[0]


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


# An old pyarrow would unpickle this type; a new one warns of it.
@pytest.mark.filterwarnings("ignore:pickle-based deserialization:RuntimeWarning")
@pytest.mark.parametrize("extension", ["arrow.py_extension_type", "pandas.period", "no.such.type"])
def test_metadata_of_a_part_runs_nothing_and_names_nothing(folder, tmp_path, extension):
    path = folder / "parts" / "000000.parquet"
    table, boom = read_table(path), tmp_path / "boom"
    names = {"ARROW:extension:name": extension}
    bomb = {**names, "ARROW:extension:metadata": pickle.dumps(Bomb(boom))}
    field = table.schema.field("method").with_metadata(bomb)
    pandas = {"index_columns": ["sample"], "columns": [{"name": "x", "pandas_type": "object"}]}
    metadata = table.schema.metadata | {b"pandas": json.dumps(pandas).encode()}
    fields = [field if one.name == "method" else one for one in table.schema]
    pq.write_table(pa.Table.from_arrays(table.columns, schema=pa.schema(fields, metadata)), path)
    try:
        summary = run(vit(**SMALL), folder, show_progress=False)
    except DifferentRunError as error:
        assert "its columns are not those of the run" in str(error)
    else:  # metadata of a field, which is dropped when the parts are joined
        (folder / "results.parquet").unlink()
        run(vit(**SMALL), folder, show_progress=False)
        joined = pq.read_schema(folder / "results.parquet")
        assert summary.computed == 0 and b"pandas" not in joined.metadata
        assert all(extension.encode() not in (one.metadata or {}).values() for one in joined)
    assert not boom.exists()


@pytest.mark.parametrize("text", [b"[" * 100_000, b"5", b"\xff", b"", b"null"])
def test_headers_that_are_no_json(folder, text):
    path = folder / "parts" / "000000.parquet"
    table = read_table(path)
    pq.write_table(table.replace_schema_metadata(table.schema.metadata | {STAMP: text}), path)
    refused(folder, f"{path} does not belong to this run: the Parquet file has no captum_ib.part")


@pytest.mark.parametrize(
    "name", ["parts", "samples", "whole", "lock", "run.json", "results.parquet", "parts/9.parquet"]
)
def test_links_are_not_followed(folder, tmp_path, name):
    outside, inside = tmp_path / "outside", folder / name
    if inside.is_dir():
        shutil.move(inside, outside)
        (outside / ".tmp-mine").write_text("precious")
    else:
        outside.write_text("precious")
        inside.unlink(missing_ok=True)
    inside.symlink_to(outside)
    refused(folder, f"{inside} is a link")
    kept = outside / ".tmp-mine" if outside.is_dir() else outside
    assert kept.read_text() == "precious" and inside.is_symlink()
    with pytest.raises(ValueError, match="is a link"):
        open_run(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
@pytest.mark.parametrize("name", ["lock", "run.json", "parts/000000.parquet", "results.parquet"])
def test_pipes_are_not_waited_for(folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(DifferentRunError, match="is no regular file, and a run leaves"):
        run(vit(**SMALL), folder, show_progress=False)
    with pytest.raises(ValueError, match="is no regular file, and a run leaves"):
        open_run(folder)


@pytest.mark.parametrize("name", [".tmp-x", "parts/.tmp-x", "parts/000000.parquet.broken"])
def test_folders_among_files_are_named(folder, name):
    (folder / name).mkdir()
    refused(folder, f"{folder / name} is a folder, and a run leaves")


@pytest.mark.parametrize("key", ["config", "versions", "more"])
def test_json_that_is_nested_absurdly(folder, key):
    file = folder / "run.json"
    record, deep = json.loads(file.read_text()), "[" * 900 + "]" * 900
    file.write_text(json.dumps({**record, key: 0}).replace(f'"{key}": 0', f'"{key}": {deep}'))
    refused(folder, "run.json can't be read (it is nested deeper than 32 levels)")
    with pytest.raises(ValueError, match="nested deeper than 32 levels"):
        open_run(folder)


def test_metadata_that_are_nested_absurdly(folder):
    deep = '{"config": ' + '{"a": ' * 900 + "1" + "}" * 901
    for name in ("parts/000000.parquet", "results.parquet"):
        table = read_table(folder / name)
        other = {STAMP: b'{"run": "other"}', schema.KEY: deep.encode()}
        pq.write_table(table.replace_schema_metadata(other), folder / name)
    refused(folder, "it is no part of a run")
    shutil.rmtree(folder / "parts")
    with pytest.raises(ValueError, match="nested deeper than 32 levels"):
        open_run(folder)
