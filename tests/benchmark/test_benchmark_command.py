"""``captum-ib benchmark``: runs from files, presets and flags; mistakes get one line."""

from __future__ import annotations

import json
import re
import signal

import pytest

pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pytest.importorskip("yaml", reason="PyYAML is not installed")

from captum_ib.benchmark import PRESETS, preset
from captum_ib.benchmark.store import RunFolder, read_table
from captum_ib.benchmark.worker import Worker
from captum_ib.cli import main
from captum_ib.cli.benchmark import configured

FLAGS = ["--model", "vit-scenes", "--method", "nib", "random", "--metric", "iou"]
SMALL = [*FLAGS, "--samples", "3", "--batch-size", "2"]
FILE = """
model: zoo:vit-scenes
data: {kind: scenes, options: {seed: 5}}
methods: [nib, random]
metrics: [iou]
samples: 2
"""


def command(capsys, *arguments) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    code = main(["benchmark", *map(str, arguments)])
    output = capsys.readouterr()
    return code, output.out, output.err


def untimed(log):
    """The lines of a log without the time at which a part was done."""
    parted = [re.fullmatch(r"(.*) done after \d+:\d\d:\d\d", line) for line in log.splitlines()]
    return [line and line[1] for line in parted]


def mistake(capsys, *arguments) -> str:
    """The one line that a mistake gets."""
    code, out, err = command(capsys, *arguments)
    assert code == 2 and out == "" and err.count("\n") == 1
    assert err.startswith("captum-ib: error: ")
    return err


def test_a_run_from_flags_and_again(capsys, tmp_path):
    out = tmp_path / "out"
    code, text, error = command(capsys, *SMALL, "--seeds", 0, 1, "--out", out)
    assert code == 0 and untimed(error) == [
        f"benchmark: chunk {chunk} of 2, {method}"
        for chunk in (1, 2)
        for method in ("NIB", "Random")
    ]
    assert text.startswith(f"{out}: 3 samples\n") and f"captum-ib report {out}" in text
    lines = [line.split() for line in text.splitlines()]
    assert [line[0] for line in lines if line and line[0] in ("NIB", "Random")] == ["NIB", "Random"]
    table = read_table(out / "results.parquet")
    assert table.num_rows == 3 * 2 * 2 and table["seed"].to_pylist()[:2] == [0, 1]
    record = json.loads((out / "run.json").read_text())
    typed = [*SMALL, "--seeds", "0", "1", "--out", str(out)]
    assert record["command"] == ["captum-ib", "benchmark", *typed]
    assert record["config"]["batch_size"] == 2
    code, text, error = command(capsys, *SMALL, "--seeds", "0", "1", "--out", out)
    assert code == 0 and "3 samples (3 were there already)" in text
    error = mistake(capsys, *SMALL, "--seeds", "0", "--out", out)
    assert "differs in seeds[1]: 1 in the folder, nothing now" in error


def test_several_runs_of_a_file_get_a_folder_each(capsys, tmp_path):
    runs = "runs:\n" + "".join(
        f"  - title: {name}\n" + "".join(f"    {line}\n" for line in FILE.strip().splitlines())
        for name in ("one", "two")
    )
    (tmp_path / "runs.yaml").write_text(runs)
    out = tmp_path / "out"
    code, text, _ = command(capsys, tmp_path / "runs.yaml", "--out", out, "--samples", 1)
    assert code == 0 and sorted(path.name for path in out.iterdir()) == ["one", "two"]
    assert read_table(out / "two" / "results.parquet").num_rows == 2
    assert f"{out / 'one'}: 1 samples" in text


def test_a_dry_run_writes_nothing(capsys, tmp_path):
    code, text, error = command(capsys, *SMALL, "--dry-run", "--out", tmp_path / "out")
    assert (code, error) == (0, "") and not (tmp_path / "out").exists()
    assert text.splitlines()[0].split()[0] == "method"
    assert "3 samples x 1 seeds: about" in text


def test_what_flags_say():
    (run,) = configured(
        None,
        None,
        {
            "model": "vit-scenes",
            "method": ["nib", "coiba", "random"],
            "metric": [],
            "samples": 4,
            "data": "scenes",
        },
    )
    assert [line.method for line in run.methods] == ["nib", "coiba", "random"]
    assert [column.metric for column in run.metrics] == ["insertion", "deletion", "insdel"]
    (run,) = configured(
        None,
        None,
        {
            "model": "m",
            "method": ["nib"],
            "data": "folder:a:b",
            "metric": ["deletion"],
            "dtype": "float16",
        },
    )
    assert (run.data.kind, run.data.path, run.dtype) == ("folder", "a:b", "float16")


