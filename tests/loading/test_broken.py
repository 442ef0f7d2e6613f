"""Broken folders: one line that says what is wrong, before memory or time is spent."""

from __future__ import annotations

import json
import resource
import shutil
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from captum_ib.loading.load import load
from captum_ib.loading.loaded import FolderError
from captum_ib.zoo.loading import WEIGHTS
from tests.loading.bombs import copied, edit

NESTED = "[" * 100_000 + "]" * 100_000


def refused(folder, message, **options):
    """Loading fails, with one line that says why, and takes no memory worth speaking of."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(FolderError, match=message) as caught:
        load(str(folder), **options)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 3000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


@pytest.mark.parametrize("kind", ["clip_folder", "vit_folder"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"5", r"config.json must hold a JSON object \({…}\), but holds int"),
        (b"null", "must hold a JSON object .* but holds NoneType"),
        (b"[]", "but holds list"),
        (b'"text"', "but holds str"),
        (b"", "is not valid JSON"),
        (b'{"a":', "is not valid JSON"),
        (NESTED.encode(), "is nested too deep|is not valid JSON"),
        (b'{"model_type": "clip", "a": NaN}', "NaN is no number in JSON"),
        (b'{"constructor": "x", "a": -Infinity}', "-Infinity is no number in JSON"),
        (b'{"constructor": "x", "a": 1' + b"0" * 10_000 + b"}", "is not valid JSON"),
        (b"\xff\xfe\x00{", "is not valid JSON: 'utf-8' codec"),
        (b"{" + b" " * 2**23 + b"}", "has more than 8388608 bytes"),
        (b"{}", "says neither model_type .* nor architecture or constructor"),
        (None, "config.json is missing or no regular file"),
    ],
    ids=lambda found: repr(found)[:24],
)
def test_configurations_that_are_none(request, tmp_path, kind, content, message):
    folder = copied(request.getfixturevalue(kind), tmp_path)
    (folder / "config.json").unlink()
    if content is None:
        (folder / "config.json").mkdir()
    else:
        (folder / "config.json").write_bytes(content)
    refused(folder, message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"std": [0, 0, 0]}, "std must hold positive numbers: .* given .0.0, 0.0, 0.0"),
        ({"std": [0.5, -0.5, 0.5]}, "std must hold positive numbers"),
        ({"std": 0.5}, "std must hold one number per colour channel, given 0.5"),
        ({"std": ["a"] * 3}, "std can't be"),
        ({"mean": [1e300] * 3}, "mean can't be"),
        ({"kwargs__depth": 10**9}, "depth can't be 1000000000"),
        ({"kwargs__depth": 10**6}, "describes no model .*: a row of 1000000 numbers"),
        ({"kwargs__embed_dim": 10**9}, "embed_dim can't be"),
        ({"kwargs__embed_dim": 10**6}, r"of [\d,]+ numbers, too large for weights of [\d,]+ bytes"),
        ({"kwargs__num_classes": 10**6}, "too large for weights"),
        ({"kwargs__embed_dim": -16}, "embed_dim can't be -16"),
        ({"kwargs__embed_dim": 0}, "describes no model that can be built"),
        ({"kwargs__num_heads": 0}, "describes no model that can be built: ZeroDivisionError"),
        ({"kwargs__num_heads": 3}, "describes no model that can be built"),
        ({"kwargs__img_size": 10**5}, "img_size can't be"),
        ({"kwargs__depth": 9999}, r"describes a model of more than [\d,]+ modules, too large for"),
        ({"kwargs__img_size": 2048}, r"pos_embed \(1, 17, 16\) for \(1, 65537, 16\) misshaped"),
        ({"kwargs__patch_size": 0}, "patch_size can't be"),
        ({"kwargs__reg_tokens": 10**6}, "too large for weights"),
        ({"kwargs__depth": 2.5}, "depth can't be 2.5"),
        ({"kwargs__depth": True}, "depth can't be True"),
        ({"kwargs__depth": [4]}, "depth can't be"),
        ({"kwargs": 5}, "kwargs can't be 5"),
        ({"kwargs__window_size": 2}, "VisionTransformer takes no window_size"),
        ({"label_names": ["a"]}, "1 labels for 3 classes"),
        ({"label_names": 5}, "label_names can't be 5"),
        ({"label_names": [5, 6, 7]}, "label_names can't be"),
        ({"label_names": ["a", "b", "c"], "label_descriptions": {"a": "x"}}, "has none for 'b'"),
        ({"pretrained_cfg": {"input_size": [3, 10**6, 10**6]}}, "input_size can't be"),
        ({"pretrained_cfg": {"input_size": [3, 32]}}, "input_size can't be"),
        ({"pretrained_cfg": {"crop_pct": 1e-9}}, "crop_pct can't be"),
        ({"pretrained_cfg": {"crop_pct": 0.1}}, "crop_pct can't be"),  # 2048 / 0.1 pixels
        ({"pretrained_cfg": {"std": [0, 0, 0]}}, "std must hold positive numbers"),
        ({"pretrained_cfg": {"interpolation": "../x"}}, "interpolation can't be"),
    ],
    ids=str,
)
def test_what_a_timm_folder_can_not_mean(vit_folder, tmp_path, changes, message):
    folder = copied(vit_folder, tmp_path)
    edit(folder, "config.json", **changes)
    refused(folder, message)


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("config.json", {"text_config__num_hidden_layers": 10**9}, "num_hidden_layers can't be"),
        (
            "config.json",
            {"text_config__num_hidden_layers": 10**6},
            r"more than [\d,]+ modules, too large for",
        ),
        ("config.json", {"vision_config__hidden_size": 10**9}, "hidden_size can't be"),
        ("config.json", {"vision_config__hidden_size": 10**6}, "too large for weights"),
        ("config.json", {"text_config__vocab_size": 10**6}, "too large for weights"),
        ("config.json", {"vision_config__image_size": 10**6}, "image_size can't be"),
        ("config.json", {"text_config__hidden_size": -16}, "describes no model|no configuration"),
        ("config.json", {"text_config__hidden_size": "16"}, "hidden_size can't be '16'"),
        ("config.json", {"text_config": 5}, "text_config can't be 5"),
        ("config.json", {"vision_config__patch_size": 0}, "patch_size can't be 0"),
        ("preprocessor_config.json", {"image_std": [0, 0, 0]}, "std must hold positive numbers"),
        ("preprocessor_config.json", {"size": {"shortest_edge": 10**9}}, "size can't be"),
        ("preprocessor_config.json", {"size": {"shortest_edge": -1}}, "size can't be"),
        ("preprocessor_config.json", {"crop_size": {"height": 1e99}}, "crop_size can't be"),
        ("preprocessor_config.json", {"resample": 99}, "resample can't be"),
        ("preprocessor_config.json", {"crop_pct": 0.1}, "crop_pct can't be"),
        ("tokenizer_config.json", {"model_max_length": "x"}, "model_max_length can't be"),
    ],
    ids=lambda found: str(found) if isinstance(found, dict) else "",
)
def test_what_a_transformers_folder_can_not_mean(clip_folder, tmp_path, file, changes, message):
    folder = copied(clip_folder, tmp_path)
    edit(folder, file, **changes)
    refused(folder, message)


@pytest.mark.parametrize("name", ["preprocessor_config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", ["5", "null", "[]", "{", NESTED])
def test_other_files_that_are_no_json(clip_folder, tmp_path, name, content):
    folder = copied(clip_folder, tmp_path)
    (folder / name).write_text(content)
    refused(folder, f"{name} (must hold|is not valid|is nested)")


def test_tokenizers_that_are_broken(clip_folder, tmp_path):
    folder = copied(clip_folder, tmp_path)
    (folder / "tokenizer.json").write_text("5")
    refused(folder, "has no tokenizer that can be read")


def test_a_link_to_itself(vit_folder, tmp_path):
    folder = copied(vit_folder, tmp_path)
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("config.json")
    refused(folder, "config.json (is a link that leads nowhere|is missing or no regular file)")


def header(entries):
    """A safetensors file of a header alone."""
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text


HUGE = {"head.weight": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}}


@pytest.mark.parametrize("kind", ["clip_folder", "vit_folder"])
@pytest.mark.parametrize(
    "content",
    [b"", b"\x00" * 8, b"not safetensors", struct.pack("<Q", 2**60), header(HUGE), b"cut", b"{}"],
    ids=["empty", "zeros", "text", "long header", "huge", "cut", "no tensors"],
)
def test_weights_that_are_none(request, tmp_path, kind, content):
    folder = copied(request.getfixturevalue(kind), tmp_path)
    file = folder / "model.safetensors"
    if content == b"cut":
        content = file.read_bytes()[:-100]
    elif content == b"{}":
        content = header({})
    file.write_bytes(content)
    refused(folder, "model.safetensors (can't be read|holds no tensors)|too large for weights")


def spoilt(folder, change):
    """Rewrite the weights of a folder."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


