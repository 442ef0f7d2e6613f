"""Models that are awkward to borrow: what they do to themselves, and what torch does with them."""

import functools
import warnings

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from captum_ib import IBA, NIB, RISE, CoIBA, FastIG, GenericAttention
from captum_ib.hooks import CompositeHook, borrowed, isolate, roots
from captum_ib.models.dual_encoder import DualEncoder
from tests.attr.cases import SUBJECTS


def same(one, other):
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def picture(size=8):
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))


def net(make):
    """A model from a fixed seed, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().eval()


class Convolutions(nn.Module):
    """Two convolutions; ``middle`` is what happens between them."""

    def __init__(self, middle=torch.relu):
        super().__init__()
        self.c, self.d, self.f = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3), nn.Linear(6, 4)
        self.middle = middle

    def tail(self, h):
        return torch.relu(self.d(self.middle(h)))

    def forward(self, x):
        return self.f(self.tail(self.c(x)).mean((2, 3)))


# ---- buffers -----------------------------------------------------------------------------------


class Counter(Convolutions):
    """Counts, keeps a running mean, swaps a buffer for another and adds one."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))
        self.register_buffer("mean", torch.full((6,), 3.0))
        self.register_buffer("last", torch.zeros(2))

    def forward(self, x):
        self.seen += 1
        h = self.c(x)
        self.mean.lerp_(h.detach().mean((0, 2, 3)), 0.5)
        self.last = torch.ones(2)
        if "new" not in self._buffers:
            self.register_buffer("new", torch.ones(1))
        return self.f(self.tail(h).mean((2, 3)))


@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: lambda x: m(x), lambda m: m.forward])
@pytest.mark.parametrize("method", [IBA, RISE])
def test_buffers_that_forward_changes_come_back(wrap, method):
    model = net(Counter)
    last = model.last
    if method is IBA:
        IBA(wrap(model), model.c).attribute(picture(), target=1, n_steps=2, seed=0)
    else:
        RISE(wrap(model)).attribute(picture(), target=1, n_masks=4, seed=0)
    assert model.seen.item() == 0
    assert model.mean.tolist() == [3.0] * 6
    assert model.last is last
    assert sorted(model._buffers) == ["last", "mean", "seen"]


def test_a_buffer_too_large_to_be_kept_is_named_when_it_was_written(monkeypatch):
    monkeypatch.setattr(isolate, "LARGEST_BUFFER", 20)
    model = net(Counter)
    with pytest.warns(RuntimeWarning, match=r"wrote the buffer Counter\.mean of 24 bytes"):
        IBA(model, "c").attribute(picture(), target=1, n_steps=2, seed=0)
    assert model.seen.item() == 0


# ---- built under inference mode ----------------------------------------------------------------


@pytest.mark.parametrize("method", ["IBA", "NIB", "FastIG", "RISE"])
def test_a_model_built_under_inference_mode_gives_the_map_of_one_that_was_not(method):
    def make():
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
                             nn.Linear(144, 3))  # fmt: skip

    def explain(model):
        layer, kwargs = ("0",), {"seed": 0}
        cls = {"IBA": IBA, "NIB": NIB, "FastIG": FastIG, "RISE": RISE}[method]
        if method in ("FastIG", "RISE"):
            layer = ()
        if method in ("NIB", "FastIG"):
            kwargs = {}
        return cls(model, *layer).attribute(picture(), target=1, **kwargs)

    with torch.inference_mode():
        model = net(make)
    tensors = [*model.parameters(), *model.buffers()]
    same(explain(model), explain(net(make)))
    assert all(
        a is b for a, b in zip(tensors, [*model.parameters(), *model.buffers()], strict=True)
    )
    assert all(parameter.requires_grad for parameter in model.parameters())


# ---- in place ----------------------------------------------------------------------------------


@pytest.mark.parametrize("to_input", [True, False])
def test_an_in_place_layer_behind_the_bottleneck(to_input):
    plain, inplace = (
        net(lambda flag=flag: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4),
                                            nn.ReLU(inplace=flag), nn.Flatten(), nn.Linear(144, 3)))
        for flag in (False, True)
    )  # fmt: skip
    layer = "2" if to_input else "1"
    own = torch.full((1, 4, 6, 6), -0.5)
    for baselines in (None, own):
        one, other = (
            NIB(model, layer).attribute(
                picture(), target=1, attribute_to_layer_input=to_input, baselines=baselines
            )
            for model in (plain, inplace)
        )
        same(one, other)
    assert own.eq(-0.5).all(), "the caller's own tensor"
    same(
        IBA(plain, layer).attribute(picture(), target=1, seed=0),
        IBA(inplace, layer).attribute(picture(), target=1, seed=0),
    )


