"""Any two or more encoders as a dual encoder, and a dual encoder as a classifier."""

from __future__ import annotations

import captum.attr
import pytest
import torch
from torch import Tensor, nn

from captum_ib import IBA, M2IB, NIB, CoIBA, DualEncoder, TokenLayout, TowerView, ZeroShotClassifier
from captum_ib.models.tower import Tower, named_blocks
from tests.models.duals import DUAL_ENCODERS, captions
from tests.models.rows import images, token_mask

WIDTH = 16


class Block(nn.Module):
    """Self-attention and a perceptron; the samples are on axis 1 where the sequence comes first."""

    def __init__(self, sequence_first: bool) -> None:
        super().__init__()
        self.axis = int(sequence_first)
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 32), nn.GELU(), nn.Linear(32, WIDTH))

    def forward(self, tokens: Tensor, valid: Tensor | None) -> Tensor:
        query, key, value = self.qkv(self.norm1(tokens)).transpose(0, self.axis).chunk(3, dim=-1)
        mask = None if valid is None else valid[:, None, :]
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, mask)
        tokens = tokens + mixed.transpose(0, self.axis)
        return tokens + self.mlp(self.norm2(tokens))


class Trunk(nn.Module):
    """Tokens with a class token in front, through blocks, to the joint space."""

    def __init__(self, stem: nn.Module, sequence_first: bool = False) -> None:
        super().__init__()
        self.stem = stem
        self.sequence_first = sequence_first
        self.class_token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.blocks = nn.ModuleList(Block(sequence_first) for _ in range(5))
        self.head = nn.Linear(WIDTH, 8, bias=False)

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        tokens = self.stem(values)
        tokens = torch.cat([self.class_token.expand(len(tokens), -1, -1), tokens], dim=1)
        valid = None if mask is None else nn.functional.pad(mask.bool(), (1, 0), value=True)
        axis = int(self.sequence_first)
        tokens = tokens.transpose(0, axis)
        for block in self.blocks:
            tokens = block(tokens, valid)
        return self.head(tokens.transpose(0, axis))


class Patches(nn.Sequential):
    def __init__(self, channels: int, size: tuple[int, int]) -> None:
        super().__init__(nn.Conv2d(channels, WIDTH, size, stride=size), nn.Flatten(2))

    def forward(self, values: Tensor) -> Tensor:
        return super().forward(values).transpose(1, 2)


class Bind(nn.Module):
    """Four modalities in one space, in the way of ImageBind: a stem, a trunk and a head for each.

    Audio is a mel spectrogram `(N, 1, mel bins, time)`, motion `(N, 6, time)`. Like ImageBind's,
    the blocks can take the sequence first.
    """

    def __init__(self, sequence_first: bool = False) -> None:
        super().__init__()
        stems = {
            "image": Patches(3, (8, 8)),
            "audio": Patches(1, (8, 8)),
            "text": nn.Embedding(30, WIDTH),
            "motion": nn.Sequential(nn.Conv1d(6, WIDTH, 4, stride=4), Transposed()),
        }
        self.trunks = nn.ModuleDict(
            {name: Trunk(stem, sequence_first) for name, stem in stems.items()}
        )


