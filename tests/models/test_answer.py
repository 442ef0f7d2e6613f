"""Pixels → log-probability of an answer, for models that generate."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from captum_ib import IBA, NIB, CoIBA, TokenLayout
from captum_ib.bottleneck import Damping
from captum_ib.models import AnswerLogProbability
from tests.models.generators import ANSWER, BY_NAME, GENERATORS, IMAGE_TOKEN, PROMPTS
from tests.models.rows import Row, images

EVERY = pytest.mark.parametrize("row", GENERATORS, ids=lambda row: row.name)
ONE_GRID = pytest.mark.parametrize("row", GENERATORS[:2], ids=lambda row: row.name)


def pixels() -> Tensor:
    return images(2, 32, 32)


def built(row: Row) -> AnswerLogProbability:
    if row.missing():
        pytest.skip(row.missing())
    return row.forward(row.model())  # type: ignore[return-value]


def next_token(row: Row, model: nn.Module, given: Tensor) -> Tensor:
    """log p(· | image, prompt, given) by the plain model, one step of generation."""
    prompt = PROMPTS[row.name]
    ids = torch.cat([prompt, given])[None]
    arguments = {"attention_mask": torch.ones_like(ids), **BY_NAME[row.name].extra}
    if row.name == "PaliGemma":
        types = torch.cat([torch.zeros_like(prompt), torch.ones_like(given)])
        arguments["token_type_ids"] = types[None]
        arguments["labels"] = ids  # transformers 4 reads the types only with labels
    if row.name == "Gemma 3":  # as its processor gives them
        arguments["token_type_ids"] = (ids == IMAGE_TOKEN).long()
    if row.name.startswith("Qwen"):
        arguments["mm_token_type_ids"] = (ids == IMAGE_TOKEN).long()
    found = []
    for one in row.inputs():  # as the processor gives one sample
        packed = row.name.startswith("Qwen") or row.name == "InternVL"
        values = one if packed else one[None]
        with torch.no_grad():
            logits = model(input_ids=ids, pixel_values=values, **arguments).logits
        found.append(logits[0, -1].log_softmax(dim=-1))
    return torch.stack(found)


@EVERY
def test_it_is_the_sum_over_single_steps(row: Row) -> None:
    forward = built(row)
    steps = [
        next_token(row, forward.model, ANSWER[:step])[:, token]
        for step, token in enumerate(ANSWER.tolist())
    ]
    with torch.no_grad():
        torch.testing.assert_close(forward(row.inputs()), torch.stack(steps).sum(dim=0))
        for token, step in zip(forward.each(), steps, strict=True):
            torch.testing.assert_close(token(row.inputs()), step)


@EVERY
def test_pictures_and_words_of_a_map_over_all_tokens(row: Row) -> None:
    """Every token has its place: the values are the places themselves."""
    forward, asked = built(row), BY_NAME[row.name]
    total = len(asked.prompt) + len(ANSWER)
    places = torch.arange(total).expand(2, -1)
    parts = forward.parts(places, row.inputs())
    assert [tuple(one.shape[2:]) for one in parts.images] == asked.grids
    is_image = asked.prompt == IMAGE_TOKEN
    assert torch.equal(parts.prompt[1], (~is_image).nonzero()[:, 0])
    assert torch.equal(parts.prompt_ids[0], asked.prompt[~is_image])
    assert torch.equal(parts.answer[0], torch.arange(total)[-3:])
    shown = torch.cat([one[0].flatten() for one in parts.images])
    expected = is_image.nonzero()[:, 0]
    if "tiles joined" in asked.note:  # a token behind each of the four rows of eight is no patch
        ends = expected[16:].view(4, 9)[:, -1]
        expected = expected[~torch.isin(expected, ends)]
    assert torch.equal(shown, expected)


@EVERY
def test_a_map_per_token_of_the_answer(row: Row) -> None:
    """The first token's map owes nothing to what comes behind it."""
    forward, inputs = built(row), row.inputs()
    first = next(forward.each())
    layer = forward.blocks()[1][0]
    sequence = TokenLayout("sequence")
    found = NIB(first, layer).attribute(inputs, layout=sequence, n_steps=2)
    parts = forward.parts(found, inputs)
    assert float(parts.answer.abs().max()) == 0
    assert all(float(one.abs().sum()) > 0 for one in parts.images)
    again = NIB(forward, layer).attribute(inputs, layout=sequence, n_steps=2)
    whole = sum(
        NIB(one, layer).attribute(inputs, layout=sequence, n_steps=2) for one in forward.each()
    )
    torch.testing.assert_close(whole, again, rtol=1e-3, atol=1e-5)


