"""Files that describe runs: both formats say the same, and every mistake is told with its place."""

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
)
from captum_ib.benchmark.config_files import read_yaml

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
    ("old", "new", "message"),
    [
        ("samples: 4", "sample: 4", "the run has no key 'sample'; did you mean 'samples'?"),
        ("samples: 4", "samples: four", "samples should be a valid integer, given 'four'"),
        ("samples: 4", "samples: .nan", "samples should be a finite number, .*, given nan"),
        ("samples: 4\n", "", "the run lacks 'samples': scenes never end"),
        ("{seed: 7}", "{sed: 7}", "data.options has 'sed', .*; did you mean 'seed'?"),
        ("[0, 1]", "[0,\n 0]", r"seeds\[1\] is 0, which is there twice"),
        ("- coiba", "- coibaa", r"methods\[0\].method is 'coibaa', .*; did you mean 'coiba'?"),
        ("- method:", "- metod:", r"methods\[1\] has no key 'metod'; did you mean 'method'?"),
        ("lr: 1e-1", "lr: x", r"methods\[1\].settings.lr should be float, given 'x'"),
        ("lr: 1e-1", "lr: .inf", "should be a finite number, .*, given inf"),
        ("lr: 1e-1", "layer: x", r"key 'layer' is there twice \(line 13\)"),
        ("samples: 4", "samples: 4\nmodel: x", r"'model' is there twice \(line 7\)"),
        ("quantile: 0.9", "quantil: 0.9", "did you mean 'quantile'?"),
        ("kind: scenes", "kind: {}", r"data.kind should be 'scenes', .* or 'funnybirds', given {}"),
        ("samples: 4", "3: 4", "the run has a key that is no text: 3"),
        ("samples: 4", "samples: [4", r"while parsing a flow sequence.* \(line 7\)"),
        ("samples: 4", "samples: 2026-01-01", r"samples .* given datetime.date\(2026, 1, 1\)"),
        ("samples: 4", "seeds: !!set {1, 2}", r"seeds should be a finite .*, given {1, 2}"),
        ("samples: 4", "? [1]\n: 4", r"found unhashable key \(line 6\)"),
        ("lr: 1e-1", "lr: 1e-1[", r"should be float, given '1e-1\['"),
        ("samples: 4", "samples: &a [*a]", r"stands for something that it is part of \(line 6\)"),
        ("samples: 4", "samples: " + "9" * 5000, "Exceeds the limit"),
    ],
)
def test_mistakes_in_yaml(tmp_path, old, new, message):
    text = YAML.replace("seeds: [0, 1]\n", "") if new.startswith("seeds:") else YAML
    assert text.count(old) == 1
    path = write(tmp_path, "run.yaml", text.replace(old, new))
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("samples = 4", "sample = 4", "the run has no key 'sample'; did you mean 'samples'?"),
        ("samples = 4", "samples = '4'", "samples should be a valid integer, given '4'"),
        ("samples = 4", "samples = nan", "samples should be a finite number, .*, given nan"),
        ("samples = 4", "samples = 4\nsamples = 5", r"Cannot overwrite a value \(at line 4"),
        ("samples = 4", "samples = ", r"Invalid value \(at line 3"),
        ("samples = 4", "samples = [4", "Unclosed array"),
        ("    1,\n", "    0,\n", r"seeds\[1\] is 0, which is there twice"),
        ("quantile", "quantil", r"metrics\[1\].settings has 'quantil', .*mean 'quantile'?"),
        ('method = "iba"', 'metod = "iba"', r"methods\[1\] has no key 'metod'"),
        ("lr = 0.1", 'lr = "x"', r"methods\[1\].settings.lr should be float, given 'x'"),
        ("lr = 0.1", "lr = 1979-05-27", r"given datetime.date\(1979, 5, 27\)"),
    ],
)
def test_mistakes_in_toml(tmp_path, old, new, message):
    assert TOML.count(old) == 1
    path = write(tmp_path, "run.toml", TOML.replace(old, new))
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    "bomb",
    [
        "!!python/object/apply:os.mkdir [BOMB]",
        "!!python/object/new:os.mkdir [BOMB]",
        "!!python/name:os.mkdir",
        "!!python/module:captum_ib",
        "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [BOMB]]",
    ],
)
def test_tags_that_would_run_code_run_none(tmp_path, bomb):
    made = tmp_path / "made"
    tagged = bomb.replace("BOMB", str(made))
    path = write(tmp_path, "run.yaml", YAML.replace("samples: 4", f"samples: {tagged}"))
    with pytest.raises(ConfigError, match=r"could not determine a constructor .* \(line 6\)"):
        load_config(path)
    assert not made.exists()


def test_aliases_and_merged_keys(tmp_path):
    text = YAML.replace("options: {seed: 7}", "options: &o {seed: 7}")
    text = text.replace("quantile: 0.9", "<<: &q {quantile: 0.9}")
    [run] = load_config(write(tmp_path, "run.yaml", text))
    assert run.metrics[1].settings == {"quantile": 0.9}