@pytest.mark.parametrize(
    "given",
    [
        torch.tensor([[-1.0]]).expand(2, 3),
        torch.full((2, 3), -1.0),
        torch.full((2, 3), -1.0, requires_grad=True),
        torch.full((3, 2), -1.0, requires_grad=True).T,
    ],
    ids=["expanded", "the caller's", "leaf", "view of a leaf"],
)
def test_what_a_function_hands_on_can_be_written(given):
    before = given.detach().clone()
    model = nn.Sequential(nn.Identity(), nn.ReLU(inplace=True))
    with CompositeHook([model[0]], lambda index, activation: given):
        assert model(torch.ones(2, 3)).eq(0).all()
    assert torch.equal(given.detach(), before)


# ---- gradient checkpointing --------------------------------------------------------------------


class Checkpointed(Convolutions):
    """Own code that checkpoints its tail, with either of torch's ways."""

    def __init__(self, reentrant):
        super().__init__()
        self.reentrant = reentrant

    def tail(self, h):
        if self.reentrant is None:
            return super().tail(h)
        return checkpoint(super().tail, h, use_reentrant=self.reentrant)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("layer", ["c", "d"])
def test_gradient_checkpointing_left_on(reentrant, layer):
    on, off = net(lambda: Checkpointed(reentrant)), net(lambda: Checkpointed(None))
    for cls in (IBA, NIB):
        kwargs = {"seed": 0} if cls is IBA else {}
        same(
            cls(on, layer).attribute(picture(), target=1, **kwargs),
            cls(off, layer).attribute(picture(), target=1, **kwargs),
        )
    runs = []
    x = torch.ones(1, requires_grad=True)
    checkpoint(lambda v: runs.append(1) or v.exp(), x, use_reentrant=reentrant).backward()
    assert len(runs) == 2, "outside, checkpointing is torch's again"


def test_gradient_checkpointing_of_timm():
    vit = SUBJECTS["vit"]()
    model = vit.model
    expected = [
        CoIBA(model).attribute(vit.inputs, target=1, seed=0),
        GenericAttention(model).attribute(vit.inputs, target=1),
    ]
    model.set_grad_checkpointing(True)
    try:
        found = [
            CoIBA(model).attribute(vit.inputs, target=1, seed=0),
            GenericAttention(model).attribute(vit.inputs, target=1),
        ]
    finally:
        model.set_grad_checkpointing(False)
    for one, other in zip(found, expected, strict=True):
        same(one, other)


# ---- nested tensors ----------------------------------------------------------------------------


class Encoder(nn.Module):
    """``nn.TransformerEncoder`` on token ids, with torch's defaults or without its shortcut."""

    def __init__(self, nested):
        super().__init__()
        self.e, self.f = nn.Embedding(30, 16), nn.Linear(16, 3)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.enc = nn.TransformerEncoder(layer, 3, enable_nested_tensor=nested)

    def forward(self, ids, keep):
        return self.f(self.enc(self.e(ids), src_key_padding_mask=keep == 0)[:, 0])


@pytest.mark.parametrize("layer", ["enc.layers.0", "enc.layers.1", "enc.layers.1.norm1", None])
def test_nested_tensors_of_a_transformer_encoder(layer):
    ids = torch.tensor([[4, 9, 7, 3, 8, 0, 0]])
    keep = (ids != 0).long()
    nested, plain = net(lambda: Encoder(True)), net(lambda: Encoder(False))
    one, other = (
        IBA(model, layer).attribute(ids, target=1, additional_forward_args=keep, seed=0)
        for model in (nested, plain)
    )
    same(one, other)
    assert one[0, -2:].eq(0).all() and one[0, :5].gt(0).all()
    assert torch.backends.mha.get_fastpath_enabled()


def test_the_shortcut_stays_off_when_it_was():
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with borrowed([nn.Linear(2, 2)]), borrowed([nn.Linear(2, 2)]):
            pass
        assert not torch.backends.mha.get_fastpath_enabled()
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


# ---- functions around a model ------------------------------------------------------------------