KEY = {"clip_folder": "visual_projection.weight", "vit_folder": "head.weight"}
OTHER = {"clip_folder": "logit_scale", "vit_folder": "head.bias"}


@pytest.mark.parametrize("kind", ["clip_folder", "vit_folder"])
def test_weights_are_those_of_the_model_all_of_them(request, tmp_path, kind):
    key, other = KEY[kind], OTHER[kind]
    for change, message in (
        (lambda weights: weights.pop(key), f"does not fit .*: {key} missing"),
        (lambda weights: weights.update(x=torch.zeros(1)), "x unknown to the model"),
        (
            lambda weights: weights.update({key: weights[key][:2].clone()}),
            rf"{key} \(2, 16\) for \(\d+, 16\) misshaped",
        ),
        (
            lambda weights: [weights.pop(name) for name in list(weights) if name != other],
            r"\w+, [\w.]+, [\w.]+ and \d+ more missing",
        ),
        (
            lambda weights: weights.update({key: weights[key].to(torch.int8)}),
            f"no real numbers for {key}: quantised",
        ),
        (
            lambda weights: weights.update({key: weights[key].to(torch.float8_e4m3fn)}),
            f"no real numbers for {key}: quantised",
        ),
        (lambda weights: (weights.clear(), weights.update(x=torch.zeros(1))), "and .* more miss"),
    ):
        folder = copied(request.getfixturevalue(kind), tmp_path)
        spoilt(folder, change)
        refused(folder, message)
        shutil.rmtree(folder)


