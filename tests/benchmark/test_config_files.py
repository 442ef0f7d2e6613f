"""Files that describe runs: both formats say the same, and every mistake is told with its line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from captum_ib import extras
from captum_ib.benchmark import (
    PRESETS,
    ConfigError,
    RunConfig,
    config_files,
    load_config,
    preset,
    toml_marks,
    yaml_marks,
)
from captum_ib.benchmark.marks import FormatError

YAML = """\
# a run
model: zoo:vit-scenes
data:
  kind: scenes
  options: {seed: 7}
samples: 4
seeds: [0, 1]
methods:
  - coiba
  - method: iba
    settings:
      layer: blocks.1
      lr: 1e-1
metrics:
  - insertion
  - {metric: iou, settings: {quantile: 0.9}}
"""
TOML = """\
# a run
model = "zoo:vit-scenes"
samples = 4
seeds = [
    0,
    1,
]
metrics = ["insertion", {metric = "iou", settings = {quantile = 0.9}}]

[data]
kind = "scenes"
options.seed = 7

[[methods]]
method = "coiba"

[[methods]]
method = "iba"
[methods.settings]
layer = "blocks.1"
lr = 0.1
"""


def write(folder, name, text):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_both_formats_say_the_same(tmp_path):
    [one] = load_config(write(tmp_path, "run.yaml", YAML))
    [other] = load_config(write(tmp_path, "run.toml", TOML))
    assert one == other
    assert one.methods[1].settings == {"layer": "blocks.1", "lr": 0.1}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_line_ends_and_byte_order_marks(tmp_path, end, start):
    path = write(tmp_path, "run.yml", (start + YAML).replace("\n", end))
    assert load_config(path)[0].samples == 4
    path = write(tmp_path, "run.toml", (start + TOML).replace("\n", end))
    assert load_config(str(path))[0].samples == 4


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("samples: 4", "sample: 4", 6, "unknown key 'sample' in the run; did you mean 'samples'?"),
        (
            "samples: 4",
            "samples: four",
            6,
            r"samples must be a whole number, given 'four' \(text\)",
        ),
        ("samples: 4", "samples: .nan", 6, "samples must be a whole number, given nan"),
        ("samples: 4\n", "", 1, "scenes never end"),
        ("{seed: 7}", "{sed: 7}", 5, "has no setting 'sed'; did you mean 'seed'?"),
        ("[0, 1]", "[0,\n 0]", 8, r"seeds\[1\] is 0, which is there twice"),
        ("- coiba", "- coibaa", 9, "did you mean 'coiba'?"),
        (
            "- method:",
            "- metod:",
            10,
            r"unknown key 'metod' in methods\[1\]; did you mean 'method'?",
        ),
        ("lr: 1e-1", "lr: x", 13, r"methods\[1\].settings.lr must be a number, given 'x'"),
        ("lr: 1e-1", "lr: .inf", 13, "must be a finite number, given inf"),
        ("lr: 1e-1", "layer: x", 13, "key 'layer' is there twice, first on line 12"),
        ("quantile: 0.9", "quantil: 0.9", 16, "did you mean 'quantile'?"),
        ("kind: scenes", "kind: {}", 4, "data.kind must be one of scenes, folder"),
        ("samples: 4", "3: 4", 6, "keys of the run must be text, given 3"),
        ("samples: 4", "samples: [4", 7, "while parsing a flow sequence"),
        ("samples: 4", "samples: 2026-01-01", 6, r"given datetime.date\(2026, 1, 1\)"),
        (
            "samples: 4",
            "samples: !!python/object:os.system 4",
            6,
            "could not determine a constructor",
        ),
        ("samples: 4", "? [1]\n: 4", 6, "unhashable key"),
        ("lr: 1e-1", "lr: 1e-1[", 13, r"must be a number, given '1e-1\['"),
        ("samples: 4", "samples: &a [*a]", 6, "an alias stands for something that it is part of"),
    ],
)
def test_mistakes_in_yaml(tmp_path, old, new, line, message):
    assert YAML.count(old) == 1
    path = write(tmp_path, "run.yaml", YAML.replace(old, new))
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        (
            "samples = 4",
            "sample = 4",
            3,
            "unknown key 'sample' in the run; did you mean 'samples'?",
        ),
        ("samples = 4", "samples = '4'", 3, r"samples must be a whole number, given '4' \(text\)"),
        ("samples = 4", "samples = nan", 3, "samples must be a whole number, given nan"),
        ("samples = 4", "samples = 4\nsamples = 5", 4, "Cannot overwrite a value"),
        ("samples = 4", "samples = ", 3, "Invalid value"),
        ("samples = 4", "samples = [4", 4, "Unclosed array"),
        ("    1,\n", "    0,\n", 6, r"seeds\[1\] is 0, which is there twice"),
        ("quantile", "quantil", 8, "did you mean 'quantile'?"),
        ("options.seed", "options.sed", 12, "has no setting 'sed'"),
        ("options.seed = 7", "'options'. \"sed\" = 7", 12, "has no setting 'sed'"),
        ('method = "coiba"', 'method = "coibaa"', 15, "did you mean 'coiba'?"),
        ('method = "iba"', 'metod = "iba"', 18, r"unknown key 'metod' in methods\[1\]"),
        ("lr = 0.1", 'lr = "x"', 21, r"methods\[1\].settings.lr must be a number, given 'x'"),
        ("lr = 0.1", "lr = inf", 21, "must be a finite number, given inf"),
        ("lr = 0.1", 'x = """\n# ]\n"""\nlr = true', 21, "iba has no setting 'x'"),
        ("lr = 0.1", "beta = '''\n'''  # ]\n[[methods]]\nmethod = 1", 21, "settings.beta must be"),
        ("lr = 0.1", "[[methods]]  # [[no]]\nmethod = 1", 22, "methods.2..method must be one of"),
        ("lr = 0.1", "lr = 1979-05-27", 21, r"given datetime.date\(1979, 5, 27\)"),
    ],
)
def test_mistakes_in_toml(tmp_path, old, new, line, message):
    assert TOML.count(old) == 1
    path = write(tmp_path, "run.toml", TOML.replace(old, new))
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")


