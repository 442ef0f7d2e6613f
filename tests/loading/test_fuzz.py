"""Mutated folders: the clean model or one line, never a bomb, never much memory."""

from __future__ import annotations

import json
import random
import resource
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from captum_ib.loading.load import load
from captum_ib.loading.loaded import FolderError
from tests.loading.bombs import copied, module_bomb, pickle_bomb

STRANGE = (
    *(0, -1, 1, 7, 10**6, 10**9, 10**30, 0.5, -2.5, 1e300, True, False, None),
    *(
        "",
        "x",
        "/etc/passwd",
        "../x",
        "os.system",
        "bomb.Bomb",
        "some/model",
        "https://x.invalid/y",
    ),
    *("\x00", "☃" * 50, "a\nb", [], {}, [[]], [None] * 3, ["x"] * 3, {"a": {"b": {"c": 1}}}),
    *([10**9] * 3, [0, 0, 0], {"0": "bomb"}, {"auto_map": {"AutoConfig": "bomb.Bomb"}}),
)
NAMES = (
    *("checkpoint_path", "auto_map", "pretrained_cfg", "quantization_config", "_name_or_path"),
    *("attn_implementation", "backbone", "use_pretrained_backbone", "model_type", "architecture"),
    *("constructor", "kwargs", "model_args", "architectures", "dtype", "tokenizer_class", "file"),
)


def spots(value, path=()):
    """The way to each entry of a JSON value."""
    entries = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        entries = enumerate(value)
    for key, entry in entries:
        yield (*path, key)
        yield from spots(entry, (*path, key))


def mutate_json(file, draw):
    """Change one or two entries to something strange, or spoil the bytes."""
    if draw.random() < 0.2:
        content = bytearray(file.read_bytes())
        for _ in range(draw.randint(1, 20)):
            content[draw.randrange(len(content))] = draw.randrange(256)
        file.write_bytes(content[: draw.randint(1, len(content))])
        return f"bytes of {file.name}"
    config, told = json.loads(file.read_text()), []
    for _ in range(draw.randint(1, 2)):
        *way, last = draw.choice(list(spots(config)))
        inner = config
        for step in way:
            inner = inner[step]
        if draw.random() < 0.3 and isinstance(inner, dict):
            last = draw.choice(NAMES)
        inner[last] = draw.choice(STRANGE)
        told.append(f"{'.'.join(map(str, (*way, last)))} = {inner[last]!r}")
        if isinstance(inner[last], (list, dict)):
            break
    file.write_text(json.dumps(config))
    return f"{file.name}: {'; '.join(told)}"


def mutate_weights(file, draw):
    """Cut, spoil or rename."""
    kind = draw.choice(("cut", "head", "drop", "rename", "reshape"))
    if kind in ("cut", "head"):
        content = bytearray(file.read_bytes())
        if kind == "head":
            content[draw.randrange(64)] ^= 1 << draw.randrange(8)
        file.write_bytes(content if kind == "head" else content[: draw.randrange(len(content))])
        return f"{kind} of weights"
    weights = load_file(file)
    name = draw.choice(sorted(weights))
    tensor = weights.pop(name)
    if kind == "rename":
        weights[f"{name}x"] = tensor
    elif kind == "reshape":
        weights[name] = torch.zeros(*tensor.shape, 2)
    save_file(weights, file)
    return f"{kind} {name}"


def same(found, clean):
    """Whether two models have the same weights and take pictures in the same way."""
    given = found.model.state_dict()
    return given.keys() == clean.keys() and all(torch.equal(given[k], clean[k]) for k in clean)


def survives(folder, tmp_path, seed):
    """One mutated folder."""
    draw = random.Random(seed)
    copy, marker = copied(folder, tmp_path), tmp_path / "marker"
    module_bomb(copy, marker)
    pickle_bomb(copy / "x", marker)
    if draw.random() < 0.3:
        told = mutate_weights(copy / "model.safetensors", draw)
    else:
        told = mutate_json(draw.choice(sorted(copy.glob("*.json"))), draw)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    clean = load_file(folder / "model.safetensors")
    try:
        found = load(str(copy))
    except FolderError as error:
        assert "\n" not in str(error), told
    else:
        assert same(found, clean), f"seed {seed}, {told}: another model"
    assert not marker.exists(), f"seed {seed}, {told}: executed"
    spent = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert spent < 1_000_000, f"seed {seed}, {told}: {spent} kB"
    shutil.rmtree(copy)


@pytest.mark.parametrize(("kind", "count"), [("clip_folder", 20), ("vit_folder", 40)])
def test_mutated_folders(request, tmp_path, kind, count):
    load(str(request.getfixturevalue(kind)))  # what the libraries take for themselves
    for seed in range(count):
        survives(request.getfixturevalue(kind), tmp_path, seed)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["clip_folder", "vit_folder"])
def test_many_mutated_folders(request, tmp_path, kind):
    for seed in range(1000, 1300):
        survives(request.getfixturevalue(kind), tmp_path, seed)