@ONE_GRID
def test_a_shorter_answer_in_a_batch_ends_where_it_ends(row: Row) -> None:
    forward = built(row)
    answers = torch.stack([ANSWER, torch.tensor([11, -100, -100])])
    prompts = PROMPTS[row.name].expand(2, -1)
    with torch.no_grad():
        both = forward(pixels(), prompts, answers)
        first = next_token(row, forward.model, ANSWER[:0])[1, 11]
        torch.testing.assert_close(both, torch.stack([forward(pixels())[0], first]))


@ONE_GRID
@pytest.mark.parametrize("method", [IBA, CoIBA, NIB])
def test_layers_of_vision_projector_and_language(row: Row, method: type) -> None:
    forward = built(row)
    projector = next(
        name for name, _ in forward.named_modules() if name.endswith("multi_modal_projector")
    )
    settings = {"n_steps": 2} if method is NIB else {"n_steps": 2, "n_samples": 2, "seed": 0}
    for layer in (forward.vision_blocks()[1][0], projector, forward.blocks()[2][0]):
        explainer = method(forward, [layer] if method is CoIBA else layer)
        to_input = {"attribute_to_layer_input": False} if layer == projector else {}
        result = explainer.attribute(pixels(), **settings, **to_input)
        assert result.shape == (2, 1, 4, 4)
        assert (result.flatten(1).std(dim=1) > 0).all()


@ONE_GRID
def test_all_tokens_of_the_language_model(row: Row) -> None:
    forward = built(row)
    result = IBA(forward).attribute(
        pixels(), n_steps=2, n_samples=2, seed=0, layout=TokenLayout("sequence")
    )
    length = len(PROMPTS[row.name]) + len(ANSWER)
    assert result.shape == (2, length)
    ((start, stop),) = forward.image_runs
    image = IBA(forward).attribute(pixels(), n_steps=2, n_samples=2, seed=0)
    torch.testing.assert_close(result[:, start:stop], image.flatten(1))


def test_smoothing_leaves_the_text_alone() -> None:
    """σ of 1 cell on the image's tokens; the tokens of the prompt and the answer keep their λ."""
    forward = built(GENERATORS[0])
    layout = forward.layout(
        forward.get_submodule(forward.blocks()[1][0]), torch.zeros(2, 22, 16), (pixels(),), "l"
    )
    assert (layout.prefix, layout.grid, layout.suffix) == (0, (4, 4), 6)
    damping = Damping.shared([torch.zeros(2, 22, 16)], [layout], uniform=True, smoothing=1.0)
    (alpha,) = damping.alphas
    with torch.no_grad():
        alpha.copy_(torch.randn(2, 22, 1, generator=torch.Generator().manual_seed(0)))
        kept = damping(0).lam
    torch.testing.assert_close(kept[:, 16:], torch.sigmoid(alpha[:, 16:]).detach())
    assert not torch.allclose(kept[:, :16], torch.sigmoid(alpha[:, :16]))


def test_an_answer_of_each_samples_own() -> None:
    row = GENERATORS[0]
    forward = built(row)
    answers = torch.stack([ANSWER, ANSWER.flip(0)])
    own = (PROMPTS[row.name].expand(2, -1), answers)
    method = NIB(forward)
    together = method.attribute(pixels(), additional_forward_args=own, n_steps=2)
    alone = method.attribute(
        pixels()[1:], additional_forward_args=tuple(ids[1:] for ids in own), n_steps=2
    )
    torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-6)


def test_an_image_whose_grid_can_not_be_told() -> None:
    forward = built(GENERATORS[0])
    forward._vision = ("vision", nn.Identity())  # a tower that states no patch size
    with pytest.raises(ValueError, match="can't tell where the image's 16 tokens lie in layer"):
        IBA(forward).attribute(pixels(), n_steps=2, n_samples=2, seed=0)