def test_every_line_of_toml():
    text = (
        '"a b" = {x = [1, {y = "]}"}], z.w = 2}\n'
        "c = [ # [\n"
        '  [1, 2], "#",\n'
        "  '''a\n''b''',\n"
        "  {d = 1979-05-27T07:32:00Z}\n"
        "]\n"
        "[ t . u ]\n"
        "k = 1\n"
        "[[l]]\n"
        "[[ l.m ]]\n"
        "n = 1e5\n"
        "[[l.m]]\n"
        "[[l]]\n"
        "[l.m.o]\n"
        "p = true"
    )
    marked = toml_marks.read(text)
    expected = {
        ("a b",): 1,
        ("a b", "x", 1, "y"): 1,
        ("a b", "z"): 1,
        ("a b", "z", "w"): 1,
        ("c", 0, 1): 3,
        ("c", 1): 3,
        ("c", 2): 4,
        ("c", 3, "d"): 6,
        ("t",): 8,
        ("t", "u"): 8,
        ("t", "u", "k"): 9,
        ("l", 0): 10,
        ("l",): 10,
        ("l", 0, "m"): 11,
        ("l", 0, "m", 0): 11,
        ("l", 0, "m", 0, "n"): 12,
        ("l", 0, "m", 1): 13,
        ("l", 1): 14,
        ("l", 1, "m", "o"): 15,
        ("l", 1, "m", "o", "p"): 16,
    }
    assert {where: marked.line(where) for where in expected} == expected
    for where in expected:  # the scanner's ways are those that lead to values
        value = marked.values
        for step in where:
            value = value[step]


def test_lines_of_what_is_not_there():
    marked = yaml_marks.read("a:\n  - b\n")
    assert marked.line(("a", 3)) == marked.line(("a", "x", "y")) == 1
    assert marked.line(("a", 0, "b")) == 2
    assert marked.line(("z",)) == marked.line(()) == 1


def test_aliases_and_merged_keys(tmp_path):
    text = YAML.replace("options: {seed: 7}", "options: &o {seed: 7}")
    text = text.replace("quantile: 0.9", "<<: &q {quantile: 0.9}")
    [run] = load_config(write(tmp_path, "run.yaml", text))
    assert run.metrics[1].settings == {"quantile": 0.9}


def test_a_few_lines_that_say_billions():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for level in range(1, 12):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]")
    with pytest.raises(FormatError, match="more than 100000 values"):
        yaml_marks.read("\n".join(lines))


@pytest.mark.parametrize("reader", [yaml_marks, toml_marks])
def test_too_deep(reader):
    text = "a" + (": " if reader is yaml_marks else " = ") + "[" * 5000 + "]" * 5000
    with pytest.raises(FormatError, match="nested too deeply"):
        reader.read(text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file says nothing"),
        (b"# nothing\n", "the file says nothing"),
        (b"a: 1\n---\nb: 2\n", "run.yaml:2: .*expected a single document"),
        (b"a: 1\nb: \xff\n", "run.yaml:2: the file is not UTF-8"),
        (b"a: 2026-02-99", "a value can't be read: day"),
        (b"a: \x00", "special characters are not allowed"),
        (b"a\n", "run.yaml:1: the run must be a table"),
        (b"a: " + b"x" * 2**21, "has 2 MiB: that is no description of a run"),
    ],
)
def test_files_that_are_no_description(tmp_path, content, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, "run.yaml", content))


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file; or a preset: paper-small"):
        load_config(tmp_path / "run.yaml")
    with pytest.raises(FileNotFoundError, match="is no file, but a folder"):
        load_config(tmp_path)
    with pytest.raises(ConfigError, match="must end in one of .yaml, .yml, .toml"):
        load_config(write(tmp_path, "run.json", "{}"))


def several(*runs):
    indented = ["\n".join("    " + line for line in run.splitlines()) for run in runs]
    return "runs:\n" + "\n".join("  -" + run[3:] for run in indented)


