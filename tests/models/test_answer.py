"""Pixels → log-probability of an answer, for models that generate."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from captum_ib import IBA, NIB, CoIBA, TokenLayout
from captum_ib.bottleneck import Damping
from captum_ib.models import AnswerLogProbability
from tests.models.generators import ANSWER, GENERATORS, PROMPTS
from tests.models.rows import Row, images

EVERY = pytest.mark.parametrize("row", GENERATORS, ids=lambda row: row.name)


def pixels() -> Tensor:
    return images(2, 32, 32)


def built(row: Row) -> AnswerLogProbability:
    return row.forward(row.model())  # type: ignore[return-value]


def next_token(row: Row, model: nn.Module, given: Tensor) -> Tensor:
    """log p(· | image, prompt, given) by the plain model, one step of generation."""
    prompt = PROMPTS[row.name]
    ids = torch.cat([prompt, given]).expand(2, -1)
    arguments = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if row.name == "PaliGemma":
        types = torch.cat([torch.zeros_like(prompt), torch.ones_like(given)])
        arguments["token_type_ids"] = types.expand(2, -1)
        arguments["labels"] = ids  # transformers 4 reads the types only with labels
    with torch.no_grad():
        logits = model(pixel_values=pixels(), **arguments).logits
    return logits[:, -1].log_softmax(dim=-1)


@EVERY
def test_it_is_the_sum_over_single_steps(row: Row) -> None:
    forward = built(row)
    steps = [
        next_token(row, forward.model, ANSWER[:step])[:, token]
        for step, token in enumerate(ANSWER.tolist())
    ]
    with torch.no_grad():
        torch.testing.assert_close(forward(pixels()), torch.stack(steps).sum(dim=0))


@EVERY
def test_a_shorter_answer_in_a_batch_ends_where_it_ends(row: Row) -> None:
    forward = built(row)
    answers = torch.stack([ANSWER, torch.tensor([11, -100, -100])])
    prompts = PROMPTS[row.name].expand(2, -1)
    with torch.no_grad():
        both = forward(pixels(), prompts, answers)
        first = next_token(row, forward.model, ANSWER[:0])[1, 11]
        torch.testing.assert_close(both, torch.stack([forward(pixels())[0], first]))


@EVERY
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


@EVERY
def test_all_tokens_of_the_language_model(row: Row) -> None:
    forward = built(row)
    result = IBA(forward).attribute(
        pixels(), n_steps=2, n_samples=2, seed=0, layout=TokenLayout("sequence")
    )
    length = len(PROMPTS[row.name]) + len(ANSWER)
    assert result.shape == (2, length)
    start, stop = forward.image_tokens
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
    with pytest.raises(ValueError, match="one run of image placeholders .id 39.*given .0. of them"):
        AnswerLogProbability(model, prompt[-3:], ANSWER)
    with pytest.raises(ValueError, match="one run of image placeholders"):
        AnswerLogProbability(model, torch.cat([prompt, prompt]), ANSWER)
    with pytest.raises(TypeError, match="Linear has no vision_tower or vision_model or visual"):
        AnswerLogProbability(nn.Linear(2, 2), prompt, ANSWER)
