"""CA-M2IB as printed: against a loop of its own in float64, one pair at a time, without padding."""

import copy
import math

import pytest
import torch
from torch import nn

from captum_ib import CAM2IB
from tests.attr.cases import SUBJECTS
from tests.attr.oracles import bits, noise_of
from tests.attr.test_oracles import first_tensors, float64_masks, relative

STEPS, DRAWS, SEED = 3, 2, 3


@pytest.fixture(scope="module")
def clip():
    return SUBJECTS["clip"]()


def attribute(subject, **settings):
    options = {"additional_forward_args": subject.extra, "seed": SEED, "n_steps": STEPS}
    return CAM2IB(subject.model, subject.layers).attribute(
        subject.inputs, variant="paper", **{**options, "n_samples": DRAWS, **settings}
    )


def xavier(shape, generator):
    bound = math.sqrt(6 / (shape[0] + shape[1]))
    return torch.rand(shape, generator=generator).mul(2 * bound).sub(bound).double()


def printed_loop(run, inputs, layer, E_other, draw, beta, gamma, lr):
    """Bits per element of one pair: eq. 4, 5 and 7 with one optimiser step after the other."""
    (R,) = first_tensors(run, inputs, layer)
    d, c = E_other.shape[-1], R.shape[-1]
    generator = torch.Generator().manual_seed(SEED)
    theta = [xavier(s, generator).requires_grad_() for s in ((c, d), (d, d), (d, d), (d, c))]
    alpha = torch.full_like(R, 5.0, requires_grad=True)
    groups = [{"params": [alpha], "lr": 1.0}, {"params": theta, "lr": lr}]
    optimizer, nats = torch.optim.Adam(groups), []
    for _ in range(STEPS):
        noise, lam, losses, nats = draw()[0].double(), torch.sigmoid(alpha), [], []
        for one in noise:
            W_Q, W_K, W_V, W_O = theta
            Z = lam * R + (1 - lam) * one
            A = torch.softmax((Z[0] @ W_Q) @ (E_other @ W_K).T / math.sqrt(d), dim=-1)
            E = A @ (E_other @ W_V)
            signal = (E @ W_O)[None]
            code = lam * signal + (1 - lam) * one
            handle = layer.register_forward_hook(
                lambda m, a, o, code=code: (code, *o[1:]) if isinstance(o, tuple) else code
            )
            embedding = run(inputs)[0]
            handle.remove()
            rest = 1 - lam
            kl = 0.5 * ((lam * signal) ** 2 + rest**2 - 1) - torch.log(rest)
            pooled = E.mean(0)
            losses.append(-gamma * embedding @ (pooled / pooled.norm()) + beta * kl.mean())
            nats.append(kl[0].detach())
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        optimizer.step()
    return bits(torch.stack(nats).mean(0))


@pytest.mark.parametrize("modality", [0, 1])
def test_the_printed_equations_equal_the_plain_loop(clip, modality):
    lr, beta, gamma = 0.05, 0.2, 3.0
    found = attribute(clip, attention_lr=lr, beta=beta, gamma=gamma)[modality]
    (pixels, ids), mask = clip.inputs, clip.extra
    exact = copy.deepcopy(clip.model.model).double()
    layer = exact.get_submodule(clip.layers[modality])
    vision, text = exact.vision_model, exact.text_model

    def image_of(values):
        out = vision(pixel_values=values).pooler_output
        return nn.functional.normalize(exact.visual_projection(out), dim=-1)

    def text_of(values):
        with float64_masks():
            out = text(input_ids=values).pooler_output
        return nn.functional.normalize(exact.text_projection(out), dim=-1)

    for index in range(2):
        length = int(mask[index].sum())
        one, words = pixels[index : index + 1].double(), ids[index : index + 1, :length]
        with torch.no_grad(), float64_masks():
            if modality == 0:
                E = exact.text_projection(text(input_ids=words).last_hidden_state)[0]
            else:
                hidden = vision(pixel_values=one).last_hidden_state
                E = exact.visual_projection(vision.post_layernorm(hidden))[0]
        run, inputs = (image_of, one) if modality == 0 else (text_of, words)
        (R,) = first_tensors(run, inputs, layer)
        draw = noise_of(SEED, [R.shape[1:]], DRAWS, True, sequences=modality == 1)
        expected = printed_loop(run, inputs, layer, E, draw, beta, gamma, lr).sum(-1)
        if modality == 0:
            assert relative(found[index].double(), expected[1:].reshape(1, 4, 4)) < 1e-3
        else:
            assert relative(found[index, :length].double(), expected) < 1e-3
            assert found[index, length:].eq(0).all()


def test_it_is_another_method_than_the_tuned_one(clip):
    tuned = CAM2IB(clip.model, clip.layers).attribute(
        clip.inputs, additional_forward_args=clip.extra, seed=SEED, n_steps=STEPS, n_samples=DRAWS
    )
    printed = attribute(clip)
    assert not any(map(torch.allclose, tuned, printed))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"guidance": 1.0}, 'variant="paper" has no guidance, given 1.0'),
        ({"temperature": (0.1, 0.2)}, 'variant="paper" has no temperature, given \\(0.1, 0.2\\)'),
        ({"residual": True}, 'variant="paper" has no residual, given True'),
        ({"keys": "tokens"}, "variant=\"paper\" has no keys, given 'tokens'"),
        ({"return_attention": True}, 'return_attention=True needs variant="tuned"'),
        ({"variant": "printed"}, 'variant must be "tuned" or "paper", given \'printed\''),
    ],
)
def test_settings_that_the_paper_has_not_are_refused(clip, settings, message):
    with pytest.raises(ValueError, match=message):
        CAM2IB(clip.model, clip.layers).attribute(
            clip.inputs, additional_forward_args=clip.extra, **{"variant": "paper", **settings}
        )
