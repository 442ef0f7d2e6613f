"""A run goes on where it stopped, and ends with the table of one that never stopped."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="pyarrow is not installed")

from PIL import Image

from captum_ib.benchmark import schema
from captum_ib.benchmark.config import RunConfig
from captum_ib.benchmark.run import Summary, locally, run, summarise
from captum_ib.benchmark.store import (
    PARTS,
    SAMPLES,
    DifferentRunError,
    FolderInUseError,
    RunFolder,
    read_table,
)
from captum_ib.benchmark.worker import Worker
from tests.benchmark.killed import CHUNK, STEPS
from tests.benchmark.small import vit

ROOT = Path(__file__).parents[2]
MEASURED = ["seconds", "peak_bytes"]
ONE_BY_ONE = {"batch_size": 1, "methods": ["nib", "random"], "metrics": ["iou"]}


def results(folder: Path):
    """Both tables of a finished run, without what a clock says."""
    rows = read_table(folder / "results.parquet").drop_columns(MEASURED)
    return rows, read_table(folder / "samples.parquet")


def same(one: Path, other: Path) -> None:
    for left, right in zip(results(one), results(other), strict=True):
        assert left.equals(right, check_metadata=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of four chunks that nothing disturbed."""
    folder = tmp_path_factory.mktemp("finished")
    run(vit(**ONE_BY_ONE), folder, show_progress=False)
    return folder


def evaluations(monkeypatch) -> list[int]:
    """The chunks that are evaluated from now on."""
    seen: list[int] = []
    original = Worker.evaluate

    def evaluate(self, chunk, through=None):
        seen.append(chunk)
        return original(self, chunk, through)

    monkeypatch.setattr(Worker, "evaluate", evaluate)
    return seen


def test_what_is_in_the_folder(finished):
    rows, samples = results(finished)
    assert rows.column_names[:5] == ["index", "sample", "method", "seed", "status"]
    assert rows["index"].to_pylist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert samples["index"].to_pylist() == [0, 1, 2, 3]
    assert sorted(path.name for path in (finished / PARTS).iterdir()) == [
        f"{chunk:06d}.parquet" for chunk in range(4)
    ]
    record = json.loads((finished / "run.json").read_text())
    assert RunConfig.from_dict(record["config"]) == vit(**ONE_BY_ONE)
    assert schema.facts_of(rows.schema)["fingerprint"] == record["fingerprint"]


def test_only_what_is_missing_is_computed(finished, tmp_path, monkeypatch):
    seen = evaluations(monkeypatch)
    config = vit(**ONE_BY_ONE)
    run(config, tmp_path, show_progress=False)
    assert seen == [0, 1, 2, 3]
    seen.clear()
    summary = run(config, tmp_path, show_progress=False)
    assert seen == [] and (summary.samples, summary.computed) == (4, 0)
    (tmp_path / PARTS / "000001.parquet").unlink()
    (tmp_path / SAMPLES / "000003.parquet").write_bytes(b"PAR1")
    summary = run(config, tmp_path, show_progress=False)
    assert seen == [1, 3] and (summary.samples, summary.computed) == (4, 2)
    assert (tmp_path / SAMPLES / "000003.parquet.broken").read_bytes() == b"PAR1"
    assert "4 samples (2 were there already)" in str(summary)
    same(finished, tmp_path)


def test_a_truncated_part_is_computed_again(finished, tmp_path):
    config = vit(**ONE_BY_ONE)
    run(config, tmp_path, show_progress=False)
    part = tmp_path / PARTS / "000002.parquet"
    part.write_bytes(part.read_bytes()[:-20])
    (tmp_path / "results.parquet").write_bytes(b"")
    run(config, tmp_path, show_progress=False)
    same(finished, tmp_path)


def test_chunks_may_come_in_any_order(finished, tmp_path):
    config = vit(**ONE_BY_ONE)
    worker = Worker(config)

    def backwards(given, chunks, write):
        assert given == config
        locally(worker)(given, chunks[::-1], write)

    run(config, tmp_path, execute=backwards, show_progress=False)
    same(finished, tmp_path)