def test_several_runs(tmp_path):
    path = write(tmp_path, "runs.yaml", several("title: a\n" + YAML, "title: b\n" + YAML))
    assert [run.title for run in load_config(path)] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("runs: []", 1, "runs is empty"),
        ("runs: [{}]", 1, r"runs\[0\] lacks 'model'"),
        ("runs: []\nmodel: x", 2, "unknown key 'model' in the run; known: runs"),
        (several(YAML), 3, r"runs\[0\] lacks 'title'"),
        (several("title: a\n" + YAML, "title: a\n" + YAML), 19, "is 'a', which is there twice"),
        (
            several("title: a\n" + YAML.replace("coiba", "x")),
            11,
            r"runs\[0\].methods\[0\] is 'x', which is none of its values; known: iba",
        ),
    ],
)
def test_mistakes_in_several_runs(tmp_path, text, line, message):
    path = write(tmp_path, "runs.yaml", text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")


def test_relative_paths_start_at_the_file(tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    text = YAML.replace("zoo:vit-scenes", "./model").replace(
        "kind: scenes\n  options: {seed: 7}",
        "kind: coco\n  path: ../images\n  options: {annotations: a.json}",
    )
    path = write(home, "run.yaml", text)
    monkeypatch.chdir(tmp_path)
    [run] = load_config(os.path.relpath(path))
    assert run.data.path == str(tmp_path / "images")
    assert run.data.options == {"annotations": str(home / "a.json")}
    assert run.model == str(home / "model")
    [run] = load_config(write(home, "run.yaml", text.replace("../images", "/images")))
    assert run.data.path == "/images"


def test_a_missing_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    monkeypatch.setattr(extras, "import_module", _without_yaml)
    with pytest.raises(ImportError, match=r"reading YAML needs the package yaml: pip install 'cap"):
        load_config(write(tmp_path, "run.yaml", YAML))
    assert load_config(write(tmp_path, "run.toml", TOML))[0].samples == 4


def _without_yaml(name):
    if name == "yaml":
        raise ModuleNotFoundError("No module named 'yaml'", name="yaml")
    return __import__(name)


def test_a_package_that_lacks_something_itself(monkeypatch):
    def broken(name):
        raise ModuleNotFoundError("No module named 'libyaml'", name="libyaml")

    monkeypatch.setattr(extras, "import_module", broken)
    with pytest.raises(ModuleNotFoundError, match="libyaml") as caught:
        extras.need("yaml", "reading YAML")
    assert not isinstance(caught.value, extras.MissingExtraError)


def test_presets():
    assert "paper-small" in PRESETS
    for name in PRESETS:
        for run in preset(name):
            assert run.title
            assert run.model.startswith("zoo:")  # nothing to download
    with pytest.raises(ValueError, match="unknown preset 'paper'; .*paper-small"):
        preset("paper")


def test_importing_is_cheap():
    code = (
        "import sys, captum_ib, captum_ib.benchmark;"
        "print([n for n in ('torch', 'pyarrow', 'yaml', 'ray', 'PIL') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_the_package_offers():
    import captum_ib.benchmark as room

    assert set(room.__all__) <= set(dir(room))
    assert all(getattr(room, name) is not None for name in room.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = room.nothing
    assert config_files.PRESETS is room.PRESETS


@pytest.fixture(scope="module")
def page():
    return (Path(__file__).parents[2] / "docs" / "benchmark.md").read_text(encoding="utf-8")


def test_the_docs_describe_one_run_in_both_formats(tmp_path, page):
    [first, *_] = re.findall(r"```yaml\n(# run.yaml.*?)```", page, re.DOTALL)
    [second] = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    one = load_config(write(tmp_path, "run.yaml", first))
    assert one == load_config(write(tmp_path, "run.toml", second))
    for old, new, message in (
        ("- method: iba", "- metod: iba", "run.yaml:12: unknown key 'metod' in methods[1]; did"),
        ("beta: 5", 'beta: "5"', "run.yaml:16: methods[1].settings.beta must be a number, given"),
    ):
        assert message in page
        with pytest.raises(ConfigError, match=re.escape(message)):
            load_config(write(tmp_path, "run.yaml", first.replace(old, new)))


def test_the_docs_describe_data(page):
    parts = re.findall(r"```yaml\n(data:.*?)```", page, re.DOTALL)
    kinds = []
    for part in parts:
        data = yaml_marks.read(part).values["data"]
        metrics = ["insertion", "drop_image"]
        values = {"model": "hf:x/y", "data": data, "methods": ["nib"], "metrics": metrics}
        kinds.append(RunConfig.from_dict(values).data.kind)
    assert kinds == ["folder", "table", "coco"]


def test_the_docs_list_all_metrics_and_kinds(page):
    from captum_ib.benchmark.catalogue import DATA, METRICS

    rows = "".join(line.split("|")[1] for line in page.splitlines() if line.startswith("|"))
    named = set(re.findall(r"`(\w+)`", rows))
    assert named >= {*METRICS, *DATA}
