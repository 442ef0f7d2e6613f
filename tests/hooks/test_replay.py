"""Sessions and replay: equal to plain passes, prefix computed once, model back as it was."""

import pytest
import torch
from torch import nn

from captum_ib.hooks import borrowed, open_session, roots


class Counted(nn.Module):
    """Counts how often its own forward really runs."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.runs = 0

    def forward(self, x):
        self.runs += 1
        return self.inner(x)


class Residual(nn.Module):
    """Skip connections around every block, an in-place addition, a constant table."""

    def __init__(self, depth=4, width=6):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.blocks = nn.ModuleList(Counted(nn.Linear(width, width)) for _ in range(depth))
        self.table = Counted(nn.Identity())
        self.head = nn.Linear(width, 3)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
        self.position = nn.Parameter(torch.randn(1, width, generator=generator))

    def forward(self, x):
        x = x + self.table(self.position)
        for block in self.blocks:
            out = block(x)
            out += x  # in place, on the hooked layer's output
            x = torch.relu(out)
        return self.head(x)


def session_of(model, layers, n, x, **kwargs):
    names = [str(index) for index in range(len(layers))]
    return open_session(
        model, lambda repeats: model(x.repeat(repeats, 1)), layers, names, n, **kwargs
    )


def noisy(seed):
    noise = torch.randn(6, 6, generator=torch.Generator().manual_seed(seed))
    return lambda index, activation: activation * 0.5 + noise[: activation.shape[0]]


@pytest.mark.parametrize("n", [1, 3, 6])
@pytest.mark.parametrize("to_input", [False, True])
def test_replayed_passes_equal_plain_ones(n, to_input):
    model, x = Residual(), torch.randn(n, 6)
    repeats = 6 // n
    layers = [model.blocks[2], model.blocks[3]]
    with session_of(model, layers, n, x, to_input=to_input) as session:
        assert session.replay is not None
        replayed = session.run(repeats, noisy(0))
        plain = session.run(repeats, noisy(0), replay=False)
    assert torch.allclose(replayed, plain, atol=1e-6)


def test_what_does_not_depend_on_the_layer_runs_once():
    model, x = Residual(), torch.randn(2, 6)
    with session_of(model, [model.blocks[2]], 2, x) as session:
        before = [block.runs for block in model.blocks]
        for _ in range(5):
            session.run(3, noisy(1))
        runs = [block.runs - old for block, old in zip(model.blocks, before, strict=True)]
    assert runs == [0, 0, 0, 5]  # the hooked layer's own output is on record, too
    assert session.activations[0].shape == (2, 6)


def test_gradients_of_a_replayed_pass_equal_plain_ones():
    model, x = Residual(), torch.randn(2, 6)
    scale = torch.tensor(0.7, requires_grad=True)
    with session_of(model, [model.blocks[1]], 2, x) as session:
        gradients = [
            torch.autograd.grad(
                session.run(1, lambda i, a: a * scale, replay=replay).square().sum(), scale
            )[0]
            for replay in (True, False)
        ]
    assert torch.allclose(*gradients)


def test_layers_come_in_the_order_in_which_they_run():
    model, x = Residual(), torch.randn(2, 6)
    with session_of(model, [model.blocks[3], model.blocks[1]], 2, x) as session:
        assert session.names == ["1", "0"]
        assert session.layers == [model.blocks[1], model.blocks[3]]


class Shared(nn.Module):
    """A block that runs before and after the hooked layer."""

    def __init__(self):
        super().__init__()
        self.shared, self.middle = Counted(nn.Linear(6, 6)), nn.Linear(6, 6)

    def forward(self, x):
        return self.shared(self.middle(self.shared(x)))


def test_a_shared_module_is_replayed_only_where_it_does_not_depend():
    model, x = Shared(), torch.randn(2, 6)
    with session_of(model, [model.middle], 2, x) as session:
        before = model.shared.runs
        replayed = session.run(2, noisy(2))
        assert model.shared.runs == before + 1
        assert torch.allclose(replayed, session.run(2, noisy(2), replay=False))


class SequenceFirst(nn.Module):
    """Puts the sequence axis first: five positions, not the samples."""

    def __init__(self):
        super().__init__()
        self.before, self.after = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        tokens = self.before(x.unsqueeze(0).expand(5, -1, -1)).transpose(0, 1)
        return (tokens + self.after(tokens)).sum(dim=1)


class Tiles(nn.Module):
    """Cuts each sample into three, and puts samples and tiles on one axis; a table is shared."""

    def __init__(self):
        super().__init__()
        self.before, self.after = Counted(nn.Linear(2, 6)), nn.Linear(6, 6)
        self.table = nn.Embedding(3, 6)

    def forward(self, x):
        tiles = self.before(x.view(-1, 2)).view(len(x), 3, 6)
        return self.after(tiles + self.table(torch.arange(3))).sum(dim=1)


def shaken(index, activation):
    torch.manual_seed(index)
    return activation * 0.5 + torch.randn(activation.shape)


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("kind", [SequenceFirst, Tiles])
def test_samples_on_other_axes_are_found_by_a_pass_with_twice_as_many(kind, n):
    torch.manual_seed(0)
    model, x = kind(), torch.randn(n, 6)
    with session_of(model, [model.after], n, x) as session:
        assert session.replay is not None
        replayed = session.run(4, shaken)
        torch.testing.assert_close(replayed, session.run(4, shaken, replay=False))
        if kind is Tiles:
            runs = model.before.runs
            session.run(4, shaken)
            assert model.before.runs == runs


class Inner(nn.Module):
    """As TNT: patches' insides are folded into the batch and unfolded ahead of a module."""

    def __init__(self):
        super().__init__()
        self.before, self.outer, self.after = nn.Linear(2, 4), nn.Linear(4, 6), nn.Linear(6, 6)

    def forward(self, x):
        tiles = self.before(x.view(-1, 2))
        return self.after(self.outer(tiles.view(len(x), 3, -1)[..., :4]).sum(dim=1))