class Killed:
    """The process of killed.py, for one configuration and folder."""

    def __init__(self, config: RunConfig, out: Path) -> None:
        command = [sys.executable, "-m", "tests.benchmark.killed", json.dumps(config.to_dict())]
        self._process = subprocess.Popen(
            [*command, str(out)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def __call__(self, order: str) -> str:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(order + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        """End it."""
        self._process.communicate()
        assert self._process.returncode == 0


def killed_often(folder: Path, kills: int, seed: int) -> None:
    """A run that is killed so many times at random points, against one that was not."""
    draw, orders, most = random.Random(seed), [], 0
    for number in range(kills):
        if number % 2 == 0:
            step = draw.randint(1, 2 * STEPS)
            orders.append(f"step {step}")
            most += step // STEPS
        else:
            seconds = draw.uniform(0.0, 3.5 * CHUNK)
            orders.append(f"timer {seconds:.3f}")
            most += int(seconds / CHUNK)
    count = most + 2  # more chunks than can be done between all these kills
    config = vit(**{**ONE_BY_ONE, "samples": count})
    undisturbed, disturbed = folder / "undisturbed", folder / "disturbed"
    process = Killed(config, disturbed)
    assert [process(order) for order in orders] == ["killed"] * kills
    parts = list((disturbed / PARTS).glob("*.parquet"))
    assert not (disturbed / "results.parquet").exists() and len(parts) < count
    assert process("none") == "done"
    assert process(f"none {undisturbed}") == "done"
    process.close()
    same(undisturbed, disturbed)
    assert results(disturbed)[0].num_rows == 2 * count
    assert not list(disturbed.rglob(".tmp-*")) and not list(disturbed.rglob("*.broken"))


def test_a_run_that_is_killed_three_times(tmp_path):
    killed_often(tmp_path, kills=3, seed=1)


@pytest.mark.slow
def test_a_run_that_is_killed_twenty_times(tmp_path):
    killed_often(tmp_path, kills=20, seed=2)


@pytest.mark.usefixtures("interruptible")
def test_interrupted_by_the_keyboard(finished, tmp_path, monkeypatch):
    config = vit(**ONE_BY_ONE)
    original = Worker.evaluate

    def evaluate(self, chunk, through=None):
        if chunk == 2:
            signal.raise_signal(signal.SIGINT)
        return original(self, chunk, through)

    monkeypatch.setattr(Worker, "evaluate", evaluate)
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path, show_progress=False)
    monkeypatch.undo()
    assert RunFolder(tmp_path).finished() == {0, 1}
    assert run(config, tmp_path, show_progress=False).computed == 2
    same(finished, tmp_path)


def test_two_processes_can_not_share_a_folder(finished, tmp_path):
    config = vit(**ONE_BY_ONE)
    with (
        RunFolder(tmp_path).locked(),
        pytest.raises(FolderInUseError, match="another process .* is writing"),
    ):
        run(config, tmp_path, show_progress=False)
    run(config, tmp_path, show_progress=False)
    same(finished, tmp_path)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"seeds": [0, 1]}, r"seeds\[1\]: nothing in the folder, 1 now"),
        ({"samples": 3}, "samples: 4 in the folder, 3 now"),
        (
            {"methods": ["nib", "saliency"]},
            r"methods\[1\].method: 'random' in the folder, 'saliency' now",
        ),
    ],
)
def test_another_run_is_refused_with_what_differs(finished, change, what):
    before = sorted(finished.rglob("*"))
    with pytest.raises(DifferentRunError, match=what):
        run(vit(**{**ONE_BY_ONE, **change}), finished, show_progress=False)
    assert sorted(finished.rglob("*")) == before


def test_the_batch_size_of_the_folder_is_kept(finished):
    summary = run(vit(**{**ONE_BY_ONE, "batch_size": 3}), finished, show_progress=False)
    assert (summary.samples, summary.computed) == (4, 0)
    assert "batch size 1 kept" in str(summary)


def test_other_versions_are_said(finished, monkeypatch):
    record = RunFolder(finished).record
    old = {**record, "versions": {**record["versions"], "torch": "1.0"}}
    (finished / "run.json").write_text(json.dumps(old))
    try:
        summary = run(vit(**ONE_BY_ONE), finished, show_progress=False)
    finally:
        (finished / "run.json").write_text(json.dumps(record, indent=2))
    assert "begun with other versions (torch: '1.0' in the folder" in str(summary)


@pytest.fixture
def pictures(tmp_path):
    """Scenes as files by class; one is truncated, one is no picture."""
    from captum_ib import zoo

    root, scenes = tmp_path / "pictures", zoo.scenes.labelled(5, seed=11)
    names = list(zoo.scenes.NAMED_SHAPES)
    for name in names:
        (root / name).mkdir(parents=True)
    for number, (image, label) in enumerate(zip(scenes.images, scenes.labels, strict=True)):
        pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(root / names[label] / f"{number}.png")
    files = sorted(root.glob("*/*.png"))
    files[1].write_bytes(files[1].read_bytes()[:600])
    files[3].write_bytes(b"not a picture")
    return root, files


def test_unreadable_images_are_counted_and_skipped(pictures, tmp_path):
    root, files = pictures
    data = {"kind": "folder", "path": str(root), "options": {"shuffle": None}}
    config = vit(data=data, methods=["nib"], metrics=["deletion"], samples=None)
    summary = run(config, tmp_path / "out", show_progress=False)
    rows, samples = results(tmp_path / "out")
    names = [path.relative_to(root).as_posix() for path in files]
    assert rows["sample"].to_pylist() == [names[0], names[2], names[4]]
    assert samples["sample"].to_pylist() == names
    assert samples["status"].to_pylist() == ["ok", "skipped", "ok", "skipped", "ok"]
    assert all(samples["reason"].to_pylist()[place] for place in (1, 3))
    assert "2 of 5 samples skipped:" in str(summary) and sum(summary.skipped.values()) == 2


