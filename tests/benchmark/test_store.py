"""A run's folder: what is in it is whole, whatever happens to the process or the disk."""
# ruff: noqa: E402 (what may be missing comes first)

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")

from captum_ib.benchmark import store
from captum_ib.benchmark.store import (
    PARTS,
    SAMPLES,
    DifferentRunError,
    FolderInUseError,
    RunFolder,
    differences,
    read_table,
)


def rows(first: int, count: int = 3, width: int = 1) -> pa.Table:
    return pa.table({"index": list(range(first, first + count)), "map": [[0.5] * width] * count})


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    with folder.locked():
        yield folder


def test_a_chunk_comes_back_as_it_was(folder):
    folder.write(7, rows(0), rows(9))
    assert folder.part(PARTS, 7) == folder.path / "parts" / "000007.parquet"
    assert read_table(folder.part(PARTS, 7)).equals(rows(0))
    assert read_table(folder.part(SAMPLES, 7)).equals(rows(9))
    assert folder.finished() == {7}


def test_a_chunk_without_its_samples_is_not_finished(folder):
    folder.write(0, rows(0), rows(0))
    folder.write_table(folder.part(PARTS, 1), rows(3))
    assert folder.finished() == {0}


@pytest.mark.parametrize("keep", [0, 3, 100, -8, -1])
def test_a_truncated_file_is_set_aside(folder, keep):
    folder.write(0, rows(0), rows(0))
    folder.write(1, rows(3), rows(3))
    path = folder.part(PARTS, 1)
    path.write_bytes(path.read_bytes()[:keep])
    assert folder.finished() == {0}
    assert not path.exists() and path.with_name("000001.parquet.broken").exists()
    folder.write(1, rows(3), rows(3))
    assert folder.finished() == {0, 1}


def test_a_flipped_bit_in_the_data_is_found(folder):
    noise = pa.table({"index": [0], "map": [os.urandom(4096)]})
    folder.write(0, noise, rows(0))
    path = folder.part(PARTS, 0)
    content = bytearray(path.read_bytes())
    content[2000] ^= 1
    path.write_bytes(content)
    assert folder.finished() == set()


def test_chunks_are_joined_in_order(folder):
    for chunk in (2, 0, 1):
        folder.write(chunk, rows(10 * chunk), rows(chunk, 1))
    folder.collect(PARTS, "results.parquet", rows(0).schema)
    joined = read_table(folder.path / "results.parquet")
    assert joined["index"].to_pylist() == [0, 1, 2, 10, 11, 12, 20, 21, 22]


def test_no_chunks_give_an_empty_table(folder):
    folder.collect(PARTS, "results.parquet", rows(0).schema)
    assert read_table(folder.path / "results.parquet").num_rows == 0


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_nothing_half_written(folder, monkeypatch, number):
    folder.write(0, rows(0), rows(0))
    before = read_table(folder.part(PARTS, 0))

    def full(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(store.os, "fsync", full)
    for chunk in (0, 1):
        with pytest.raises(
            OSError, match=r"no room left for 00000. *.*make room and give the same"
        ):
            folder.write_table(folder.part(PARTS, chunk), rows(5))
    monkeypatch.undo()
    assert [path.name for path in (folder.path / PARTS).iterdir()] == ["000000.parquet"]
    assert read_table(folder.part(PARTS, 0)).equals(before)


@pytest.fixture
def small_disk(tmp_path):
    """A tmpfs of 256 KiB; the test is skipped where it can't be mounted."""
    home = tmp_path / "small"
    home.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(home)]
    try:
        made = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if made.returncode:
        pytest.skip(f"a small disk can't be mounted here: {made.stderr.strip()}")
    yield home
    subprocess.run(["umount", str(home)], check=True)


def test_a_really_full_disk(small_disk):
    folder = RunFolder(small_disk / "run")
    with folder.locked():
        chunk = 0
        with pytest.raises(OSError, match="no room left for 0000"):
            for chunk in range(100):
                noise = pa.table({"index": [chunk], "map": [os.urandom(40_000)]})
                folder.write(chunk, noise, rows(chunk, 1))
        assert 2 <= chunk <= 6
        names = sorted(path.name for path in (folder.path / PARTS).iterdir())
        assert names == [f"{number:06d}.parquet" for number in range(chunk)]
        assert folder.finished() == set(range(chunk))
        folder.part(PARTS, 0).unlink()  # now there is room
        folder.write(chunk, noise, rows(chunk, 1))
        assert folder.finished() == set(range(1, chunk + 1))


def test_an_error_while_writing_leaves_the_old_file(folder, monkeypatch):
    folder.write(0, rows(0), rows(0))

    def broken(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(store.pq, "write_table", broken)
    with pytest.raises(KeyboardInterrupt):
        folder.write_table(folder.part(PARTS, 0), rows(5))
    assert [path.name for path in (folder.path / PARTS).iterdir()] == ["000000.parquet"]
    assert read_table(folder.part(PARTS, 0)).equals(rows(0))


def test_what_a_killed_process_left_is_cleared(tmp_path):
    folder = RunFolder(tmp_path)
    with folder.locked():
        for name in (PARTS, SAMPLES, "."):
            (folder.path / name / ".tmp-1-000000.parquet").write_bytes(b"half")
    with folder.locked():
        assert not list(folder.path.rglob(".tmp-*"))


def test_one_process_at_a_time(folder):
    with (
        pytest.raises(FolderInUseError, match=rf"process {os.getpid()}\) is writing to .*run"),
        RunFolder(folder.path).locked(),
    ):
        pytest.fail("two hold the folder")


def test_a_killed_process_lets_go(tmp_path):
    script = (
        "import sys, time\n"
        "from captum_ib.benchmark.store import RunFolder\n"
        "with RunFolder(sys.argv[1]).locked():\n"
        "    print('held', flush=True)\n"
        "    time.sleep(600)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as child:
        assert child.stdout is not None and child.stdout.readline() == "held\n"
        with (
            pytest.raises(FolderInUseError, match=f"process {child.pid}"),
            RunFolder(tmp_path).locked(),
        ):
            pytest.fail("two hold the folder")
        child.send_signal(signal.SIGKILL)
    with RunFolder(tmp_path).locked():
        pass


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(NotADirectoryError, match="is a file"), RunFolder(tmp_path / "run").locked():
        pytest.fail("a file is no folder")


def test_the_record_comes_back(folder):
    assert folder.record is None
    folder.write_record({"config": {"title": "Ä"}, "fingerprint": "f"})
    assert folder.record == {"config": {"title": "Ä"}, "fingerprint": "f"}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"config": {}}', "\udcff"])
def test_another_run_json_is_refused(folder, content):
    (folder.path / "run.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(DifferentRunError, match="use another folder"):
        _ = folder.record


def test_differences_name_every_value_with_its_place():
    old = {"methods": [{"method": "iba", "settings": {"n_steps": 10}}], "seeds": [0]}
    new = {"methods": [{"method": "iba", "settings": {}}], "seeds": [0, 4]}
    assert differences(old, new) == [
        "methods[0].settings.n_steps: 10 in the folder, nothing now",
        "seeds[1]: nothing in the folder, 4 now",
    ]
    assert differences(new, new) == []