def test_what_is_folded_into_the_batch_is_no_shared_table():
    # With the tiles of one sample for two, two repeats of the outer layer's record hide the fault.
    torch.manual_seed(0)
    model, x = Inner(), torch.randn(2, 6)
    with session_of(model, [model.after], 2, x) as session:
        assert session.replay is not None
        replayed = session.run(10, shaken)
        torch.testing.assert_close(replayed, session.run(10, shaken, replay=False))


class Twofold(nn.Module):
    """Folds as TNT does, and has one call more where there is more than one sample."""

    def __init__(self):
        super().__init__()
        self.inner, self.more = Inner(), nn.Identity()
        self.after = self.inner.after

    def forward(self, x):
        return self.inner(self.more(x) if len(x) > 2 else x)


def test_what_two_passes_do_not_tell_is_not_guessed_from_sizes():
    torch.manual_seed(0)
    model, x = Twofold(), torch.randn(2, 6)
    with (
        pytest.warns(RuntimeWarning, match="without replay.*go along with the samples can't be"),
        session_of(model, [model.after], 2, x) as session,
    ):
        assert session.replay is None
        found = session.run(10, shaken)
        torch.testing.assert_close(found, session.run(10, shaken, replay=False))


class Gram(nn.Module):
    """Products of all samples with all: both axes grow with the batch."""

    def forward(self, x):
        return x @ x.T


class Pairs(nn.Module):
    def __init__(self):
        super().__init__()
        self.gram, self.after = Gram(), nn.Linear(6, 6)

    def forward(self, x):
        return self.after(x) + self.gram(x).diagonal().unsqueeze(1)


def test_where_replay_would_be_wrong_it_is_switched_off_with_a_word():
    model, x = Pairs(), torch.randn(2, 6)
    with (
        pytest.warns(RuntimeWarning, match="running without replay"),
        session_of(model, [model.after], 2, x) as session,
    ):
        assert session.replay is None
        expected = model(x).repeat(3, 1)
        found = session.run(3, lambda index, activation: None)
    assert torch.allclose(found, expected, atol=1e-6)


class Fragile(nn.Module):
    """Raises in its third call."""

    def __init__(self):
        super().__init__()
        self.calls, self.inner = 0, nn.Linear(6, 6)

    def forward(self, x):
        self.calls += 1
        if self.calls == 3:
            raise OSError("third call")
        return self.inner(x)


def test_an_error_of_the_model_reaches_the_caller_and_leaves_nothing():
    model = nn.Sequential(nn.Linear(6, 6), Fragile(), nn.Linear(6, 2))
    x = torch.randn(2, 6)
    with (
        pytest.raises(OSError, match="third call"),
        session_of(model, [model[0]], 2, x) as session,
    ):
        for _ in range(4):
            session.run(1, lambda index, activation: None)
    assert not any("forward" in module.__dict__ for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_user_s_own_forward_is_put_back():
    model, x = Residual(), torch.randn(2, 6)
    own = model.blocks[0].forward
    model.blocks[0].forward = own
    with session_of(model, [model.blocks[2]], 2, x) as session:
        session.run(1, noisy(0))
    assert model.blocks[0].__dict__["forward"] is own


def test_output_that_does_not_depend_on_the_layer():
    class Detached(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x):
            return self.second(self.first(x).detach())

    model = Detached()
    with (
        pytest.raises(RuntimeError, match="does not depend on layer"),
        session_of(model, [model.first], 2, torch.randn(2, 6)),
    ):
        pass


def test_borrowed_restores_every_flag_of_every_module():
    model = nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(), nn.Linear(6, 2))
    model[1].eval()
    model[2].weight.requires_grad_(False)
    with pytest.raises(KeyboardInterrupt), torch.no_grad(), borrowed([model]):
        assert torch.is_grad_enabled()
        assert not any(module.training for module in model.modules())
        assert not any(parameter.requires_grad for parameter in model.parameters())
        raise KeyboardInterrupt
    assert [module.training for module in model] == [True, False, True]
    assert [p.requires_grad for p in model.parameters()] == [True, True, False, True]


def test_roots_of_a_function_are_the_outermost_modules_it_calls():
    first, second = nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 6)), nn.Linear(6, 2)
    mean = first[0].running_mean.clone()
    x = torch.randn(4, 6)
    assert roots(lambda v: second(first(v)), lambda: second(first(x))) == [first, second]
    assert torch.equal(first[0].running_mean, mean)
    assert first[0].training
    assert roots(first, lambda: pytest.fail("a module need not be run")) == [first]


def test_inference_mode_of_the_caller_does_not_matter():
    model, x = Residual(), torch.randn(2, 6)
    with (
        torch.inference_mode(),
        session_of(model, [model.blocks[2]], 2, x) as session,
    ):
        assert session.run(1, lambda i, a: a.detach().requires_grad_().clone()).requires_grad
