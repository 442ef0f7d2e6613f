"""A chunk under way: each method of it is kept, so that an interrupt loses one at most."""

from __future__ import annotations

import shutil
import signal

import pytest

pytest.importorskip("pyarrow", reason="pyarrow is not installed")

from captum_ib.benchmark.explainers import Explainer, Floor
from captum_ib.benchmark.run import run
from captum_ib.benchmark.store import DifferentRunError, read_table
from captum_ib.report.reading import open_run
from tests.benchmark.small import vit

SMALL = {
    "methods": ["nib", "saliency", "random"],
    "metrics": ["iou"],
    "samples": 2,
    "seeds": [0, 1],
}
MEASURED = ["seconds", "peak_bytes"]


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A run of one chunk that Ctrl-C met in its third method."""
    folder = tmp_path_factory.mktemp("interrupted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Floor, "__call__", _interrupt)
        old = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                run(vit(**SMALL), folder, show_progress=False)
        finally:
            signal.signal(signal.SIGINT, old)
    return folder


def _interrupt(*args, **kwargs):
    signal.raise_signal(signal.SIGINT)


@pytest.fixture
def folder(interrupted, tmp_path):
    return shutil.copytree(interrupted, tmp_path / "run")


def names(folder):
    return sorted(path.name for path in (folder / "parts").iterdir())


def test_an_interrupt_loses_one_method_of_a_chunk(folder, tmp_path, monkeypatch, capsys):
    assert names(folder) == ["000000-000.parquet", "000000-001.parquet"]
    called = []
    original = Explainer.__call__

    def counted(self, *args, **kwargs):
        called.append(self.row.name)
        return original(self, *args, **kwargs)

    run(vit(**SMALL), tmp_path / "undisturbed", show_progress=False)
    monkeypatch.setattr(Explainer, "__call__", counted)
    run(vit(**SMALL), folder, show_progress=False)
    assert called == [] and names(folder) == ["000000.parquet"]
    one, other = (
        read_table(home / "results.parquet").drop_columns(MEASURED)
        for home in (folder, tmp_path / "undisturbed")
    )
    assert one.equals(other, check_metadata=True)
    assert capsys.readouterr().err == ""


def test_a_broken_file_of_a_method_is_made_again(folder):
    broken = folder / "parts" / "000000-001.parquet"
    broken.write_bytes(broken.read_bytes()[:-20])
    run(vit(**SMALL), folder, show_progress=False)
    assert names(folder) == ["000000-001.parquet.broken", "000000.parquet"]


def test_what_is_left_of_a_finished_chunk_goes(interrupted, folder):
    run(vit(**SMALL), folder, show_progress=False)
    left = interrupted / "parts" / "000000-001.parquet"
    shutil.copy(left, folder / "parts")
    assert run(vit(**SMALL), folder, show_progress=False).computed == 0
    assert names(folder) == ["000000.parquet"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("000000-001", "its method is 'NIB', expected 'Saliency'"),
        ("000000-003", "the run has no such chunk or method"),
        ("000001-000", "the run has no such chunk or method"),
    ],
)
def test_a_method_in_the_place_of_another_is_refused(folder, name, message):
    path = folder / "parts" / f"{name}.parquet"
    shutil.copy(folder / "parts" / "000000-000.parquet", path)
    before = names(folder)
    with pytest.raises(DifferentRunError, match=message):
        run(vit(**SMALL), folder, show_progress=False)
    assert names(folder) == before


def test_a_method_on_other_data_is_refused(folder, monkeypatch):
    from captum_ib.benchmark import worker

    monkeypatch.setattr(worker, "sample_digest", lambda name, sample: "0" * 64)
    with pytest.raises(DifferentRunError, match=r"000000-000.parquet .*its data is .*, expected"):
        run(vit(**SMALL), folder, show_progress=False)
    assert names(folder) == ["000000-000.parquet", "000000-001.parquet"]


def test_a_report_counts_whole_chunks_only(folder):
    with pytest.raises(ValueError, match="has no finished chunk yet"):
        open_run(folder)
