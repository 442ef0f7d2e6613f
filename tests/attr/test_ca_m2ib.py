"""CA-M2IB: against M2IB, against loops that follow the definition, and on other modalities."""

import math

import pytest
import torch
from torch import nn

from captum_ib import CAM2IB, M2IB, DualEncoder, TokenLayout, zoo
from captum_ib.attr.ca_m2ib.attention import Attention, Guide
from captum_ib.attr.ca_m2ib.contributions import Contributions, contributions
from captum_ib.attr.ca_m2ib.facing import FacingCall
from captum_ib.bottleneck import damping_ratio
from captum_ib.forward import pair_calls
from tests.attr.cases import SUBJECTS
from tests.attr.sounds import sounds
from tests.models.duals import DUAL_ENCODERS


@pytest.fixture(scope="module")
def clip():
    return SUBJECTS["clip"]()


def attribute(subject, method=CAM2IB, **settings):
    options = {"additional_forward_args": subject.extra, "seed": 0, "n_steps": 4, **settings}
    return method(subject.model, subject.layers).attribute(subject.inputs, **options)


def test_without_cross_attention_it_is_m2ib_to_the_last_bit(clip):
    for settings in ({}, {"beta": (0.2, 0.01), "prior": "estimated"}, {"internal_batch_size": 4}):
        expected = attribute(clip, M2IB, **settings)
        found = attribute(clip, cross_attention=False, **settings)
        assert all(map(torch.equal, expected, found))


def test_a_guide_without_strength_is_m2ib(clip):
    off = {"guidance": 0.0, "target_strength": 0.0, "attention_lr": 0.0}
    for expected, found in zip(attribute(clip, M2IB), attribute(clip, **off), strict=True):
        assert torch.allclose(expected, found, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("changed", "moved"),
    [
        ({"guidance": 1.0}, (0.1453, 0.2039)),
        ({"target_strength": 0.1}, (0.0356, 0.0478)),
        ({"temperature": 2.0}, (0.0656, 0.0959)),
        ({"attention_lr": 0.5}, (0.0296, 0.0746)),
        ({"residual": True, "attention_lr": 0.5}, (0.514, 0.680)),
        ({"queries": "layer"}, (0.2526, 0.3218)),
        ({"keys": "tokens"}, (0.2238, 0.1404)),
        ({"gamma": 10.0}, (0.1526, 0.1182)),
        ({"variance": 4.0}, (0.5036, 0.4986)),
        ({"beta": 1.0}, (0.0695, 0.1451)),
    ],
)
def test_every_setting_moves_the_maps_by_so_much(clip, changed, moved):
    # ‖A − A'‖ / ‖A‖ of the two maps, the same to the fourth digit on a float64 copy of the model
    # (with W_O, which starts at 0 and grows by Adam's steps, to the third).
    pairs = zip(attribute(clip), attribute(clip, **changed), strict=True)
    found = [((plain - other).norm() / plain.norm()).item() for plain, other in pairs]
    assert found == pytest.approx(moved, rel=0.02)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("beta", (0.1, 2.0)),
        ("gamma", (1.0, 9.0)),
        ("variance", (1.0, 3.0)),
        ("guidance", (3.0, 0.0)),
        ("temperature", (0.1, 5.0)),
        ("target_strength", (1.0, 0.0)),
        ("attention_lr", (1e-3, 0.9)),
        ("residual", (False, True)),
    ],
)
def test_settings_per_tower(clip, name, values):
    extra = {"attention_lr": 0.9} if name == "residual" else {}
    first, second = (attribute(clip, **{name: value, **extra}) for value in values)
    both = attribute(clip, **{name: values, **extra})
    assert torch.equal(both[0], first[0])
    assert torch.equal(both[1], second[1])
    assert not torch.equal(both[1], first[1])


def test_only_the_ratio_of_gamma_and_beta_matters(clip):
    # Adam's steps don't change when the whole loss is scaled, but for its ε of 1e-8.
    off = {"attention_lr": 0.0}
    one = attribute(clip, gamma=8.0, beta=0.8, **off)
    other = attribute(clip, gamma=4.0, beta=0.4, **off)
    for a, b in zip(one, other, strict=True):
        assert torch.allclose(a, b, rtol=1e-2)


def test_contributions_are_what_the_embedding_loses(clip):
    dual, (pixels, ids) = clip.model, clip.inputs
    call = pair_calls(dual, (pixels, ids), clip.extra)[1]
    name = clip.layers[1]
    layer = (name, dual.model.get_submodule(name))
    found = contributions(call, layer, earliest=False)
    assert found.counts.tolist() == clip.extra.bool().tolist()
    activations = []
    handle = layer[1].register_forward_hook(lambda m, a, out: activations.append(out))
    with torch.no_grad():
        whole = dual.encode("text", ids, clip.extra)
    handle.remove()
    plain = isinstance(activations[0], torch.Tensor)  # transformers 4: a tuple
    for row, token in ((0, 2), (1, 1), (2, 0)):
        hidden = (activations[0] if plain else activations[0][0]).clone()
        valid = clip.extra[row].bool()
        hidden[row, token] = hidden[row, valid].mean(dim=0)
        replaced = hidden if plain else (hidden, *activations[0][1:])
        handle = layer[1].register_forward_hook(lambda m, a, out, new=replaced: new)
        with torch.no_grad():
            without = dual.encode("text", ids, clip.extra)
        handle.remove()
        assert torch.allclose(found.values[row, token], (whole - without)[row], atol=1e-6)


