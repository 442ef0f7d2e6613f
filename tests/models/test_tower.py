"""Towers are modules: copied, pickled, moved and counted with the model whose parts they are."""

from __future__ import annotations

import copy
import io
import pickle
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from captum_ib import M2IB, NIB, DualEncoder, TokenLayout, ZeroShotClassifier
from captum_ib.models import TowerEmbedding, TowerView
from captum_ib.models.tower import Tower, named_blocks
from tests.models.duals import DUAL_ENCODERS, captions
from tests.models.rows import images, pickled, token_mask
from tests.models.test_dual_encoder import Bind, Trunk, bind, value_of


class TrunkTower(Tower):
    """A tower as a subclass, with no function in it."""

    def __init__(self, model: Bind, name: str) -> None:
        blocks = named_blocks(model, f"trunks.{name}.blocks")
        super().__init__(name, model.trunks[name], blocks=blocks, takes_mask=name == "text")

    def pooled(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.module(inputs, mask)[:, 0]

    def tokens(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.module(inputs, mask)

    def token_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor | None:
        return None if mask is None else nn.functional.pad(mask.bool(), (1, 0), value=True)

    def layout(
        self, layer: nn.Module, activation: Tensor, inputs: tuple[Tensor, ...], name: str
    ) -> TokenLayout:
        if self.name == "text":
            return TokenLayout("sequence", prefix=1)
        return TokenLayout("tokens", prefix=1, grid=(2, 5), fold=1)


def sounds_and_texts() -> DualEncoder:
    torch.manual_seed(0)
    model = Bind().eval()
    return DualEncoder(model, [TrunkTower(model, "audio"), TrunkTower(model, "text")])


def inputs() -> tuple[Tensor, Tensor]:
    return value_of("audio"), value_of("text")


def clip() -> DualEncoder:
    return DualEncoder.from_model(DUAL_ENCODERS[0].model())


def saved_and_loaded(dual: DualEncoder) -> DualEncoder:
    file = io.BytesIO()
    torch.save(dual, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def test_a_tower_is_a_module_whose_call_is_the_pooled_embedding() -> None:
    tower = sounds_and_texts().tower("text")
    assert isinstance(tower, nn.Module)
    _, ids = inputs()
    expected = tower.module(ids, token_mask())[:, 0]
    torch.testing.assert_close(tower(ids, token_mask()), expected, rtol=0, atol=0)
    torch.testing.assert_close(tower.pooled(ids, token_mask()), expected, rtol=0, atol=0)


@pytest.mark.parametrize("method", [M2IB, NIB])
def test_methods_and_functions_are_the_same_tower(method: type) -> None:
    maps = [
        method(dual).attribute(inputs(), additional_forward_args=token_mask(), n_steps=2, **seeded)
        for dual in (sounds_and_texts(), bind().pair("audio", "text"))
        for seeded in [{} if method is NIB else {"n_samples": 2, "seed": 0}]
    ]
    for of_methods, of_functions in zip(*maps, strict=True):
        torch.testing.assert_close(of_methods, of_functions, rtol=0, atol=0)


@pytest.mark.parametrize("again", [copy.deepcopy, pickled, saved_and_loaded])
def test_a_copy_has_weights_of_its_own(again) -> None:
    dual = sounds_and_texts()
    other = again(dual)
    with torch.no_grad():
        before = dual(*inputs(), token_mask())
        torch.testing.assert_close(other(*inputs(), token_mask()), before, rtol=0, atol=0)
        other.model.trunks["audio"].head.weight.neg_()  # cos becomes -cos, in the copy only
        torch.testing.assert_close(other(*inputs(), token_mask()), -before)
        torch.testing.assert_close(dual(*inputs(), token_mask()), before, rtol=0, atol=0)
    for name in other.modalities:
        for key, block in other.tower(name).blocks:
            assert other.model.get_submodule(key) is block


@pytest.mark.parametrize("make", [sounds_and_texts, clip], ids=["own", "CLIP"])
def test_a_pickled_method_gives_the_same_map(make) -> None:
    dual = make()
    first = images(2, 32, 32) if "image" in dual.modalities else value_of("audio")
    arguments = {"additional_forward_args": token_mask(), "n_steps": 2, "n_samples": 2, "seed": 0}
    method = M2IB(dual)
    maps = [each.attribute((first, captions()), **arguments) for each in (method, pickled(method))]
    for one, other in zip(*maps, strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=0)


def test_functions_can_not_be_copied_or_pickled() -> None:
    dual = bind()
    refused = pytest.raises(
        TypeError, match=r"the image tower can't be copied or pickled: .*; subclass Tower"
    )
    with refused:
        copy.deepcopy(dual)
    with refused:
        pickle.dumps(dual)


def first_of(trunk: Trunk, values: Tensor, mask: Tensor | None) -> Tensor:
    return trunk(values, mask)[:, 0]


def test_what_holds_its_module_is_copied_with_it() -> None:
    """A module, a bound method and a partial carry their weights along, unlike a function."""
    model = Bind().eval()
    towers = [
        Tower(
            name,
            model.trunks[name],
            pooled=partial(first_of, model.trunks[name]),
            tokens=model.trunks[name].forward,
            blocks=named_blocks(model, f"trunks.{name}.blocks"),
        )
        for name in ("image", "audio")
    ]
    dual = DualEncoder(model, towers)
    other = copy.deepcopy(dual)
    with torch.no_grad():
        other.model.trunks["audio"].head.weight.mul_(-1)
        pair = images(), value_of("audio")
        torch.testing.assert_close(other(*pair), -dual(*pair))
        torch.testing.assert_close(other.tokens("audio", pair[1]), -dual.tokens("audio", pair[1]))


def test_a_tower_without_embeddings_is_refused() -> None:
    with pytest.raises(TypeError, match=r"the image tower has no pooled; give pooled=, .*subclass"):
        Tower("image", nn.Identity(), tokens=lambda inputs, mask: inputs)
    with pytest.raises(TypeError, match="the image tower has no tokens"):
        Tower("image", nn.Identity(), pooled=lambda inputs, mask: inputs)


def test_a_tower_without_blocks_has_no_default_layer() -> None:
    dual = sounds_and_texts()
    dual.tower("audio").blocks = []
    with pytest.raises(ValueError, match="the audio tower has no blocks; give it blocks="):
        dual.default_layer("audio")


@pytest.mark.parametrize("make", [sounds_and_texts, bind, clip], ids=["own", "functions", "CLIP"])
def test_parameters_have_one_name_and_are_counted_once(make) -> None:
    dual = make()
    state = list(dual.state_dict())
    assert state == [f"model.{name}" for name in dual.model.state_dict()]
    names = [name for name, _ in dual.named_parameters(remove_duplicate=False)]
    assert names == [f"model.{name}" for name, _ in dual.model.named_parameters()]
    view = TowerView(dual, dual.modalities[0], torch.ones(1, 8))
    assert list(view.state_dict()) == [f"dual.{name}" for name in state]
    assert [name for name, _ in view.named_parameters()] == [f"dual.{name}" for name in names]


def test_a_towers_own_parameters_are_those_of_its_encoder_and_projection() -> None:
    dual = clip()
    own = {id(parameter) for parameter in dual.tower("image").parameters()}
    model = dual.model
    expected = [*model.vision_model.parameters(), *model.visual_projection.parameters()]
    assert own == {id(parameter) for parameter in expected}


def test_moving_and_training_reach_everything() -> None:
    dual = clip().double().train()
    for name in dual.modalities:
        tower = dual.tower(name)
        assert {value.dtype for value in tower.parameters()} == {torch.float64}
        assert all(module.training for module in tower.module.modules())
    assert dual.encode("image", images(2, 32, 32).double()).dtype == torch.float64
    assert not any(module.training for module in dual.eval().tower("text").module.modules())


def switched() -> tuple[nn.Module, DualEncoder, list[tuple[str, bool]]]:
    """A model that is switched to training, but for a frozen part, after it became a pair."""
    dual = clip()
    model = dual.model.train()
    model.text_model.eval()
    return model, dual, flags(dual)


def flags(module: nn.Module) -> list[tuple[str, bool]]:
    return [(name, part.training) for name, part in module.named_modules()]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda dual: DualEncoder.from_model(dual.model),
        lambda dual: dual.pair("text", "image"),
        lambda dual: TowerEmbedding(dual, "image"),
        lambda dual: TowerView(dual, "image", torch.ones(1, 16)),
        lambda dual: ZeroShotClassifier(dual, captions(), token_mask()),
    ],
    ids=["DualEncoder", "pair", "TowerEmbedding", "TowerView", "ZeroShotClassifier"],
)
def test_a_wrapper_leaves_the_training_flags_alone(wrap) -> None:
    model, dual, before = switched()
    wrapper = wrap(dual)
    assert flags(dual) == before
    assert (model.training, model.text_model.training) == (True, False)
    # The wrapper's own flag is that of what it is given.
    assert wrapper.training is (model.training if isinstance(wrapper, DualEncoder) else False)


@pytest.mark.parametrize("method", [M2IB, NIB])
def test_a_model_in_training_mode_comes_back_in_it(method: type) -> None:
    _, dual, before = switched()
    explainer = method(dual)
    settings = {} if method is NIB else {"n_samples": 2, "seed": 0}
    explainer.attribute(
        (images(2, 32, 32), captions()), additional_forward_args=token_mask(), n_steps=2, **settings
    )
    assert flags(dual) == before


def test_the_embedding_of_a_tower_as_a_forward_function() -> None:
    dual = sounds_and_texts()
    _, ids = inputs()
    view = TowerEmbedding(dual, "text")
    with torch.no_grad():
        found = view(ids, token_mask())
        expected = dual.encode("text", ids, token_mask())
        twice = view(ids.repeat(2, 1), token_mask().repeat(2, 1))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(2))
    torch.testing.assert_close(twice, found.repeat(2, 1))
    assert view.tower is dual.tower("text")
    assert [name for name, _ in view.blocks()] == [f"trunks.text.blocks.{i}" for i in range(5)]
    expected = nn.functional.pad(token_mask().bool(), (1, 0), value=True)
    assert torch.equal(view.valid_tokens(ids, token_mask()), expected)
    layer = view.blocks()[0][1]
    assert view.layout(layer, torch.zeros(2, 8, 16), (ids,), "") == TokenLayout(
        "sequence", prefix=1
    )


def test_the_cosine_is_the_embedding_times_the_other() -> None:
    dual = sounds_and_texts()
    sound, ids = inputs()
    with torch.no_grad():
        other = dual.encode("text", ids, token_mask())
        cosine = TowerView(dual, "audio", other)(sound)
        embedding = TowerEmbedding(dual, "audio")(sound)
    torch.testing.assert_close(cosine, (embedding * other).sum(dim=-1), rtol=0, atol=0)


def test_a_classifier_whose_blocks_take_the_sequence_first() -> None:
    maps = []
    for sequence_first in (False, True):
        dual = bind(sequence_first).pair("image", "text")
        classifier = ZeroShotClassifier(dual, captions(), token_mask())
        assert classifier.samples_axis == int(sequence_first)
        maps.append(NIB(classifier).attribute(images(), target=1, n_steps=3))
    assert maps[0].shape == (2, 1, 4, 6)
    torch.testing.assert_close(maps[1], maps[0], rtol=1e-3, atol=1e-4)
