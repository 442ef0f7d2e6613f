"""Needed: exact against plain passes, and nothing left out that any noise could call for."""

import gc
import re
import weakref
from functools import partial

import pytest
import timm
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    CLIPConfig,
    CLIPModel,
    SiglipConfig,
    SiglipModel,
)

from captum_ib import IBA, M2IB, NIB, CoIBA, DualEncoder
from captum_ib.hooks import open_session
from captum_ib.hooks.needed import Needed

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
TEXT = {**SMALL, "num_hidden_layers": 3, "vocab_size": 60}
IMAGE = {**SMALL, "num_hidden_layers": 3, "image_size": 32, "patch_size": 8}
IDS = torch.tensor(
    [[58, 3, 4, 59, 59, 59, 59], [58, 5, 59, 59, 59, 59, 59], [58, 9, 8, 7, 6, 5, 59]]
)
PIXELS = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def seeded(build):
    torch.manual_seed(0)
    model = build().eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:  # larger than at the start, so that everything shows in the output
            parameter.data = torch.randn(parameter.shape) * 0.2
    return model


def vit(**kwargs):
    return seeded(
        lambda: timm.models.VisionTransformer(
            **{"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 4, "num_heads": 4}
            | {"num_classes": 5}
            | kwargs
        )
    )


def session_of(model, layers, run, n=3, **kwargs):
    modules = [model.get_submodule(name) for name in layers]
    return open_session(model, run, modules, layers, n, **kwargs)


def on(model, x, call=None):
    """A run of a model on repeated samples."""
    call = call or model
    return lambda repeats: call(x.repeat(repeats, *[1] * (x.ndim - 1)))


def names_in(model, needed):
    names = {module: name for name, module in model.named_modules()}
    return [names[module] for module in needed.modules]


def gap(one, other):
    return float((one - other).detach().abs().max() / other.detach().abs().max())


def both_ways(session, repeats, strength=1.0):
    """Output and gradient at the first layer, with what is needed only, and plain."""
    shape = session.activations[0].shape
    draw = torch.Generator().manual_seed(repeats)
    noise = torch.randn((repeats * shape[0], *shape[1:]), generator=draw) * strength
    found = []
    for replay in (True, False):
        state = []

        def put(index, activation, state=state):
            if index > 0:
                return activation
            state.append((0.5 * activation.detach() + noise).requires_grad_())
            return state[0].clone()

        output = session.run(repeats, put, replay)
        weight = torch.randn(output.shape, generator=torch.Generator().manual_seed(0))
        found.append((output, torch.autograd.grad((output * weight).sum(), state[0])[0]))
    return found


def exact(session, tolerance=1e-5, **kwargs):
    for repeats in (1, 3):
        (output, gradient), (plain, expected) = both_ways(session, repeats, **kwargs)
        assert gap(output, plain) < tolerance
        assert gap(gradient, expected) < tolerance


def clip():
    config = CLIPConfig(
        text_config={**TEXT, "bos_token_id": 58, "eos_token_id": 59},
        vision_config=IMAGE,
        projection_dim=16,
    )
    return DualEncoder.from_model(seeded(lambda: CLIPModel(config)))


def siglip():
    config = SiglipConfig(text_config={**TEXT, "max_position_embeddings": 7}, vision_config=IMAGE)
    return DualEncoder.from_model(seeded(lambda: SiglipModel(config)))


def bert():
    return seeded(lambda: BertForSequenceClassification(BertConfig(**TEXT)))


@pytest.mark.parametrize("layers", [["blocks.0"], [f"blocks.{i}.norm1" for i in (1, 2, 3)]])
def test_a_vit_that_reads_the_class_token_computes_that_one(layers):
    model = vit()
    with session_of(model, layers, on(model, PIXELS)) as session:
        assert names_in(model, session.needed) == ["blocks.3.mlp", "blocks.3.attn.proj"]
        assert session.needed.index.tolist() == [[0]] * 3
        exact(session)


def test_a_module_sees_the_needed_token_alone():
    model, seen = vit(), []
    model.blocks[3].mlp.fc1.register_forward_hook(lambda m, args, out: seen.append(out.shape))
    with session_of(model, ["blocks.1"], on(model, PIXELS)) as session:
        seen.clear()
        session.run(4, lambda index, activation: None)
        session.run(4, lambda index, activation: None, replay=False)
    assert seen == [(12, 1, 128), (12, 17, 128)]


@pytest.mark.parametrize(
    "pool", [{"global_pool": "avg"}, {"global_pool": "map", "class_token": False}]
)
def test_a_vit_that_pools_all_tokens_computes_all(pool):
    model = vit(**pool)
    with session_of(model, ["blocks.1"], on(model, PIXELS)) as session:
        assert session.needed is None
        assert "needs most tokens" in session.whole
        exact(session)


@pytest.mark.parametrize("mask", [None, (IDS != 59).long()])
def test_clip_reads_another_token_of_every_caption(mask):
    dual = clip()
    given = () if mask is None else (mask,)
    run = lambda k: dual.encode("text", IDS.repeat(k, 1), *(one.repeat(k, 1) for one in given))  # noqa: E731
    with session_of(dual, ["model.text_model.encoder.layers.0"], run) as session:
        last = "model.text_model.encoder.layers.2"
        wanted = [f"{last}.mlp", f"{last}.self_attn.out_proj", f"{last}.self_attn.q_proj"]
        assert names_in(dual, session.needed) == wanted
        assert session.needed.index.flatten().tolist() == [3, 2, 6]
        exact(session)


def test_the_picture_s_side_of_clip_and_siglip():
    dual = clip()
    run = on(dual, PIXELS, partial(dual.encode, "image"))
    with session_of(dual, ["model.vision_model.encoder.layers.0"], run) as session:
        assert len(session.needed.modules) == 3
        exact(session)
    dual = siglip()  # pools all patches by attention
    run = on(dual, PIXELS, partial(dual.encode, "image"))
    with session_of(dual, ["model.vision_model.encoder.layers.0"], run) as session:
        assert session.needed is None
        exact(session)


def test_siglip_reads_the_last_token_of_a_caption():
    dual = siglip()
    run = on(dual, IDS, partial(dual.encode, "text"))
    with session_of(dual, ["model.text_model.encoder.layers.0"], run) as session:
        assert session.needed.index.flatten().tolist() == [6] * 3
        exact(session)


def test_a_bert_classifier_with_padding():
    model, mask = bert(), (IDS != 59).long()
    run = lambda k: model(IDS.repeat(k, 1), mask.repeat(k, 1)).logits  # noqa: E731
    with session_of(model, ["bert.encoder.layer.0"], run) as session:
        last = "bert.encoder.layer.2"  # its output takes two tensors
        parts = ["output", "intermediate", "attention.output", "attention.self.query"]
        assert names_in(model, session.needed) == [f"{last}.{part}" for part in parts]
        exact(session)


@pytest.mark.parametrize(
    ("name", "layer"), [("resnet10t", "layer2"), ("convnext_atto", "stages.1")]
)
def test_feature_maps_are_left_alone(name, layer):
    model = timm.create_model(name, num_classes=5).eval()
    with session_of(model, [layer], on(model, PIXELS)) as session:
        assert session.needed is None
        exact(session)


def test_several_outputs_need_what_each_of_them_does():
    model = timm.models.VisionTransformerDistilled(
        img_size=32, patch_size=8, embed_dim=32, depth=3, num_heads=4, num_classes=5
    ).eval()
    with session_of(model, ["blocks.0"], on(model, PIXELS)) as session:
        assert session.needed.index.tolist() == [[0, 1]] * 3
        exact(session)


class Tokens(nn.Module):
    """Two token-wise blocks behind a layer, and a way to read them."""

    def __init__(self, read, width=6):
        super().__init__()
        self.layer, self.mlp = nn.Linear(width, width), nn.Linear(width, width)
        self.read = read

    def forward(self, x):
        x = self.layer(x)
        return self.read(self.mlp(x) + x, x)


X = torch.randn(3, 8, 6, generator=torch.Generator().manual_seed(3))


def tokens_session(read, **kwargs):
    model = seeded(lambda: Tokens(read))
    return session_of(model, ["layer"], on(model, X), **kwargs)


def test_the_first_token_of_a_toy():
    with tokens_session(lambda y, x: y[:, 0]) as session:
        assert session.needed.index.tolist() == [[0]] * 3
        exact(session)


def gate(y, x):
    """Closed for all tokens but the first at these samples; noise opens it."""
    score = x[..., :1] * 0.01 - 1
    return y[:, 0] + (torch.relu(score) * y).sum(dim=1)


def selected(y, x):
    """The token that another layer's largest value points to."""
    return y[torch.arange(len(y)), x[..., 0].argmax(dim=1)]


def sampled(y, x):
    """Read at a place, a number with a fraction, that was computed from the activation."""
    place = torch.stack([torch.zeros(len(x)), x[:, 0, 0].tanh() * 0.05 - 0.9], dim=-1)
    read = nn.functional.grid_sample(
        y.transpose(1, 2).unsqueeze(-1), place[:, None, None], align_corners=True
    )
    return read.flatten(1)


def branch(y, x):
    return y[:, 0] if float(x.detach().sum()) < 1e6 else y[:, 1]


def by_list(y, x):
    picks = x.detach()[..., 0].argmax(dim=1).tolist()
    return torch.stack([row[pick] for row, pick in zip(y, picks, strict=True)])


def by_numpy(y, x):
    picks = torch.as_tensor(x.detach()[..., 0].numpy().argmax(axis=1))
    return y[torch.arange(len(y)), picks]


SHOWN = {  # how the fault is found
    "gate": (gate, "differ by nan"),
    "maximum": (lambda y, x: y.amax(dim=1)[:, :1] + 0 * y[:, 0], "differ|most"),
    "largest, one channel": (lambda y, x: y[..., 0].amax(dim=1, keepdim=True), "differ"),
    "smallest by sorting": (lambda y, x: y[..., 0].sort(dim=1).values[:, :1], "differ"),
    "fmax": (lambda y, x: torch.fmax(y[:, 0], y[:, 1] - 20), "differ"),
    "selected": (selected, "index.* chooses by it"),
    "top k": (lambda y, x: y.gather(1, x.topk(2, dim=1).indices).sum(dim=1), "chooses by it"),
    "where": (lambda y, x: torch.where(x[:, 0] < 99, y[:, 0], y[:, 1]), "chooses by it"),
    "hard mask": (lambda y, x: y[:, 0] + (y * (x > 99).float()).sum(dim=1), "chooses by it"),
    "sampled": (sampled, "grid_sampler.* may choose"),
    "branch": (branch, "may decide a branch"),
    "list": (by_list, "tolist reads it"),
    "numpy": (by_numpy, "numpy reads it"),
    "sparse": (lambda y, x: (x.relu().transpose(1, 2).to_sparse() @ y).to_dense()[:, 0], ""),
}


@pytest.mark.parametrize("name", SHOWN)
def test_what_another_noise_would_read_is_not_left_out(name):
    read, reason = SHOWN[name]
    try:
        opened = tokens_session(read)
        with opened as session:
            assert session.needed is None
            assert re.search(reason, session.whole)
            if name != "sparse":
                exact(session, strength=30.0)
    except RuntimeError as error:  # sparse products may have no gradient
        assert name == "sparse", error


def test_an_index_that_the_sample_says_is_no_choice():
    place = torch.tensor([1, 5, 2])

    def read(y, x):
        own = place.repeat(len(y) // 3)
        return y[torch.arange(len(y)), own] * (torch.zeros_like(x[:, 0]) + 1)

    with tokens_session(read) as session:
        assert session.needed.index.tolist() == [[1], [5], [2]]
        exact(session, strength=30.0)


def test_a_sample_that_needs_fewer_tokens_than_another():
    keep = torch.zeros(3, 8, 1)
    keep[0, 2], keep[1, :3], keep[2, 7] = 1, 1, 1

    def read(y, x):
        kept = torch.where(keep.repeat(len(y) // 3, 1, 1) > 0, y, torch.zeros(()))
        return kept.sum(dim=1)

    with tokens_session(read) as session:
        assert session.needed.index.tolist() == [[2, 0, 1], [0, 1, 2], [7, 0, 1]]
        exact(session)


class Odd(nn.Module):
    """Modules with a matrix that are not token-wise, or only as long as nobody gathers."""

    def __init__(self, kind, width=6):
        super().__init__()
        self.kind, self.linear = kind, nn.Linear(width, width)
        self.place = nn.Parameter(torch.randn(8, width))

    def forward(self, x):
        y = self.linear(x)
        if self.kind == "mean":
            return y + y.mean(dim=1, keepdim=True)
        if self.kind == "place":
            return y + self.place[-x.shape[1] :]
        if self.kind == "faint":  # mixes by less than what two passes may differ by
            return y + 1e-6 * x.mean(dim=1, keepdim=True)
        return y / x.shape[1]


@pytest.mark.parametrize("kind", ["mean", "place", "faint", "count"])
def test_a_module_that_does_not_work_token_by_token_is_run_whole(kind):
    model = seeded(lambda: Tokens(lambda y, x: y[:, 0]))
    model.mlp = Odd(kind)
    with session_of(model, ["layer"], on(model, X)) as session:
        found = [] if session.needed is None else names_in(model, session.needed)
        # The linear map inside is token-wise, as long as the mean does not need all of it.
        assert found == ([] if kind == "mean" else ["mlp.linear"])
        exact(session)


def test_a_module_that_runs_twice_is_run_whole():
    class Twice(Tokens):
        def forward(self, x):
            return super().forward(x) + self.mlp(x)[:, 0]

    model = seeded(lambda: Twice(lambda y, x: y[:, 0]))
    with session_of(model, ["layer"], on(model, X)) as session:
        assert session.needed is None
        exact(session)


def test_a_later_layer_keeps_all_its_tokens():
    model, seen = vit(), []
    with session_of(model, ["blocks.1", "blocks.3"], on(model, PIXELS)) as session:
        assert session.needed is None  # the norm behind it multiplies by no matrix
        session.run(1, lambda index, activation: seen.append(activation.clone()))
        session.run(1, lambda index, activation: seen.append(activation.clone()), replay=False)
    assert gap(seen[1], seen[3]) < 1e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    model = vit().to(dtype)
    with session_of(model, ["blocks.1"], on(model, PIXELS.to(dtype))) as session:
        assert session.needed is not None
        plain = session.run(2, lambda index, activation: None, replay=False)
        assert gap(session.run(2, lambda index, activation: None), plain) < 5e-2


def test_autocast():
    model = vit()
    with (
        torch.autocast("cpu", torch.bfloat16),
        session_of(model, ["blocks.1"], on(model, PIXELS)) as session,
    ):
        assert session.needed is not None
        exact(session, tolerance=5e-2)


class Folded(nn.Module):
    """Twice as many rows as samples in a module whose input is (rows, T, C) for one sample."""

    def __init__(self):
        super().__init__()
        self.layer, self.mlp = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        x = self.layer(x)
        y = self.mlp(x.transpose(0, 1)) if len(x) == 8 else self.mlp(x)
        return (y.transpose(0, 1) if len(x) == 8 else y)[:, 0]


def test_as_many_samples_as_tokens():
    model, x = seeded(Folded), torch.randn(8, 8, 6)
    with session_of(model, ["layer"], on(model, x), n=8) as session:
        assert session.needed is None
        plain = session.run(1, lambda index, activation: None, replay=False)
        assert torch.equal(session.run(1, lambda index, activation: None), plain)


def test_the_graph_goes_and_the_model_is_as_it_was():
    model = vit()
    passed = []
    model.blocks[2].register_forward_hook(lambda m, a, out: passed.append(weakref.ref(out)))
    gc.disable()  # the graph must not wait for the collector
    try:
        with session_of(model, ["blocks.1"], on(model, PIXELS)) as session:
            assert isinstance(session.needed, Needed)
            session.run(1, lambda index, activation: None)
        assert all(one() is None for one in passed)
    finally:
        gc.enable()
    assert not any("forward" in vars(module) for module in model.modules())
    assert not torch.utils._python_dispatch._get_current_dispatch_mode_stack()


def test_nothing_is_left_out_without_replay():
    model = vit()
    with session_of(model, ["blocks.1"], on(model, PIXELS), replay=False) as session:
        assert session.needed is None


@pytest.mark.parametrize("batch", [None, 2])
@pytest.mark.parametrize(
    ("method", "layer"), [(IBA, "blocks.1"), (CoIBA, ["blocks.1", "blocks.2"]), (NIB, "blocks.2")]
)
def test_maps_are_those_of_plain_passes(method, layer, batch):
    model = vit()
    options = {"target": 1, "internal_batch_size": batch}
    options |= {} if method is NIB else {"seed": 0, "n_steps": 4}
    one, other = (
        method(model, layer).attribute(PIXELS, replay=replay, **options) for replay in (True, False)
    )
    assert gap(one, other) < 1e-4


@pytest.mark.parametrize("batch", [None, 2])
def test_maps_of_pairs_are_those_of_plain_passes(batch):
    options = {"seed": 0, "n_steps": 4, "internal_batch_size": batch}
    one, other = (
        M2IB(clip()).attribute((PIXELS, IDS), replay=replay, **options) for replay in (True, False)
    )
    for mine, plain in zip(one, other, strict=True):
        assert gap(mine, plain) < 1e-4


def test_each_tower_of_a_pair_is_run_whole_once():
    dual, runs = clip(), []
    for name in ("vision_model", "text_model"):
        first = dual.get_submodule(f"model.{name}.encoder.layers.0")
        first.mlp.fc1.register_forward_hook(lambda m, a, out, name=name: runs.append(name))
    M2IB(dual).attribute((PIXELS[:1], IDS[:1]), seed=0, n_steps=3)
    assert sorted(runs) == ["text_model", "vision_model"]