def test_contributions_are_taken_before_the_first_block(clip):
    call = pair_calls(clip.model, clip.inputs, clip.extra)[0]
    name = clip.layers[0]
    layer = (name, clip.model.model.get_submodule(name))
    early = contributions(call, layer)
    assert early.layout.grid == (4, 4)
    assert not early.counts[:, 0].any(), "the class token is no region"
    pixels = clip.inputs[0]
    embedded = clip.model.model.vision_model.pre_layrnorm
    seen = []
    handle = embedded.register_forward_hook(lambda m, a, out: seen.append(out))
    with torch.no_grad():
        whole = clip.model.encode("image", pixels)
    handle.remove()
    hidden = seen[0].clone()
    hidden[:, 5] = hidden.mean(dim=1)
    handle = embedded.register_forward_hook(lambda m, a, out: hidden)
    with torch.no_grad():
        without = clip.model.encode("image", pixels)
    handle.remove()
    assert torch.allclose(early.values[:, 5], whole - without, atol=1e-6)


TOKENS = TokenLayout("sequence")


@pytest.fixture
def side():
    """One side of two pairs with random tokens: five own, one of them without count, and four."""
    generator = torch.Generator().manual_seed(0)
    other = nn.functional.normalize(torch.randn(2, 8, generator=generator), dim=-1)
    queries, keys = (torch.randn(2, n, 8, generator=generator) for n in (5, 4))
    counts, keys_count = torch.ones(2, 5).bool(), torch.ones(2, 4).bool()
    counts[:, 0] = False
    keys_count[1, 3] = False
    return FacingCall(
        nn.Identity(), (torch.zeros(2, 1),), other=other,
        own=Contributions(queries, counts, TOKENS), facing=Contributions(keys, keys_count, TOKENS),
    )  # fmt: skip


def test_attention_follows_its_equation(side):
    guide = Guide(temperature=0.5, guidance=1.0, target_strength=2.0)
    attention = Attention(side, guide, TOKENS, torch.zeros(2, 5, 3))
    lam = damping_ratio(torch.randn(2, 5, 1, generator=torch.Generator().manual_seed(1)))
    share = lam.lam[..., 0]
    A, attended = attention.attend(lam)
    target, relevance = attention.target(attended, lam), -attention.weights(lam).squeeze(-1).log()
    for row in range(2):
        n = 4 if row == 0 else 3
        own, keys = side.own.values[row, 1:], side.facing.values[row, :n]
        own, keys = own / own.norm(dim=1).mean(), keys / keys.norm(dim=1).mean()
        expected = torch.softmax(share[row, 1:, None] * own @ keys.T / 0.5, dim=1)
        assert torch.allclose(A[row, 1:, :n], expected, atol=1e-6)
        assert A[row, 0].sum() == 0
        assert row == 0 or A[row, :, 3].sum() == 0
        seen = expected @ keys
        pooled = (share[row, 1:, None] * seen).sum(0)
        wanted = side.other[row] + 2 * pooled / pooled.norm()
        assert torch.allclose(target[row], wanted / wanted.norm(), atol=1e-6)
        agreement = (own * seen).sum(1)
        standard = (agreement - agreement.mean()) / agreement.std(correction=0)
        assert torch.allclose(relevance[row, 1:], standard, atol=1e-5)
        assert relevance[row, 0] == 0


def test_what_is_trained(side):
    def shapes(**settings):
        attention = Attention(side, Guide(**settings), TOKENS, torch.zeros(2, 5, 3))
        return [tuple(matrix.shape) for matrix in attention.parameters]

    assert shapes(guidance=1.0, lr=0.1) == [], "guidance is fixed at the start of the fit"
    assert shapes(target_strength=1.0) == [], "learning rate 0"
    assert shapes(target_strength=1.0, lr=0.1) == [(2, 8, 8)] * 3
    assert shapes(residual=True, lr=0.1) == [(2, 8, 8)] * 3 + [(2, 8, 3)]