def billions(entry):
    """Twelve lines of aliases that stand for 10^12 values when they are written out."""
    lines = [f"a0: &a0 {entry.replace('ENTRIES', 'x: 1')}"]
    for level in range(1, 12):
        inner = entry.replace("ENTRIES", f"<<: [{', '.join([f'*a{level - 1}'] * 10)}]")
        lines.append(f"a{level}: &a{level} {inner}")
    return "\n".join(lines)


@pytest.mark.parametrize("entry", ["[{ENTRIES}]", "{ENTRIES}"])
def test_a_few_lines_that_say_billions(entry):
    with pytest.raises(ConfigError, match="aliases written out, it has more than 1048576 values"):
        read_yaml(billions(entry))


def test_a_long_text_many_times():
    aliases = ", ".join(["*a"] * 3000)
    with pytest.raises(ConfigError, match="aliases written out"):
        read_yaml(f"a: &a {'x' * 1000}\nb: [{aliases}]")


@pytest.mark.parametrize("name", ["run.yaml", "run.toml"])
def test_too_deep(tmp_path, name):
    text = "a" + (": " if name == "run.yaml" else " = ") + "[" * 5000 + "]" * 5000
    with pytest.raises(ConfigError, match=f"{name}: values are nested too deeply"):
        load_config(write(tmp_path, name, text))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file says nothing"),
        (b"# nothing\n", "the file says nothing"),
        (b"a: 1\n---\nb: 2\n", r"expected a single document.* \(line 2\)"),
        (b"a: 1\nb: \xff\n", "run.yaml is not UTF-8, from byte 8 on"),
        (b"a: 2026-02-99", "run.yaml: day "),
        (b"a: \x00", "special characters are not allowed"),
        (b"a\n", "run.yaml: the run should be a dictionary .*, given 'a'"),
        (b"a: " + b"x" * 2**21, "has 2 MiB: that is no description of a run"),
    ],
)
def test_files_that_are_no_description(tmp_path, content, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, "run.yaml", content))


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file; or a preset: .*paper-small"):
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
    ("text", "message"),
    [
        ("runs: []", r"runs should have at least 1 item .*, given \(\)"),
        ("runs: [{}]", r"runs\[0\] lacks 'model'"),
        ("runs: []\nmodel: x", "the run has no key 'model'; known: runs"),
        (several(YAML), r"runs\[0\] lacks 'title': each of several runs needs one"),
        (several("title: a\n" + YAML, "title: a\n" + YAML), r"runs\[1\].title is 'a', .* twice"),
        (
            several("title: a\n" + YAML.replace("coiba", "x")),
            r"runs\[0\].methods\[0\].method is 'x', which is none of its values; known: iba",
        ),
        (
            several("title: a\n" + YAML.replace("samples", "sample")),
            r"runs\[0\] has no key 'sample'; did you mean 'samples'?",
        ),
    ],
)
def test_mistakes_in_several_runs(tmp_path, text, message):
    path = write(tmp_path, "runs.yaml", text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}: ")


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


def test_without_pydantic_the_extra_is_named():
    # In a process of its own, where pydantic was not imported before.
    code = (
        "import sys; sys.modules['pydantic'] = None\n"
        "import captum_ib.benchmark as room\n"
        "try:\n    room.RunConfig\nexcept ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    mend = "describing a run needs the package pydantic: pip install 'captum_ib[benchmark]'"
    assert done.stdout.strip() == mend


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
        "heavy = {'torch', 'pyarrow', 'pydantic', 'yaml', 'ray', 'PIL'};"
        "print(sorted(heavy & set(sys.modules)))"
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
        (
            "- method: iba",
            "- metod: iba",
            "run.yaml: methods[1] has no key 'metod'; did you mean 'method'?",
        ),
        ("beta: 5", 'beta: "5"', "run.yaml: methods[1].settings.beta should be float, given '5'"),
    ):
        assert message in page
        with pytest.raises(ConfigError, match=re.escape(message)):
            load_config(write(tmp_path, "run.yaml", first.replace(old, new)))


def test_the_docs_describe_data(page):
    parts = re.findall(r"```yaml\n(data:.*?)```", page, re.DOTALL)
    kinds = []
    for part in parts:
        data = read_yaml(part)["data"]
        metrics = ["insertion", "drop_image"]
        values = {"model": "hf:x/y", "data": data, "methods": ["nib"], "metrics": metrics}
        kinds.append(RunConfig.from_dict(values).data.kind)
    assert kinds == ["folder", "table", "coco"]


def test_the_docs_list_all_metrics_and_kinds(page):
    from captum_ib.benchmark.catalogue import DATA, METRICS

    rows = "".join(line.split("|")[1] for line in page.splitlines() if line.startswith("|"))
    named = set(re.findall(r"`(\w+)`", rows))
    assert named >= {*METRICS, *DATA}