def test_data_that_changed_are_refused(pictures, tmp_path):
    root, files = pictures
    data = {"kind": "folder", "path": str(root), "options": {"shuffle": None}}
    config = vit(data=data, methods=["nib"], metrics=["deletion"], samples=None)
    run(config, tmp_path / "out", show_progress=False)
    files[0].rename(files[0].with_name("other.png"))
    with pytest.raises(DifferentRunError, match="changed since the run began"):
        run(config, tmp_path / "out", show_progress=False)


def test_a_caption_that_is_no_utf_8_is_one_skipped_sample(tmp_path):
    from captum_ib import zoo

    scenes = zoo.scenes.captioned(3, seed=11, size=56)
    lines = [b"image,caption"]
    for number, image in enumerate(scenes.images):
        pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        words = scenes.captions[number].encode() if number != 1 else b"a r\xffd circle"
        lines.append(f"{number}.png,".encode() + words)
    (tmp_path / "pairs.csv").write_bytes(b"\n".join(lines) + b"\n")
    config = RunConfig.from_dict(
        {
            "model": "zoo:clip-scenes",
            "data": {
                "kind": "table",
                "path": str(tmp_path / "pairs.csv"),
                "options": {"shuffle": None, "caption": "caption"},
            },
            "methods": ["nib"],
            "metrics": ["drop_text"],
        }
    )
    summary = run(config, tmp_path / "out", show_progress=False)
    rows, samples = results(tmp_path / "out")
    assert rows["index"].to_pylist() == [0, 2]
    assert samples["status"].to_pylist() == ["ok", "skipped", "ok"]
    assert "UTF-8" in next(iter(summary.skipped)) and sum(summary.skipped.values()) == 1


def test_failures_are_in_the_summary(tmp_path, monkeypatch):
    from captum_ib import NIB

    def fails(self, *args, **kwargs):
        raise RuntimeError("no such thing")

    monkeypatch.setattr(NIB, "attribute", fails)
    summary = run(vit(methods=["nib", "random"]), tmp_path, show_progress=False)
    assert summary.failed == {"NIB": (4, 4, "no such thing")}
    assert "NIB failed on 4 of 4 rows, e.g.: no such thing" in str(summary)


def test_a_full_disk_says_so_and_the_run_goes_on_later(finished, tmp_path, monkeypatch):
    config, original = vit(**ONE_BY_ONE), os.fsync
    left = [5]

    def fsync(handle):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        return original(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="no room left for .* give the same command again"):
        run(config, tmp_path, show_progress=False)
    monkeypatch.undo()
    assert len(RunFolder(tmp_path).finished()) in (0, 1)
    assert not list(tmp_path.rglob(".tmp-*"))
    run(config, tmp_path, show_progress=False)
    same(finished, tmp_path)


def test_the_progress_counts_maps(tmp_path, capsys):
    config = vit(methods=["nib", "random"], metrics=["iou"], seeds=[0, 1])
    run(config, tmp_path, show_progress=True)
    assert "| 16/16 [" in capsys.readouterr().err
    (tmp_path / PARTS / "000001.parquet").unlink()
    run(config, tmp_path, show_progress=True)
    error = capsys.readouterr().err
    assert " 8/16 [" in error and "| 16/16 [" in error
    run(config, tmp_path, show_progress=False)
    assert capsys.readouterr().err == ""


def test_many_reasons_are_summed_up():
    summary = Summary(Path("x"), 20, 20, {f"reason {i}": 7 - i for i in range(7)})
    lines = str(summary).splitlines()
    assert lines[1] == "28 of 20 samples skipped:"
    assert lines[2] == "  7 x reason 0" and lines[-1] == "  3 x other reasons"
    assert summarise(RunFolder("nowhere"), Summary(Path("x"))).failed == {}


MEASURE = """
import json, resource, sys
import torch
torch.set_num_threads(1)
from captum_ib.benchmark.config import RunConfig
from captum_ib.benchmark.run import run
run(RunConfig.from_dict(json.loads(sys.argv[1])), sys.argv[2], show_progress=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_samples(tmp_path):
    peaks = []
    for samples in (16, 160):
        config = vit(samples=samples, batch_size=8, methods=["nib", "saliency", "random"])
        command = [sys.executable, "-c", MEASURE, json.dumps(config.to_dict())]
        done = subprocess.run(
            [*command, str(tmp_path / str(samples))],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"},
        )
        peaks.append(int(done.stdout.split()[-1]))
    assert peaks[1] <= 1.1 * peaks[0], peaks
