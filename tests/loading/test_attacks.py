"""A model's folder as a stranger would write it: nothing is executed, fetched or read elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from captum_ib.loading.load import load
from captum_ib.loading.loaded import FolderError
from tests.loading.bombs import Bomb, copied, edit, module_bomb, pickle_bomb


@pytest.fixture
def marker(tmp_path):
    """What a bomb would create; seen not to be there when the test ends."""
    path = tmp_path / "marker"
    yield path
    assert not path.exists(), "code that came with the folder was executed"


@pytest.fixture(scope="module")
def clean(clip_folder):
    """The weights of the folder as it was."""
    return load_file(clip_folder / "model.safetensors")


def test_the_bomb_works(tmp_path):
    pickle_bomb(tmp_path / "bomb.bin", tmp_path / "marker")
    torch.load(tmp_path / "bomb.bin", weights_only=False)
    assert (tmp_path / "marker").is_dir()


def refused(folder, message, **options):
    """Loading fails, with one line that says why."""
    with pytest.raises(FolderError, match=message) as caught:
        load(str(folder), **options)
    assert "\n" not in str(caught.value)


TIMM = {"architecture": "resnet18", "num_classes": 3}
WHERE = [
    {"checkpoint_path": "{bomb}"},
    {"pretrained": True, "pretrained_cfg": {"file": "{bomb}"}},
    {"pretrained_cfg_overlay": {"file": "{bomb}", "custom_load": True}},
    {"pretrained_strict": False},
    {"cache_dir": "{bomb}"},
    {"scriptable": True},
    {"exportable": True},
    {"features_only": True},
    {"norm_layer": "builtins.eval"},
    {"act_layer": "os.system"},
    {"global_pool": "{bomb}"},
    {"img_size": "{bomb}"},
    {"depth": {"$ref": "{bomb}"}},
]


@pytest.mark.parametrize("arguments", WHERE, ids=lambda found: next(iter(found)))
def test_arguments_of_timm_are_plain(vit_folder, tmp_path, marker, arguments):
    folder = copied(vit_folder, tmp_path)
    pickle_bomb(folder / "bomb.bin", marker)
    text = json.dumps(arguments).replace("{bomb}", str(folder / "bomb.bin"))
    for key in ("model_args", "kwargs"):
        config = {**TIMM, key: json.loads(text), "mean": [0.5] * 3, "std": [0.5] * 3}
        (folder / "config.json").write_text(json.dumps(config))
        refused(folder, f"config.json: {key}: ")
        refused(folder, f"config.json: {key}: ", pretrained=False)
        refused(folder, f"config.json: {key}: ", allow_pickle=True)


@pytest.mark.parametrize(
    "source",
    ["file", "url", "hf_hub_id", "custom_load", "state_dict", "hf_hub_filename", "source"],
)
def test_where_timm_takes_weights_from_is_not_the_folders_word(
    vit_folder, tmp_path, marker, source
):
    folder = copied(vit_folder, tmp_path)
    pickle_bomb(folder / "bomb.bin", marker)
    size = {"input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.25] * 3, "crop_pct": 1.0}
    edit(folder, "config.json", pretrained_cfg={**size, source: str(folder / "bomb.bin")})
    loaded = load(str(folder))
    assert source not in loaded.model.pretrained_cfg and loaded.image_size == (32, 32)
    weights = load_file(folder / "model.safetensors")
    assert torch.equal(loaded.model.head.weight, weights["head.weight"])


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "builtins.eval",
        "timm.models.create_model",
        "timm.models.load_checkpoint",
        "timm.models.vision_transformer.checkpoint_seq",
        "timm.models.vision_transformer.nn.Module",
        "hf-hub:some/model",
        "local-dir:{folder}",
        "../bomb",
        5,
        ["vision_transformer.VisionTransformer"],
        None,
    ],
    ids=str,
)
def test_constructors_come_from_a_list(vit_folder, tmp_path, marker, name):
    folder = copied(vit_folder, tmp_path)
    module_bomb(folder, marker)
    name = name.format(folder=folder) if isinstance(name, str) else name
    for key in ("constructor", "architecture"):
        edit(folder, "config.json", constructor=None)
        edit(folder, "config.json", **{key: name})
        refused(folder, f"config.json: ({key} can't be|.* is neither a model nor a class of timm)")


AUTO_MAP = {
    "AutoConfig": "bomb.Bomb",
    "AutoModel": "bomb.Bomb",
    "AutoModelForImageClassification": "bomb.Bomb",
    "AutoImageProcessor": "bomb.Bomb",
    "AutoProcessor": "bomb.Bomb",
    "AutoTokenizer": ["bomb.Bomb", "bomb.Bomb"],
}


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("config.json", {"auto_map": AUTO_MAP, "trust_remote_code": True}),
        ("config.json", {"text_config__auto_map": AUTO_MAP}),
        ("config.json", {"custom_pipelines": {"x": {"impl": "bomb.Bomb"}}}),
        ("config.json", {"_name_or_path": "{folder}/elsewhere"}),
        ("config.json", {"name_or_path": "some/model"}),
        ("config.json", {"attn_implementation": "some/kernels"}),
        ("config.json", {"_attn_implementation": "some/kernels"}),
        ("config.json", {"vision_config___attn_implementation": "some/kernels"}),
        ("config.json", {"_experts_implementation": "some/kernels"}),
        ("config.json", {"use_kernels": True, "kernel_config": {"Linear": "some/kernels:Linear"}}),
        ("config.json", {"transformers_weights": "bomb.bin"}),
        ("config.json", {"fusion_config": {"patch_embeddings": True}}),
        ("config.json", {"per_layer_config": {"0": {"hidden_act": "bomb"}}}),
        ("config.json", {"distributed_config": {"tp_plan": "auto"}}),
        ("config.json", {"use_timm_backbone": True, "backbone": "some/model"}),
        ("config.json", {"backbone_config": {"model_type": "timm_wrapper"}}),
        ("adapter_config.json", {"base_model_name_or_path": "some/model", "peft_type": "LORA"}),
        ("generation_config.json", {"auto_map": AUTO_MAP, "cache_implementation": "bomb"}),
        ("preprocessor_config.json", {"auto_map": AUTO_MAP, "processor_class": "Bomb"}),
        ("preprocessor_config.json", {"image_processor_filename": "/etc/passwd"}),
        ("processor_config.json", {"auto_map": AUTO_MAP, "processor_class": "Bomb"}),
        ("tokenizer_config.json", {"auto_map": AUTO_MAP}),
        ("tokenizer_config.json", {"tokenizer_file": "/etc/passwd"}),
        ("tokenizer_config.json", {"vocab_file": "/etc/passwd", "merges_file": "/etc/passwd"}),
        ("tokenizer_config.json", {"name_or_path": "some/model"}),
        ("tokenizer_config.json", {"chat_template": "{{ ''.__class__.__mro__ }}"}),
        ("tokenizer_config.json", {"sp_model_kwargs": {"model_file": "/etc/passwd"}}),
        ("tokenizer_config.json", {"init_inputs": ["/etc/passwd"]}),
        ("special_tokens_map.json", {"tokenizer_file": "/etc/passwd"}),
        ("tokenizer_config.json", {"extra_special_tokens": {"chat_template": "x"}}),
    ],
    ids=lambda found: next(iter(found)) if isinstance(found, dict) else found,
)
def test_what_could_lead_elsewhere_is_not_handed_on(
    clip_folder, clean, tmp_path, marker, file, changes
):
    folder = copied(clip_folder, tmp_path)
    module_bomb(folder, marker)
    pickle_bomb(folder / "bomb.bin", marker)
    pickle_bomb(folder / "adapter_model.bin", marker)
    edit(folder, file, **json.loads(json.dumps(changes).replace("{folder}", str(folder))))
    loaded = load(str(folder))
    given, found = clean, loaded.model.state_dict()
    assert given.keys() == found.keys()
    assert all(torch.equal(value, found[key]) for key, value in given.items())
    ids, _ = loaded.tokenizer(["a red circle"])
    assert ids.tolist() == [[1, 4, 5, 6, 2]]
    assert type(loaded.model).__module__.startswith("transformers.models.clip")
    assert not hasattr(loaded.model.config, "auto_map")
    assert loaded.tokenizer.tokenizer.chat_template is None


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("config.json", {"model_type": "timm_wrapper"}, "only image classifiers"),
        ("config.json", {"model_type": "bomb"}, "only image classifiers"),
        ("config.json", {"model_type": ["clip"]}, "model_type must be a word"),
        ("config.json", {"architectures": "CLIPModel"}, "architectures a list"),
        ("config.json", {"quantization_config": {"quant_method": "bomb"}}, "quantised weights"),
        ("config.json", {"text_config__hidden_act": "os.system"}, "hidden_act can't be"),
        ("config.json", {"vision_config__hidden_act": "some/kernels"}, "hidden_act can't be"),
        ("config.json", {"dtype": "bomb"}, "dtype can't be"),
        ("config.json", {"torch_dtype": "__import__"}, "torch_dtype can't be"),
        ("config.json", {"text_config": "some/model"}, "text_config can't be"),
        ("config.json", {"projection_dim": "/etc/passwd"}, "projection_dim can't be"),
        ("preprocessor_config.json", {"image_processor_type": "Bomb"}, "names no image processor"),
        ("preprocessor_config.json", {"image_processor_type": "pipeline"}, "names no image proc"),
        ("preprocessor_config.json", {"image_processor_type": "BaseImageProcessor"}, "names no"),
        ("preprocessor_config.json", {"image_processor_type": "TimmWrapperModel"}, "names no"),
        ("tokenizer_config.json", {"tokenizer_class": "Bomb"}, "tokenizer_class can't be"),
        ("tokenizer_config.json", {"tokenizer_class": "TransfoXLTokenizer"}, "can't be"),
        ("tokenizer_config.json", {"pad_token": {"content": "<pad>", "x": "y"}}, "can't be"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"0": "/x"}, "errors": "/x"}, "errors"),
    ],
    ids=lambda found: next(iter(found)) if isinstance(found, dict) else None,
)
def test_what_a_transformers_folder_may_not_say(
    clip_folder, tmp_path, marker, file, changes, message
):
    folder = copied(clip_folder, tmp_path)
    module_bomb(folder, marker)
    edit(folder, file, **changes)
    refused(folder, message)


def test_timm_inside_of_transformers_is_no_way_in(clip_folder, tmp_path, marker):
    folder = copied(clip_folder, tmp_path)
    pickle_bomb(folder / "bomb.bin", marker)
    wrapped = {"model_type": "timm_wrapper", "architecture": "resnet18"}
    wrapped["model_args"] = {"checkpoint_path": str(folder / "bomb.bin")}
    edit(
        folder,
        "config.json",
        model_type="vision-text-dual-encoder",
        text_config={"model_type": "bert"},
        vision_config=wrapped,
    )
    refused(folder, "vision_config can't be of the family 'timm_wrapper'")


def test_pickled_weights_are_read_by_an_unpickler_of_tensors(clip_folder, tmp_path, marker):
    folder = copied(clip_folder, tmp_path)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save({**weights, "bomb": Bomb(marker)}, folder / "pytorch_model.bin")
    refused(folder, "has pickled weights only")
    refused(folder, "pytorch_model.bin can't be read: UnpicklingError", allow_pickle=True)
    torch.save({"net": weights}, folder / "pytorch_model.bin")
    refused(folder, "it must hold tensors by name", allow_pickle=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bomb.bin", r"may name \*.safetensors files only"),
        ("../outside.safetensors", "must be the bare name of a file"),
        ("/{tmp}/outside.safetensors", "must be the bare name of a file"),
        ("sub/../../outside.safetensors", "must be the bare name of a file"),
        ("..\\outside.safetensors", "must be the bare name of a file"),
        ("link.safetensors", "leads out of its folder"),
        ("missing.safetensors", "is missing or no regular file"),
        ("", r"may name \*.safetensors files only"),
        (5, r"may name \*.safetensors files only"),
        (["model.safetensors"], r"may name \*.safetensors files only"),
    ],
    ids=str,
)
def test_an_index_names_files_of_its_folder(clip_folder, tmp_path, marker, name, message):
    folder = copied(clip_folder, tmp_path)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").rename(tmp_path / "outside.safetensors")
    (folder / "link.safetensors").symlink_to(tmp_path / "outside.safetensors")
    pickle_bomb(folder / "bomb.bin", marker)
    name = name.replace("{tmp}", str(tmp_path)) if isinstance(name, str) else name
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, name)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(folder, message)


@pytest.mark.parametrize("kind", ["clip_folder", "vit_folder"])
def test_shards_make_a_whole(kind, request, tmp_path):
    folder = copied(request.getfixturevalue(kind), tmp_path)
    clean = load(str(folder)).model.state_dict()
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {}
    for number in range(2):
        names = sorted(weights)[number::2]
        file = f"model-0000{number + 1}-of-00002.safetensors"
        save_file({name: weights[name] for name in names}, folder / file)
        places.update(dict.fromkeys(names, file))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    found = load(str(folder)).model.state_dict()
    assert all(torch.equal(value, found[key]) for key, value in clean.items())
    save_file(weights, folder / "model-00002-of-00002.safetensors")
    refused(folder, "stand in two files")


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer_config.json",
        "tokenizer.json",
    ],
)
def test_links_do_not_lead_out_of_a_folder(clip_folder, tmp_path, name):
    folder = copied(clip_folder, tmp_path)
    (folder / name).rename(tmp_path / "outside")
    (folder / name).symlink_to(tmp_path / "outside")
    refused(folder, f"{name} leads out of its folder")
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    refused(folder, f"{name} leads out of its folder")


def test_a_folder_of_the_hubs_cache_may_link_to_its_blobs(clip_folder, tmp_path):
    home = tmp_path / "models--some--model" / "snapshots" / "abc"
    blobs = tmp_path / "models--some--model" / "blobs"
    home.mkdir(parents=True)
    blobs.mkdir()
    for file in clip_folder.iterdir():
        (blobs / file.name).write_bytes(file.read_bytes())
        (home / file.name).symlink_to(os.path.relpath(blobs / file.name, home))
    assert load(str(home)).kind == "dual"


def test_the_command_line_says_it_in_one_line(vit_folder, tmp_path, marker):
    folder = copied(vit_folder, tmp_path)
    pickle_bomb(folder / "bomb.bin", marker)
    config = {**TIMM, "model_args": {"checkpoint_path": str(folder / "bomb.bin")}}
    (folder / "config.json").write_text(json.dumps(config))
    Image.new("RGB", (32, 32)).save(tmp_path / "picture.png")
    command = [sys.executable, "-m", "captum_ib.cli", "explain", "--model", str(folder)]
    command += ["--image", str(tmp_path / "picture.png"), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    loading, error = done.stderr.strip().splitlines()
    assert loading.startswith("loading ") and "checkpoint_path" in error