def test_flags_change_a_presets_runs():
    runs = configured(None, "paper-small", {"samples": 2, "seeds": [7], "device": "cuda"})
    assert len(runs) == len(preset("paper-small"))
    assert {(run.samples, run.seeds, run.device) for run in runs} == {(2, (7,), "cuda")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], f"say what to run: a config file, --preset ({', '.join(PRESETS)}), or --model and"),
        (["--model", "vit-scenes"], "say what to run"),
        (["--preset", "paper-smal"], "did you mean 'paper-small'?"),
        (["x.yaml", "--preset", "paper-small"], "either a config file or --preset"),
        (["nothing.yaml"], "nothing.yaml"),
        (["--preset", "paper-small", "--metric", "iou"], "--metric describes a run, and so does"),
        ([*FLAGS], "scenes never end"),
        ([*SMALL, "--samples", "0"], "samples should be greater than or equal to 1, given 0"),
        ([*SMALL, "--device", "tpu9"], "tpu9"),
        ([*SMALL, "--data", "folder:/no/such/place"], "is iou, which needs a mask per sample"),
        (
            ["--model", "vit-scenes", "--method", "nib", "--data", "folder:/no/such/place"],
            "/no/such/place",
        ),
        (["--model", "vit-scenes", "--method", "m2ib", "--samples", "2"], "does not explain"),
        ([*SMALL, "--seeds", "x"], "Invalid value for '--seeds'"),
    ],
)
def test_mistakes_get_one_line(capsys, tmp_path, arguments, message):
    out = tmp_path / "out"
    assert message in mistake(capsys, *arguments, "--out", out)
    assert not out.exists() or not list(out.rglob("*.parquet"))


def test_a_mistake_in_a_file_is_named_with_its_place(capsys, tmp_path):
    (tmp_path / "run.yaml").write_text(FILE.replace("samples", "sample"))
    error = mistake(capsys, tmp_path / "run.yaml", "--out", tmp_path / "out")
    assert "run.yaml: the run has no key 'sample';" in error and "did you mean 'samples'?" in error


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("run.yaml", b"model: [", "run.yaml: while parsing a flow node"),
        ("run.toml", b"model = [", "run.toml: "),
        ("run.yaml", b"model: \xff\xfe", "run.yaml is not UTF-8, from byte 7 on"),
        ("run.toml", b"\xff\xfem\0", "run.toml is not UTF-8, from byte 0 on"),
        ("run.yaml", b"model: \0", "run.yaml: unacceptable character #x0000"),
        ("run.yaml", b"model: !!python/object/apply:os.getcwd []", "could not determine a"),
        ("run.yaml", b"[" * 3000, "values are nested too deeply"),
        ("run.yaml", None, "is no file, but a folder"),
        ("run.json", b"{}", "must end in one of .yaml, .yml, .toml"),
    ],
)
@pytest.mark.parametrize("flags", [[], ["--dry-run"]])
def test_files_that_are_no_run_get_one_line(capsys, tmp_path, name, content, message, flags):
    path = tmp_path / name
    path.mkdir() if content is None else path.write_bytes(content)
    assert message in mistake(capsys, path, "--out", tmp_path / "out", *flags)
    assert not (tmp_path / "out").exists()


def test_a_folder_in_use(capsys, tmp_path):
    with RunFolder(tmp_path / "out").locked():
        error = mistake(capsys, *SMALL, "--out", tmp_path / "out")
    assert "is writing to" in error


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_says_how_to_go_on(capsys, tmp_path, monkeypatch):
    original = Worker.evaluate

    def evaluate(self, chunk, through=None):
        if chunk == 1:
            signal.raise_signal(signal.SIGINT)
        return original(self, chunk, through)

    monkeypatch.setattr(Worker, "evaluate", evaluate)
    code, out, err = command(capsys, *SMALL, "--out", tmp_path / "out")
    *lines, last = err.splitlines()
    assert (code, out) == (130, "")
    assert untimed("\n".join(lines)) == [
        f"benchmark: chunk 1 of 2, {method}" for method in ("NIB", "Random")
    ]
    assert "interrupted; what was done is in" in last and "the same command goes on" in last
    monkeypatch.undo()
    code, out, err = command(capsys, *SMALL, "--out", tmp_path / "out")
    assert code == 0 and "3 samples (2 were there already)" in out


def test_help(capsys):
    code, text, _ = command(capsys, "--help")
    assert code == 0
    assert all(flag in text for flag in ("--preset", "--dry-run", "--seeds", "--out"))