def test_attention_is_returned_with_its_layout(clip):
    maps, (image, text) = attribute(clip, return_attention=True)
    assert [tuple(v.shape) for v in maps] == list(clip.shape)
    assert (image.query, image.key, text.query, text.key) == ("image", "text", "text", "image")
    assert image.weights.shape == (3, 17, 5)
    assert text.weights.shape == (3, 5, 17)
    assert image.query_layout == TokenLayout("tokens", 1, (4, 4)) == text.key_layout
    valid = clip.extra.float()
    assert torch.allclose(text.weights.sum(-1), valid, atol=1e-5)
    assert text.weights[..., 0].abs().max() == 0, "nothing looks at the class token"
    regions = text.over_keys()
    assert regions.shape == (3, 5, 4, 4)
    assert torch.equal(regions.flatten(2), text.weights[..., 1:])
    assert torch.equal(image.over_queries().flatten(2), image.weights[:, 1:].transpose(1, 2))
    assert torch.equal(image.over_keys(), image.weights)
    # 3 · 8² + 8 · 16 numbers per direction: joint space of 8, towers of width 16.
    assert image.n_parameters == text.n_parameters == 320


def test_attention_comes_behind_the_trace_and_in_parts_of_the_batch(clip):
    maps, traces, attention = attribute(clip, return_attention=True, return_trace=True)
    assert traces[0].loss.shape == (4, 3)
    parts = attribute(clip, return_attention=True, internal_batch_size=4)
    for whole, part in zip((*maps,), parts[0], strict=True):
        assert torch.allclose(whole, part, rtol=1e-4, atol=2e-5)
    for whole, part in zip(attention, parts[1], strict=True):
        # Other batch sizes sum in another order, and the fit amplifies it.
        assert torch.allclose(whole.weights, part.weights, rtol=1e-4, atol=2e-5)


def test_parameters_of_the_attention_on_the_zoo():
    loaded = zoo.load("clip-scenes")
    scenes = zoo.scenes.captioned(1, seed=0)
    ids, mask = loaded.tokenizer(scenes.captions)
    _, attention = CAM2IB(DualEncoder.from_model(loaded.model)).attribute(
        (loaded.normalize(scenes.images), ids),
        additional_forward_args=mask, seed=0, n_steps=1, return_attention=True,
    )  # fmt: skip
    assert [entry.n_parameters for entry in attention] == [16384, 16384]
    assert sum(p.numel() for p in loaded.model.parameters()) == 727425  # so 4.5 %


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"guidance": -1.0}, ValueError, "guidance must be finite and not negative, given -1.0"),
        ({"temperature": 0.0}, ValueError, "temperature must be positive and finite"),
        ({"attention_lr": math.inf}, ValueError, "attention_lr must be finite and not negative"),
        ({"target_strength": -0.5}, ValueError, "target_strength must be finite"),
        ({"residual": 1}, TypeError, "residual must be a bool, given int"),
        ({"gamma": 0.0}, ValueError, "gamma must be positive and finite, given 0.0"),
        ({"queries": "late"}, ValueError, 'queries must be "early" or "layer", given \'late\''),
        ({"keys": "words"}, ValueError, 'keys must be "contributions" or "tokens", given'),
        ({"temperature": (1.0, 1.0, 1.0)}, ValueError, "temperature must be one value or one per"),
        (
            {"cross_attention": False, "return_attention": True},
            ValueError,
            "return_attention=True needs cross_attention=True",
        ),
        ({"target": 1}, ValueError, "target must be None"),
    ],
)
def test_arguments_are_checked(clip, arguments, error, message):
    with pytest.raises(error, match=message):
        attribute(clip, **arguments)


def test_only_pairs():
    with pytest.raises(TypeError, match="CAM2IB explains pairs: .* given Linear"):
        CAM2IB(nn.Linear(2, 2))


@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in DUAL_ENCODERS])
def test_every_family(row):
    if row.missing() or row.slow:
        pytest.skip(row.missing() or "slow")
    method = CAM2IB(row.forward(row.model()))
    maps, attention = method.attribute(
        row.inputs(), additional_forward_args=row.additional(), seed=0, n_steps=3, n_samples=2,
        return_attention=True,
    )  # fmt: skip
    assert tuple(tuple(v.shape) for v in maps) == row.shapes["m2ib"]
    assert all(torch.isfinite(v).all() and v.std() > 0 for v in maps)
    grid = tuple(maps[0].shape[-2:])
    assert attention[1].over_keys().shape[-2:] == grid
    rows = attention[1].weights.sum(-1)
    assert torch.allclose(rows, rows.round(), atol=1e-4), "each row is a distribution, or empty"


def test_audio_the_named_sound_and_its_word_stand_out():
    """Fig. 4 of the paper, where the truth is known: the named sound, and the word for it."""
    dual, spectrogram, ids = sounds()
    (audio, text), (heard, read) = CAM2IB(dual).attribute(
        (spectrogram, ids), seed=0, return_attention=True
    )
    assert audio.shape == (3, 1, 4, 6)
    assert audio.flatten(1).argmax(dim=1).tolist() == [6, 7, 8]  # (1, 0), (1, 1), (1, 2)
    assert text.argmax(dim=1).tolist() == [2, 2, 2]
    looks = read.over_keys()
    assert looks[:, 2].flatten(1).argmax(dim=1).tolist() == [6, 7, 8]
    assert heard.over_keys()[torch.arange(3), [6, 7, 8]].argmax(dim=1).tolist() == [2, 2, 2]
