"""What a run may say, and how each mistake is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Optional

import pytest

from captum_ib import methods
from captum_ib.benchmark import (
    ConfigError,
    DataConfig,
    MethodConfig,
    MetricConfig,
    RunConfig,
    settings,
)
from captum_ib.benchmark.catalogue import DATA, METRICS
from captum_ib.benchmark.checks import plain

PLAIN = {
    "model": "zoo:vit-scenes",
    "data": {"kind": "scenes", "options": {"seed": 7, "objects": [1, 2]}},
    "methods": ["coiba", {"method": "iba", "label": "IBA*", "settings": {"layer": ["blocks.1"]}}],
    "metrics": ["insertion", {"metric": "iou", "settings": {"quantile": 0.9}}],
    "samples": 4,
}

FINGERPRINT = "5e2dc00a1225795ee10713591cc44a40091ab4e81e0495aa9fae733a947f47ca"


def run(**changes):
    return RunConfig.from_dict({**PLAIN, **changes})


def test_defaults_and_short_forms():
    config = run()
    assert [(line.method, line.label) for line in config.methods] == [
        ("coiba", "CoIBA"),
        ("iba", "IBA*"),
    ]
    assert [(column.metric, column.label) for column in config.metrics] == [
        ("insertion", "insertion"),
        ("iou", "iou"),
    ]
    assert config.methods[1].settings == {"layer": ("blocks.1",)}
    assert (config.seeds, config.batch_size, config.device) == ((0,), 8, "cpu")
    assert (config.dtype, config.title) == ("float32", "")


def test_to_dict_and_back():
    config = run(seeds=[3, 1], title="a run", samples=9, dtype="bfloat16", device="cuda:1")
    assert RunConfig.from_dict(config.to_dict()) == config
    assert config.to_dict()["methods"][1]["settings"] == {"layer": ["blocks.1"]}


def test_a_lone_seed_and_a_kind_alone():
    assert run(seeds=5).seeds == (5,)
    assert run(data="scenes").data.options == {}


@pytest.mark.parametrize("change", [{"title": "x"}, {"device": "cuda"}, {"batch_size": 1}])
def test_the_fingerprint_ignores_what_changes_no_number(change):
    assert run(**change).fingerprint() == run().fingerprint()


@pytest.mark.parametrize(
    "change",
    [
        {"model": "zoo:clip-scenes", "methods": ["m2ib"], "metrics": ["drop_text"]},
        {"data": {"kind": "scenes", "options": {"seed": 8}}},
        {"methods": ["coiba"]},
        {"metrics": ["insertion"]},
        {"seeds": [1]},
        {"samples": 5},
        {"dtype": "float16"},
    ],
)
def test_the_fingerprint_knows_what_changes_numbers(change):
    assert run(**change).fingerprint() != run().fingerprint()


def test_the_fingerprint_is_fixed():
    # A folder of results written by one version is continued by the next: this must not move.
    assert run().fingerprint() == FINGERPRINT


def test_whole_numbers_and_the_same_numbers_with_a_point_are_one_run():
    def with_beta(beta):
        return run(methods=[{"method": "coiba", "settings": {"beta": beta}}])

    assert with_beta(2).fingerprint() == with_beta(2.0).fingerprint()
    assert with_beta(2).fingerprint() != with_beta(2.5).fingerprint()


@pytest.mark.parametrize(
    ("change", "where", "message"),
    [
        ({"metods": []}, (), "the run has no key 'metods'; did you mean 'methods'?"),
        ({"model": 3}, ("model",), "model should be a valid string, given 3"),
        ({"model": " "}, ("model",), "model should have at least 1 character, given ' '"),
        ({"data": "scene"}, ("data", "kind"), "data.kind is 'scene', .*; did you mean 'scenes'?"),
        ({"data": {}}, ("data",), "data lacks 'kind'"),
        ({"data": {"knd": "scenes"}}, ("data",), "data has no key 'knd'; did you mean 'kind'?"),
        ({"data": {"kind": "folder"}}, ("data",), "lacks 'path': the folder that holds one"),
        ({"data": {"kind": "folder", "path": ""}}, ("data", "path"), "at least 1 character"),
        ({"data": {"kind": "coco", "path": "x"}}, ("data",), "needs the option annotations"),
        ({"data": {"kind": "scenes", "path": "x"}}, ("data", "path"), "they have no path"),
        (
            {"data": {"kind": "scenes", "options": {"sed": 1}}},
            ("data", "options"),
            "data.options has 'sed', which is no setting of data of .*; did you mean 'seed'?",
        ),
        (
            {"data": {"kind": "scenes", "options": {"objects": [1, 2, 3]}}},
            ("data", "options", "objects"),
            r"data.options.objects should be tuple\[int, int\], given \(1, 2, 3\)",
        ),
        ({"methods": []}, ("methods",), r"methods should have at least 1 item .*, given \(\)"),
        ({"methods": "coiba"}, ("methods",), "methods should be a valid tuple, given 'coiba'"),
        ({"methods": [4]}, ("methods", 0), r"methods\[0\] should be a dictionary .*, given 4"),
        ({"methods": ["coibaa"]}, ("methods", 0, "method"), "is 'coibaa', .*you mean 'coiba'?"),
        ({"methods": [{"metod": "iba"}]}, ("methods", 0), r"methods\[0\] has no key 'metod'; did"),
        ({"methods": [{"label": "x"}]}, ("methods", 0), r"methods\[0\] lacks 'method'"),
        (
            {"methods": [{"method": 1}]},
            ("methods", 0, "method"),
            "should be a valid string, given 1",
        ),
        ({"methods": [{"method": "iba", "label": 1}]}, ("methods", 0, "label"), "valid string"),
        (
            {"methods": ["iba", {"method": "iba", "settings": {"beta": 1}}]},
            ("methods", 1),
            r"methods\[1\] has the label 'IBA', which is there twice; give each a label of its own",
        ),
        (
            {"methods": [{"method": "iba", "settings": {"betta": 1}}]},
            ("methods", 0, "settings"),
            r"methods\[0\].settings has 'betta', which is no setting of iba; did you mean 'beta'?",
        ),
        (
            {"methods": [{"method": "iba", "settings": {"beta": "1"}}]},
            ("methods", 0, "settings", "beta"),
            r"methods\[0\].settings.beta should be float, given '1'",
        ),
        (
            {"methods": [{"method": "iba", "settings": {"beta": float("nan")}}]},
            ("methods", 0, "settings", "beta"),
            "should be a finite number, .* given nan",
        ),
        (
            {"methods": [{"method": "coiba", "settings": {"damping": "shard"}}]},
            ("methods", 0, "settings", "damping"),
            "should be Literal.'shared', 'individual'., given 'shard'",
        ),
        (
            {"methods": [{"method": "iba", "settings": {"seed": 1}}]},
            ("methods", 0, "settings"),
            "has 'seed', which is no setting here: it comes from the run's seeds",
        ),
        (
            {"methods": [{"method": "random", "settings": {"p": 1}}]},
            ("methods", 0, "settings"),
            "has 'p', which is no setting of random; there are none",
        ),
        ({"methods": ["random", "qqq"]}, ("methods", 1, "method"), "is 'qqq', .* known: iba, co"),
        ({"metrics": ["insertoin"]}, ("metrics", 0, "metric"), "did you mean 'insertion'?"),
        (
            {"metrics": [{"metric": "insertion", "settings": {"steps": True}}]},
            ("metrics", 0, "settings", "steps"),
            "should be int, given True",
        ),
        ({"metrics": ["iou", "iou"]}, ("metrics", 1), "has the label 'iou', which is there twice"),
        ({"seeds": []}, ("seeds",), "seeds should have at least 1 item"),
        ({"seeds": [0, 1, 0]}, ("seeds", 2), r"seeds\[2\] is 0, which is there twice"),
        (
            {"seeds": [-1]},
            ("seeds", 0),
            r"seeds\[0\] should be greater than or equal to 0, given -1",
        ),
        ({"seeds": 2**63}, ("seeds", 0), "should be less than or equal to 9223372036854775807"),
        ({"seeds": [True]}, ("seeds", 0), "should be a valid integer, given True"),
        ({"seeds": 1.0}, ("seeds", 0), "should be a valid integer, given 1.0"),
        ({"samples": 0}, ("samples",), "samples should be greater than or equal to 1, given 0"),
        ({"samples": "four"}, ("samples",), "samples should be a valid integer, given 'four'"),
        ({"samples": {1, 2}}, ("samples",), "should be a finite number, text, .* given {1, 2}"),
        ({"samples": None}, (), "the run lacks 'samples': scenes never end, say how many"),
        ({"batch_size": 0}, ("batch_size",), "batch_size should be greater than or equal to 1"),
        ({"device": "gpu"}, ("device",), "should match pattern .*cpu|cuda.*, given 'gpu'"),
        (
            {"dtype": "flot16"},
            ("dtype",),
            "dtype is 'flot16', which is none of its values; did you mean 'float16'?",
        ),
        ({"dtype": 16}, ("dtype",), "dtype should be 'float32', 'bfloat16' or 'float16', given 16"),
        ({"title": "a/b"}, ("title",), "names a folder, so it can't be 'a/b'"),
        ({"title": ".."}, ("title",), "names a folder"),
        ({"title": 1}, ("title",), "title should be a valid string, given 1"),
    ],
)
def test_mistakes(change, where, message):
    with pytest.raises(ConfigError, match=message) as caught:
        run(**change)
    assert caught.value.where == where


@pytest.mark.parametrize("missing", ["model", "data", "methods", "metrics"])
def test_what_a_run_can_not_do_without(missing):
    values = {key: value for key, value in PLAIN.items() if key != missing}
    with pytest.raises(ConfigError, match=f"the run lacks '{missing}'"):
        RunConfig.from_dict(values)


@pytest.mark.parametrize("given", [None, [], "x", 3])
def test_a_run_is_a_table(given):
    with pytest.raises(ConfigError, match="the run should be a dictionary .*, given"):
        RunConfig.from_dict(given)


def test_keys_are_text():
    with pytest.raises(ConfigError, match="the run has a key that is no text: 3"):
        RunConfig.from_dict({3: 4})


def test_parts_made_in_code_are_checked_too():
    with pytest.raises(ValueError, match="which is no setting of iba; did you mean 'beta'"):
        MethodConfig("iba", "IBA", {"betta": 1})
    with pytest.raises(ValueError, match="is 'iuo', .*; did you mean 'iou'?"):
        MetricConfig("iuo", "IoU")
    with pytest.raises(ValueError, match="batch_size"):
        replace(run(), batch_size=0)
    assert DataConfig("scenes", None, {"objects": [1, 2]}).options == {"objects": (1, 2)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"methods": ["m2ib"]},
            "is m2ib, which does not explain zoo:vit-scenes, a classifier; these do: iba",
        ),
        (
            {"metrics": ["word_auc"]},
            "is word_auc, which does not judge zoo:vit-scenes, a classifier; these do: insertion",
        ),
        (
            {"model": "clip-scenes"},
            "is coiba, which does not explain clip-scenes, a dual encoder; these do: m2ib",
        ),
        (
            {"metrics": ["funnybirds"]},
            "is funnybirds, which needs data of that kind, given 'scenes'",
        ),
        (
            {"data": {"kind": "folder", "path": "x"}, "metrics": ["pointing_game"]},
            "is pointing_game, which needs a mask per sample; data of kind 'folder' has none",
        ),
    ],
)
def test_parts_that_do_not_fit(change, message):
    with pytest.raises(ConfigError, match=message):
        run(**change)


def test_other_models_are_judged_when_they_are_loaded():
    config = run(model="hf:some/clip", methods=["m2ib", "iba"])
    assert [line.method for line in config.methods] == ["m2ib", "iba"]


def test_names_in_any_case():
    assert run(methods=["CoIBA", "Random"]).methods[1].method == "random"


@pytest.mark.parametrize("name", [*methods.METHODS, "random"])
def test_every_method_takes_no_settings(name):
    assert MethodConfig(name, "x").settings == {}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("iba", {"layer": "blocks.2", "smoothing": None, "mask_inactive": "auto"}),
        ("coiba", {"layers": ["blocks.2.norm1", "blocks.3.norm1"], "beta": [1, 0.5]}),
        ("m2ib", {"layers": [["a", "b"], None], "beta": [0.1, 1], "prior": "estimated"}),
        ("cam2ib", {"residual": [True, False], "keys": "tokens"}),
        ("nib", {"layer": "blocks.1", "baselines": 0.5, "method": "gausslegendre"}),
        ("gradcam", {"layer": "layer4", "relu_attributions": True}),
        ("ig", {"n_steps": 8, "multiply_by_inputs": False, "baselines": 0}),
        ("rise", {"n_masks": 100, "grid": 4, "score": "output"}),
        ("mfaba", {"direction": "smooth", "step_size": None}),
    ],
)
def test_settings_that_methods_take(name, settings):
    assert list(MethodConfig(name, "x", settings).settings) == list(settings)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("iba", {"layers": "blocks.2"}),  # it is called layer there
        ("iba", {"layout": None}),  # no file can say a layout
        ("iba", {"objective": "x"}),
        ("iba", {"forward_func": "x"}),
        ("iba", {"inputs": 1}),
        ("ig", {"layer": "blocks.2"}),
        ("gradcam", {"layer": ["a", "b"]}),
        ("gradcam", {"attr_dim_summation": False}),
        ("m2ib", {"beta": [0.1, 0.2, 0.3]}),
        ("rise", {"n_masks": 10.5}),
        ("nib", {"return_convergence_delta": True}),
        ("rise", {"baselines": "black"}),
    ],
)
def test_settings_that_methods_do_not_take(name, settings):
    with pytest.raises(ConfigError, match=r"settings(\.\w+)? (has '\w+', which is no|should be)"):
        run(methods=[{"method": name, "settings": settings}])


@pytest.mark.parametrize("given", [{1, 2}, object(), b"x"])
def test_values_that_no_file_can_say(given):
    with pytest.raises(ConfigError, match="should be a finite number, text, true, false, null"):
        run(methods=[{"method": "iba", "settings": {"beta": given}}])


def test_the_catalogue_names_itself():
    assert all(name == entry.name for name, entry in METRICS.items())
    assert all(name == kind.name for name, kind in DATA.items())


def test_types_that_only_a_checker_sees():
    def method(self, inputs, layout: Unseen | None = None, steps: int = 3):  # noqa: F821
        raise NotImplementedError

    hints = settings._hints(method)
    assert hints["steps"] is int and hints["layout"] == Optional[Any]  # noqa: UP045 - Any | None needs Python 3.11


def test_tables_are_plain_values_too():
    assert plain({"a": [1, {"b": None}]}) == {"a": (1, {"b": None})}
    with pytest.raises(ConfigError, match="x.a should be a finite number"):
        plain({"a": float("inf")}, ("x",))