class Transposed(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return values.transpose(1, 2)


def bind(sequence_first: bool = False) -> DualEncoder:
    torch.manual_seed(0)
    model = Bind(sequence_first).eval()
    layouts = {
        "image": TokenLayout("tokens", prefix=1, grid=(4, 6)),
        # mel bins are the rows: one stretch of time, turned to (time, frequency)
        "audio": TokenLayout("tokens", prefix=1, grid=(2, 5), fold=1),
        "text": TokenLayout("sequence", prefix=1),
        "motion": TokenLayout("sequence", prefix=1),
    }

    def tower(name: str) -> Tower:
        trunk = model.trunks[name]
        return Tower(
            name,
            trunk,
            pooled=lambda values, mask: trunk(values, mask)[:, 0],
            tokens=trunk,
            blocks=named_blocks(model, f"trunks.{name}.blocks"),
            takes_mask=name == "text",
            token_mask=lambda values, mask: (
                None if mask is None else nn.functional.pad(mask.bool(), (1, 0), value=True)
            ),
            infer_layout=lambda *given: layouts[name],
            samples_axis=int(sequence_first),
        )

    return DualEncoder(model, [tower(name) for name in layouts])


def value_of(name: str) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shapes = {"audio": (2, 1, 16, 40), "motion": (2, 6, 20)}
    if name in shapes:
        return torch.randn(shapes[name], generator=generator)
    return images() if name == "image" else captions()


SHAPES = {"image": (2, 1, 4, 6), "audio": (2, 1, 5, 2), "text": (2, 7), "motion": (2, 5)}


@pytest.mark.parametrize("method", [M2IB, NIB])
@pytest.mark.parametrize(
    "pair", [("audio", "image"), ("audio", "text"), ("motion", "audio"), ("image", "text")]
)
def test_any_pair_of_modalities(method: type, pair: tuple[str, str]) -> None:
    dual = bind().pair(*pair)
    settings = {"n_steps": 2} if method is NIB else {"n_steps": 2, "n_samples": 2, "seed": 0}
    mask = token_mask() if "text" in pair else None
    maps = method(dual).attribute(
        (value_of(pair[0]), value_of(pair[1])), additional_forward_args=mask, **settings
    )
    assert [tuple(each.shape) for each in maps] == [SHAPES[name] for name in pair]
    for each in maps:
        assert torch.isfinite(each).all()
        assert (each.flatten(1).std(dim=1) > 0).all()
    if pair[1] == "text":
        assert (maps[1][token_mask() == 0] == 0).all()


@pytest.mark.parametrize("method", [M2IB, NIB])
def test_blocks_that_take_the_sequence_first_give_the_same_maps(method: type) -> None:
    inputs, mask = (value_of("audio"), value_of("text")), token_mask()
    settings = {"n_steps": 3} if method is NIB else {"n_steps": 3, "n_samples": 2, "seed": 0}
    maps = [
        method(bind(first).pair("audio", "text")).attribute(
            inputs, additional_forward_args=mask, **settings
        )
        for first in (False, True)
    ]
    for usual, sequence_first in zip(*maps, strict=True):
        torch.testing.assert_close(sequence_first, usual, rtol=1e-3, atol=1e-4)


def test_statistics_of_blocks_that_take_the_sequence_first() -> None:
    pairs = (value_of("audio"), value_of("text"), token_mask())
    found = [M2IB(bind(first).pair("audio", "text")).estimate([pairs]) for first in (False, True)]
    for name in found[0].layers:
        torch.testing.assert_close(found[1].mean(name), found[0].mean(name), rtol=1e-4, atol=1e-5)


def test_the_sequence_first_without_saying_so_is_refused() -> None:
    dual = bind(sequence_first=True)
    for tower in dual._towers.values():
        tower.samples_axis = 0
    with pytest.raises(ValueError, match=r"the 2 samples on axis 0; .*samples_axis=1"):
        NIB(dual.pair("audio", "text")).attribute((value_of("audio"), value_of("text")))


def test_a_sound_is_found_in_an_encoder_with_frequency_first() -> None:
    dual = bind()
    tower = dual.tower("audio")
    values = torch.zeros(1, 1 + 2 * 5, WIDTH)
    values[0, 1 + 1 * 5 + 3] = 1.0  # second row of mel bins, fourth patch in time
    layout = tower.layout(tower.blocks[0][1], values, (value_of("audio"),), "block")
    assert layout.attribution(values)[0, 0].nonzero().tolist() == [[3, 1]]


def test_modalities_layers_and_embeddings() -> None:
    dual = bind()
    assert dual.modalities == ("image", "audio", "text", "motion")
    assert [len(layers) for layers in dual.layers.values()] == [5] * 4
    assert dual.default_layer("audio")[0] == "trunks.audio.blocks.3"
    audio = dual.encode("audio", value_of("audio"))
    torch.testing.assert_close(audio.norm(dim=-1), torch.ones(2))
    assert dual.tokens("text", captions(), token_mask()).shape == (2, 8, 8)
    text = dual.encode("text", captions(), token_mask())
    pair = dual.pair("audio", "text")
    expected = (audio * text).sum(dim=-1)
    torch.testing.assert_close(pair(value_of("audio"), captions(), token_mask()), expected)


def test_captums_own_methods_take_it() -> None:
    dual = bind()
    method = captum.attr.Saliency(lambda pixels, ids: dual(pixels, value_of("audio")))
    inputs = images().requires_grad_()
    assert method.attribute(inputs, additional_forward_args=captions()).shape == (2, 3, 32, 48)


def test_what_is_refused() -> None:
    dual = bind()
    with pytest.raises(ValueError, match=r"unknown modality 'touch', .*\('image', 'audio', 'text'"):
        dual.encode("touch", images())
    with pytest.raises(ValueError, match=r"at least two towers of different names, .*\['image'\]"):
        DualEncoder(dual.model, [dual.tower("image")])
    with pytest.raises(ValueError, match="different names"):
        DualEncoder(dual.model, [dual.tower("image"), dual.tower("image")])
    with pytest.raises(ValueError, match=r"given 1 masks, but 0 of \('image', 'audio'\) take one"):
        dual(images(), value_of("audio"), token_mask())


def squares() -> Tensor:
    return images(2, 32, 32)


def clip() -> DualEncoder:
    return DualEncoder.from_model(DUAL_ENCODERS[0].model())


def test_from_model_of_a_dual_encoder_is_itself() -> None:
    dual = clip()
    assert DualEncoder.from_model(dual) is dual


def test_a_tower_view_is_the_cosine_to_a_constant() -> None:
    dual = clip()
    inputs, ids, mask = squares(), captions(), token_mask()
    with torch.no_grad():
        view = TowerView(dual, "image", dual.encode("text", ids, mask))
        torch.testing.assert_close(view(inputs), dual(inputs, ids, mask))
        # draw by draw: the constant repeats
        twice = view(inputs.repeat(2, 1, 1, 1))
    torch.testing.assert_close(twice, view(inputs).repeat(2))
    assert view.blocks()[0][0] == "vision_model.encoder.layers.0"


class TestZeroShotClassifier:
    """Two prompts as two classes."""

    def test_logits_are_scaled_cosines(self) -> None:
        dual = clip()
        classifier = ZeroShotClassifier(dual, captions(), token_mask(), scale=10.0)
        with torch.no_grad():
            logits = classifier(squares())
            expected = [
                10 * dual(squares(), captions()[[i, i]], token_mask()[[i, i]]) for i in (0, 1)
            ]
        torch.testing.assert_close(logits, torch.stack(expected, dim=1))

    def test_the_scale_is_the_models_own(self) -> None:
        dual = clip()
        own = float(dual.model.logit_scale.detach().exp())
        assert ZeroShotClassifier(dual, captions()).scale == pytest.approx(own)

    def test_prompts_of_one_class_are_averaged(self) -> None:
        dual = clip()
        classifier = ZeroShotClassifier(dual, captions(), prompts_per_class=2)
        with torch.no_grad():
            mean = dual.encode("text", captions()).mean(dim=0, keepdim=True)
        torch.testing.assert_close(classifier.weights, nn.functional.normalize(mean, dim=-1))
        with pytest.raises(ValueError, match="2 prompts can't be divided into classes of 3"):
            ZeroShotClassifier(dual, captions(), prompts_per_class=3)

    @pytest.mark.parametrize(
        ("method", "layer"),
        [(IBA, "layers.2"), (CoIBA, "layers.1.layer_norm1"), (NIB, "layers.3")],
    )
    def test_it_has_default_layers(self, method: type, layer: str) -> None:
        explainer = method(ZeroShotClassifier(clip(), captions(), token_mask()))
        assert explainer.layers[0][0] == f"dual.model.vision_model.encoder.{layer}"
        settings = {"n_steps": 2} if method is NIB else {"n_steps": 2, "n_samples": 2, "seed": 0}
        assert explainer.attribute(squares(), target=1, **settings).shape == (2, 1, 4, 4)

    def test_its_name_is_the_layers_own_name(self) -> None:
        classifier = ZeroShotClassifier(clip(), captions())
        name, layer = CoIBA(classifier).layers[0]
        assert classifier.get_submodule(name) is layer
