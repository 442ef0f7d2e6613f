"""CoM2IB: against CoIBA on the towers of a pair, its default layers, every family."""

import pytest
import torch
from torch import nn

from captum_ib import M2IB, CoIBA, CoM2IB, DualEncoder, TowerView, zoo
from captum_ib.attr.com2ib import default_sites
from tests.attr.cases import SUBJECTS, two_blocks
from tests.models.duals import DUAL_ENCODERS


@pytest.fixture(scope="module")
def clip():
    return SUBJECTS["clip"]()


def attribute(subject, **settings):
    options = {"additional_forward_args": subject.extra, "seed": 0, "n_steps": 4, **settings}
    return CoM2IB(subject.model, two_blocks(subject)).attribute(subject.inputs, **options)


def test_it_is_coiba_on_each_tower(clip):
    dual, (pixels, ids) = clip.model, clip.inputs
    with torch.no_grad():
        image, text = dual.encode("image", pixels), dual.encode("text", ids, clip.extra)
    settings = {"seed": 0, "n_steps": 4, "beta": 0.5, "channel": "uniform"}
    found = attribute(clip, beta=0.5, channel="uniform")
    views = TowerView(dual, "image", text), TowerView(dual, "text", image)
    layers = [[dual.model.get_submodule(n) for n in names] for names in two_blocks(clip)]
    expected = (
        CoIBA(views[0], layers[0]).attribute(pixels, **settings),
        CoIBA(views[1], layers[1]).attribute(
            ids, additional_forward_args=clip.extra, **settings
        ),
    )  # fmt: skip
    assert all(map(torch.equal, expected, found))


def test_with_one_layer_it_is_m2ib(clip):
    options = {"additional_forward_args": clip.extra, "seed": 0, "beta": 0.1, "n_steps": 4}
    expected = M2IB(clip.model, clip.layers).attribute(clip.inputs, **options)
    single = CoM2IB(clip.model, [[name] for name in clip.layers])
    found = single.attribute(clip.inputs, prior="standard", channel="elementwise", **options)
    assert all(map(torch.equal, expected, found))


def test_channels_by_themselves_are_elementwise_on_grids_and_uniform_on_sequences(clip):
    automatic = attribute(clip)
    assert torch.equal(automatic[0], attribute(clip, channel="elementwise")[0])
    assert torch.equal(automatic[1], attribute(clip, channel="uniform")[1])
    assert not torch.equal(automatic[1], attribute(clip, channel="elementwise")[1])


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("beta", (0.03, 3.0)),
        ("channel", ("uniform", "elementwise")),
        ("guidance", (0.0, 3.0)),
        ("temperature", (0.1, 5.0)),
        ("variance", (1.0, 9.0)),
    ],
)
def test_settings_per_tower(clip, name, values):
    extra = {"temperature": {"guidance": 2.0}, "variance": {"prior": "standard"}}.get(name, {})
    first, second = (attribute(clip, **{name: value, **extra}) for value in values)
    both = attribute(clip, **{name: values, **extra})
    assert torch.equal(both[0], first[0])
    assert torch.equal(both[1], second[1])
    assert not torch.allclose(both[1], first[1], rtol=1e-3)


def test_references_and_estimate_agree(clip):
    method = CoM2IB(clip.model, two_blocks(clip))
    generator = torch.Generator().manual_seed(0)
    ids = torch.tensor([[18, 3, 4, 5, 2, 19, 0], [18, 7, 7, 19, 0, 0, 0]])
    references = (torch.rand(2, 3, 16, 16, generator=generator), ids, (ids != 0).long())
    options = {"additional_forward_args": clip.extra, "seed": 0, "n_steps": 3}
    plain = method.attribute(clip.inputs, **options)
    given = method.attribute(clip.inputs, references, **options)
    names = [name for names in two_blocks(clip) for name in names]
    assert sorted(method.estimate([references]).layers) == sorted(names)
    for one, other, own in zip(given, method.attribute(clip.inputs, **options), plain, strict=True):
        assert torch.equal(one, other)
        assert not torch.allclose(one, own, rtol=1e-3)


def test_default_layers_are_all_first_normalisations():
    dual = DualEncoder.from_model(zoo.load("clip-scenes").model)
    names = [name for name, _ in CoM2IB(dual).layers]
    image = [f"vision_model.encoder.layers.{i}.layer_norm1" for i in range(8)]
    assert names == image + [f"text_model.encoder.layers.{i}.layer_norm1" for i in range(6)]


def test_default_layers_of_a_tower_with_stages_are_its_longest_run_of_equal_blocks():
    row = next(row for row in DUAL_ENCODERS if row.name == "CLAP")
    names = [name for name, _ in default_sites(row.forward(row.model()), "audio")]
    stage = "audio_model.audio_encoder.layers.1.blocks"
    assert names == [f"{stage}.0.layernorm_before", f"{stage}.1.layernorm_before"]


@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in DUAL_ENCODERS])
def test_every_family(row):
    if row.missing() or row.slow:
        pytest.skip(row.missing() or "slow")
    method = CoM2IB(row.forward(row.model()))
    maps = method.attribute(
        row.inputs(), additional_forward_args=row.additional(), seed=0, n_steps=3, n_samples=2
    )
    for values, expected in zip(maps, row.shapes["m2ib"], strict=True):
        assert values.ndim == len(expected)
        assert values.shape[0] == expected[0]
        assert torch.isfinite(values).all()
        assert values.std() > 0


@pytest.mark.parametrize(
    ("layers", "arguments", "error", "message"),
    [
        (["a"], {}, ValueError, r"layers must be two sequences of layers .* given \['a'\]"),
        ("a", {}, ValueError, "layers must be two sequences of layers .* given 'a'"),
        ([[], None], {}, ValueError, "empty sequence of layers"),
        (None, {"channel": "half"}, ValueError, "channel must be one of"),
        (None, {"guidance": -1.0}, ValueError, "guidance must be finite and not negative"),
        (None, {"beta": (1.0, 1.0, 1.0)}, ValueError, "beta must be one value or one per tower"),
        (None, {"target": 0}, ValueError, "target must be None, given 0"),
    ],
)
def test_arguments_are_checked(clip, layers, arguments, error, message):
    with pytest.raises(error, match=message):
        CoM2IB(clip.model, layers).attribute(
            clip.inputs, additional_forward_args=clip.extra, n_steps=2, **arguments
        )


def test_only_pairs():
    with pytest.raises(TypeError, match="CoM2IB explains pairs: .* given Linear"):
        CoM2IB(nn.Linear(2, 2))