def test_what_is_refused() -> None:
    row = GENERATORS[0]
    model, prompt = row.model(), PROMPTS[row.name]
    with pytest.raises(ValueError, match="the answer is empty"):
        AnswerLogProbability(model, prompt, ANSWER[:0])
    with pytest.raises(ValueError, match="needs image placeholders .id 39.*given .0. of them"):
        AnswerLogProbability(model, prompt[-3:], ANSWER)
    with pytest.raises(ValueError, match="at the same places in every row, given .16, 16. of them"):
        AnswerLogProbability(model, torch.stack([prompt, prompt.flip(0)]), ANSWER)
    with pytest.raises(ValueError, match="places in the answer, 0 to 2, given .3."):
        AnswerLogProbability(model, prompt, ANSWER, tokens=[3])
    with pytest.raises(ValueError, match="tensors of one sample, and there are 2 prompts"):
        AnswerLogProbability(model, prompt.expand(2, -1), ANSWER, {"sizes": torch.zeros(1)})
    with pytest.raises(ValueError, match="a map over all tokens has shape .N, 22., given .2, 5."):
        AnswerLogProbability(model, prompt, ANSWER).parts(torch.zeros(2, 5), pixels())
    with pytest.raises(TypeError, match="Linear has no vision_tower or vision_model or visual"):
        AnswerLogProbability(nn.Linear(2, 2), prompt, ANSWER)


def test_it_leaves_the_training_flags_alone() -> None:
    """A model that is trained with a frozen part stays so."""
    model = GENERATORS[0].model().train()
    name, frozen = next(
        (name, part) for name, part in model.named_modules() if name.endswith("vision_tower")
    )
    frozen.eval()
    before = [part.training for part in model.modules()]
    forward = GENERATORS[0].forward(model)
    assert [part.training for part in model.modules()] == before
    assert forward.training and not model.get_submodule(name).training


def test_packed_patches_need_an_axis_of_samples() -> None:
    row = next(row for row in GENERATORS if row.name == "Qwen2-VL")
    forward = built(row)
    with pytest.raises(ValueError, match=r"pass the processor's pixel_values\[None\]"):
        forward(row.inputs()[0])


def test_a_grid_that_does_not_fit_is_no_grid() -> None:
    """Tokens that what was said does not fill stay a sequence."""
    row = next(row for row in GENERATORS if row.name == "Qwen2-VL")
    model = row.model()
    forward = AnswerLogProbability(
        model, PROMPTS[row.name], ANSWER, {"image_grid_thw": torch.tensor([[1, 8, 10]])}
    )
    (one,) = forward.pictures(row.inputs())
    assert one.grid is None and (one.start, one.stop) == (2, 26)


def test_captums_llm_attribution_explains_the_same_number() -> None:
    """Feature ablation by Captum's own class is the difference of two of our log-probabilities."""
    from captum.attr import FeatureAblation, ImageMaskInput, LLMAttribution
    from PIL import Image
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    row = next(row for row in GENERATORS if row.name == "LLaVA")
    forward, prompt = built(row), PROMPTS[row.name]
    for parameter in forward.model.parameters():  # else hardly anything depends on the picture
        parameter.data.mul_(4)
    halves = torch.arange(2).repeat_interleave(16).expand(32, 32)
    picture = Image.radial_gradient("L").resize((32, 32)).convert("RGB")

    def pixels_of(image: Image.Image) -> Tensor:
        return (
            torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
            .view(1, 32, 32, 3)
            .permute(0, 3, 1, 2)
            / 127.5
            - 1
        )

    inner = Tokenizer(WordLevel({f"w{i}": i for i in range(40)}, unk_token="w0"))
    inner.pre_tokenizer = WhitespaceSplit()
    words = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="w0")
    given = ImageMaskInput(
        picture,
        mask=halves,
        baseline=(0, 0, 0),
        processor_fn=lambda image: {"input_ids": prompt[None], "pixel_values": pixels_of(image)},
    )
    ablation = LLMAttribution(FeatureAblation(forward.model), words)
    found = ablation.attribute(given, target=ANSWER, forward_in_tokens=False)
    pixels = pixels_of(picture)
    for half in (0, 1):
        without = pixels.masked_fill(halves == half, -1.0)
        with torch.no_grad():
            fall = forward(pixels) - forward(without)
            each = [token(pixels) - token(without) for token in forward.each()]
        torch.testing.assert_close(found.seq_attr[half], fall[0], rtol=1e-3, atol=1e-5)
        falls = torch.cat(each)
        torch.testing.assert_close(found.token_attr[:, half], falls, rtol=1e-3, atol=1e-5)
        assert float(fall.abs()) > 1e-2