class Functional(Convolutions):
    """Dropout as a function, which only the module's own flag switches."""

    def __init__(self):
        super().__init__(lambda h: nn.functional.dropout(h, 0.5, self.training))

    def classify(self, x):
        return self.forward(x)


class Predictor:
    """A plain object that holds the model."""

    def __init__(self, model):
        self.parts = {"model": model}

    def predict(self, x):
        return self.parts["model"].forward(x)

    def __call__(self, x):
        return self.parts["model"].forward(x)


WAYS = {
    "forward": lambda m: m.forward,
    "another method": lambda m: m.classify,
    "closure": lambda m: lambda x: m.forward(x),
    "partial": lambda m: functools.partial(m.forward),
    "partial of a function": lambda m: functools.partial(lambda model, x: model.forward(x), m),
    "object": lambda m: Predictor(m),
    "method of an object": lambda m: Predictor(m).predict,
    "two deep": lambda m: (lambda inner: lambda x: inner(x))(m.forward),
}


@pytest.mark.parametrize("way", WAYS)
def test_functional_dropout_is_off_behind_any_function(way):
    model = net(Functional).train()
    function = WAYS[way](model)
    assert roots(function, lambda: function(picture())) == [model]
    expected = NIB(net(Functional), "d").attribute(picture(), target=1)
    state = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = NIB(function, model.d).attribute(picture(), target=1)
    same(found, expected)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())


def test_a_module_that_a_function_refers_to_and_does_not_use_is_left_out():
    used, unused = net(Convolutions), net(Convolutions)

    def function(x):
        return used(x) if x is not None else unused(x)

    assert roots(function, lambda: function(picture())) == [used]


# ---- compiled, scripted ------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Using `torch.compile:UserWarning")
@pytest.mark.parametrize("in_place", [False, True])
def test_a_model_compiled_as_one_graph(in_place):
    model, x = net(Convolutions), picture()
    expected = IBA(model, "c").attribute(x, target=1, seed=0)
    if in_place:
        model.compile(backend="eager", fullgraph=True)
        compiled, layer = model, "c"
    else:
        compiled, layer = torch.compile(model, backend="eager", fullgraph=True), "_orig_mod.c"
    output = compiled(x)
    before = [dict(vars(module)) for module in compiled.modules()]
    same(IBA(compiled, layer).attribute(x, target=1, seed=0), expected)
    for module, old in zip(compiled.modules(), before, strict=True):
        assert vars(module) == old
    same(compiled(x), output)


@pytest.mark.filterwarnings("ignore:.*torch.jit:")
@pytest.mark.parametrize("freeze", [False, True])
def test_rise_of_a_scripted_model(freeze):
    model = net(lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(),
                                      nn.Linear(216, 4)))  # fmt: skip
    scripted = torch.jit.script(model)
    if freeze:
        scripted = torch.jit.freeze(scripted)
    one, other = (RISE(m).attribute(picture(), target=1, n_masks=8, seed=0)
                  for m in (scripted, model))  # fmt: skip
    same(one, other)


# ---- wrappers leave flags alone ----------------------------------------------------------------


def test_wrapping_a_dual_encoder_changes_no_flag():
    model = SUBJECTS["clip"]().model.model
    flags = [module.training for module in model.modules()]
    try:
        model.train()
        model.vision_model.eval()
        expected = [module.training for module in model.modules()]
        dual = DualEncoder.from_model(model)
        dual.pair("text", "image")
        assert [module.training for module in model.modules()] == expected
    finally:
        for module, flag in zip(model.modules(), flags, strict=True):
            module.training = flag


@pytest.mark.parametrize("training", [True, False])
def test_what_forward_itself_switches_or_replaces_is_put_back(training):
    class Meddler(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(2, 2)
            self.inner.bias.requires_grad_(False)

        def forward(self, x):
            self.inner.train(not self.inner.training)
            self.inner.bias.requires_grad_(True)
            self.inner.weight = nn.Parameter(self.inner.weight.detach() + 1)
            self.register_buffer("added", x)  # where none was before
            return self.inner(x)

    model = Meddler().train(training)
    before = list(model.parameters())
    with borrowed([model]):
        model(torch.ones(1, 2))
    assert model.training == model.inner.training == training
    assert all(old is new for old, new in zip(before, model.parameters(), strict=True))
    assert [parameter.requires_grad for parameter in before] == [True, False]
    assert not list(model.buffers())
