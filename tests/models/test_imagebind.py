"""ImageBind: the published names and shapes, a loop of its own, six modalities, pairs, loading."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from captum_ib import CAM2IB, M2IB, DualEncoder
from captum_ib.loading.from_imagebind import load_imagebind
from captum_ib.loading.loaded import FolderError, Options
from captum_ib.models.imagebind import ImageBind, ImageBindConfig, Trunk

SMALL = ImageBindConfig(
    joint=12,
    vision=Trunk(16, 3, 2, False, (28, 28), 14, 14),
    text=Trunk(16, 2, 2, False, (49408, 9)),
    audio=Trunk(16, 2, 2, True, (36, 56), 16, 10),
    depth=Trunk(8, 2, 2, True, (32, 48)),
    thermal=Trunk(16, 2, 2, True, (32, 32)),
    imu=Trunk(8, 2, 2, True, (6, 40), 8, 8),
)
SHAPES = {
    "image": (2, 1, 2, 2),
    "text": (2, 9),
    "audio": (2, 1, 5, 3),  # time, frequency
    "depth": (2, 1, 2, 3),
    "thermal": (2, 1, 2, 2),
    "imu": (2, 5),
}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = ImageBind(SMALL).eval()
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape) * 0.3
    return model


def inputs(name):
    generator = torch.Generator().manual_seed(1)
    if name == "text":
        return torch.tensor(
            [[49406, 5, 8, 49407, 0, 0, 0, 0, 0], [49406, 7, 3, 9, 49407, 0, 0, 0, 0]]
        )
    shapes = {"image": (3, 28, 28), "audio": (1, 36, 56), "depth": (1, 32, 48)}
    shape = {**shapes, "thermal": (1, 32, 32), "imu": (6, 40)}[name]
    return torch.randn(2, *shape, generator=generator)


def test_names_and_shapes_are_those_of_the_published_checkpoint():
    with torch.device("meta"):
        state = ImageBind().state_dict()
    published = {
        "modality_preprocessors.vision.cls_token": (1, 1, 1280),
        "modality_preprocessors.vision.rgbt_stem.proj.1.weight": (1280, 3, 2, 14, 14),
        "modality_preprocessors.vision.pos_embedding_helper.pos_embed": (1, 257, 1280),
        "modality_preprocessors.text.token_embedding.weight": (49408, 1024),
        "modality_preprocessors.text.pos_embed": (1, 77, 1024),
        "modality_preprocessors.text.mask": (77, 77),
        "modality_preprocessors.audio.rgbt_stem.proj.weight": (768, 1, 16, 16),
        "modality_preprocessors.audio.rgbt_stem.norm_layer.bias": (768,),
        "modality_preprocessors.audio.pos_embedding_helper.pos_embed": (1, 229, 768),
        "modality_preprocessors.depth.depth_stem.proj.weight": (384, 1, 16, 16),
        "modality_preprocessors.depth.pos_embedding_helper.pos_embed": (1, 197, 384),
        "modality_preprocessors.thermal.rgbt_stem.proj.weight": (768, 1, 16, 16),
        "modality_preprocessors.imu.imu_stem.proj.weight": (512, 48),
        "modality_preprocessors.imu.pos_embed": (1, 251, 512),
        "modality_trunks.vision.pre_transformer_layer.0.weight": (1280,),
        "modality_trunks.vision.blocks.31.attn.in_proj_weight": (3840, 1280),
        "modality_trunks.text.blocks.23.mlp.fc1.weight": (4096, 1024),
        "modality_trunks.audio.blocks.11.attn.bias_k": (1, 1, 768),
        "modality_trunks.imu.blocks.5.norm_2.bias": (512,),
        "modality_heads.vision.2.weight": (1024, 1280),
        "modality_heads.text.proj.1.weight": (1024, 1024),
        "modality_heads.audio.0.weight": (768,),
        "modality_heads.imu.3.weight": (1024, 512),
        "modality_postprocessors.text.1.log_logit_scale": (),
        "modality_postprocessors.imu.1.log_logit_scale": (),
    }
    assert {name: tuple(state[name].shape) for name in published} == published
    assert not any("bias_k" in name for name in state if ".vision." in name or ".text." in name)
    assert "modality_postprocessors.vision.1.log_logit_scale" not in state


def block(w, x, heads, extra, mask=None):
    """A block written out: one head after the other."""
    normed = F.layer_norm(x, x.shape[-1:], w["norm_1.weight"], w["norm_1.bias"], 1e-6)
    q, k, v = F.linear(normed, w["attn.in_proj_weight"], w["attn.in_proj_bias"]).chunk(3, -1)
    if extra:
        k = torch.cat([k, w["attn.bias_k"].expand(len(k), -1, -1)], 1)
        v = torch.cat([v, w["attn.bias_v"].expand(len(v), -1, -1)], 1)
    seen = []
    for one, two, three in zip(
        q.chunk(heads, -1), k.chunk(heads, -1), v.chunk(heads, -1), strict=True
    ):
        logits = one @ two.transpose(1, 2) / math.sqrt(one.shape[-1])
        seen.append((logits if mask is None else logits + mask).softmax(-1) @ three)
    x = x + F.linear(torch.cat(seen, -1), w["attn.out_proj.weight"], w["attn.out_proj.bias"])
    inner = F.layer_norm(x, x.shape[-1:], w["norm_2.weight"], w["norm_2.bias"], 1e-6)
    inner = F.gelu(F.linear(inner, w["mlp.fc1.weight"], w["mlp.fc1.bias"]))
    return x + F.linear(inner, w["mlp.fc2.weight"], w["mlp.fc2.bias"])


def embedding(model, name):
    """One embedding per sample, from the tensors alone."""
    own = {"image": "vision"}.get(name, name)
    state, values = model.state_dict(), inputs(name)

    def part(prefix):
        return {k[len(prefix) + 1 :]: v for k, v in state.items() if k.startswith(prefix + ".")}

    stem, trunk, head = (
        part(f"modality_{room}.{own}") for room in ("preprocessors", "trunks", "heads")
    )
    mask = None
    if name == "text":
        x = stem["token_embedding.weight"][values] + stem["pos_embed"]
        mask = torch.full((9, 9), float("-inf")).triu(1)
    elif name == "imu":
        cut = torch.stack([values[:, :, t : t + 8].flatten(1) for t in range(0, 40, 8)], 1)
        x = cut @ stem["imu_stem.proj.weight"].T
        x = F.layer_norm(
            x, (8,), stem["imu_stem.norm_layer.weight"], stem["imu_stem.norm_layer.bias"]
        )
    elif name == "image":  # a picture that stands still: both frames' kernels see the same
        kernel = stem["rgbt_stem.proj.1.weight"].sum(2)
        x = F.conv2d(values, kernel, stride=14).flatten(2).transpose(1, 2)
    else:
        key = "depth_stem" if name == "depth" else "rgbt_stem"
        x = F.conv2d(values, stem[f"{key}.proj.weight"], stride=10 if name == "audio" else 16)
        x = x.flatten(2).transpose(1, 2)
        norm = stem[f"{key}.norm_layer.weight"], stem[f"{key}.norm_layer.bias"]
        x = F.layer_norm(x, x.shape[-1:], *norm)
    if name != "text":
        x = torch.cat([stem["cls_token"].expand(2, -1, -1), x], 1)
        x = x + stem["pos_embed" if name == "imu" else "pos_embedding_helper.pos_embed"]
    if name == "image":
        first = trunk["pre_transformer_layer.0.weight"], trunk["pre_transformer_layer.0.bias"]
        x = F.layer_norm(x, x.shape[-1:], *first, 1e-6)
    sizes = getattr(SMALL, own)
    for number in range(sizes.depth):
        prefix = f"blocks.{number}."
        w = {k[len(prefix) :]: v for k, v in trunk.items() if k.startswith(prefix)}
        x = block(w, x, sizes.heads, sizes.bias_kv, mask)
    front, last = ("proj.0", "proj.1") if name == "text" else ("0", "3" if name == "imu" else "2")
    x = x[[0, 1], [3, 4]] if name == "text" else x[:, 0]
    x = F.layer_norm(x, x.shape[-1:], head[f"{front}.weight"], head[f"{front}.bias"], 1e-6)
    return F.normalize(x @ head[f"{last}.weight"].T, dim=-1)


@pytest.mark.parametrize("name", SHAPES)
def test_every_tower_gives_what_its_tensors_say(model, name):
    with torch.no_grad():
        found = DualEncoder.from_model(model).encode(name, inputs(name))
    assert torch.allclose(found, embedding(model, name), atol=1e-5)


@pytest.mark.parametrize("method", [M2IB, CAM2IB])
@pytest.mark.parametrize(
    "pair", [("audio", "image"), ("audio", "text"), ("depth", "image"), ("imu", "thermal")]
)
def test_pairs_are_explained(model, method, pair):
    dual = DualEncoder.from_model(model).pair(*pair)
    maps = method(dual).attribute(
        (inputs(pair[0]), inputs(pair[1])), n_steps=2, n_samples=2, seed=0
    )
    assert tuple(tuple(value.shape) for value in maps) == tuple(SHAPES[name] for name in pair)
    for name, value in zip(pair, maps, strict=True):
        assert value.flatten(1).amax(1).gt(0).all()
        if name == "text":
            assert value[0, 4:].eq(0).all() and value[1, 5:].eq(0).all()


def test_a_file_is_loaded_whole_or_refused(model, tmp_path):
    pytest.importorskip("open_clip", reason="its vocabulary is OpenAI's")
    file = tmp_path / "bind.safetensors"
    save_file(model.state_dict(), str(file))
    loaded = load_imagebind(str(file), Options(), SMALL)
    assert loaded.kind == "dual" and loaded.image_size == (28, 28)
    assert loaded.tokenizer(["a dog"])[0].shape == (1, 9)
    assert all(map(torch.equal, loaded.model.state_dict().values(), model.state_dict().values()))
    state = {name: value for name, value in model.state_dict().items() if "imu.0.bias" not in name}
    save_file({**state, "extra": torch.ones(1)}, str(file))
    with pytest.raises(
        FolderError, match=r"extra is unknown; modality_heads\.imu\.0\.bias is miss"
    ):
        load_imagebind(str(file), Options(), SMALL)
    torch.save(model.state_dict(), tmp_path / "bind.pth")
    with pytest.raises(ValueError, match="bind.pth has pickled weights only"):
        load_imagebind(str(tmp_path / "bind.pth"), Options(), SMALL)
    load_imagebind(str(tmp_path / "bind.pth"), Options(allow_pickle=True), SMALL)


def test_inputs_of_another_size_are_named(model):
    dual = DualEncoder.from_model(model)
    with pytest.raises(ValueError, match=r"shape \(N, 1, 36, 56\), given \(2, 1, 36, 57\)"):
        dual.encode("audio", torch.rand(2, 1, 36, 57))
    with pytest.raises(ValueError, match="a text has 10 tokens, ImageBind takes 9"):
        dual.encode("text", torch.ones(1, 10, dtype=torch.long))