@pytest.mark.parametrize("kind", ["clip_folder", "vit_folder"])
def test_tables_that_older_versions_wrote_are_left_out_and_named(request, tmp_path, kind):
    folder = copied(request.getfixturevalue(kind), tmp_path)
    clean = load(str(folder)).model.state_dict()
    extra = {"extra.relative_position_index": torch.arange(4)}
    spoilt(folder, lambda weights: weights.update(extra))
    loaded = load(str(folder))
    assert loaded.left_out == tuple(extra)
    found = loaded.model.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in clean.items())


@pytest.mark.parametrize("kind", ["clip_folder", "vit_folder"])
def test_a_loaded_model_does_not_change_with_its_file(request, tmp_path, kind):
    folder = copied(request.getfixturevalue(kind), tmp_path)
    model = load(str(folder)).model
    file = folder / "model.safetensors"
    with file.open("r+b") as spoilt_file:
        spoilt_file.seek(-16, 2)
        spoilt_file.write(b"\xff" * 16)
        spoilt_file.seek(file.stat().st_size // 2)
        spoilt_file.write(b"\xff" * 1000)
    weights = load_file(request.getfixturevalue(kind) / "model.safetensors")
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_random_weights_are_bounded_too(vit_folder, tmp_path):
    folder = copied(vit_folder, tmp_path)
    edit(folder, "config.json", kwargs__embed_dim=10**6, kwargs__num_heads=1)
    refused(folder, "numbers, too large for random weights", pretrained=False)


def test_words_that_the_model_lacks(clip_folder, tmp_path):
    folder = copied(clip_folder, tmp_path)
    file = folder / "tokenizer.json"
    found = json.loads(file.read_text())
    found["model"]["vocab"]["unknown"] = 9
    file.write_text(json.dumps(found))
    loaded = load(str(folder))
    with pytest.raises(ValueError, match="gives the text word 9, but the model has 9; they do not"):
        loaded.tokenizer(["unknown"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("5", "must hold a JSON list of words"),
        (NESTED, "is no list of words: RecursionError|no list of words"),
        (json.dumps(["<pad>", "<bos>", *["a"] * 300_000, "<eos>"]), "given more than once"),
        (json.dumps(["<pad>", "<bos>", *map(str, range(99)), "<eos>"]), "has 102 words, but the"),
        (json.dumps(["x" * 2**23]), "has more than 8388608 bytes"),
    ],
    ids=["number", "nested", "twice", "many", "large"],
)
def test_lists_of_words_that_are_broken(tmp_path, words, message):
    folder = copied(WEIGHTS / "clip-scenes", tmp_path)
    (folder / "words.json").write_text(words)
    refused(folder, message)
