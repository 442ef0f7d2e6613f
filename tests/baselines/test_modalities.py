"""Layouts beyond images and captions: folded spectrograms, sequences first, extra tokens."""

from __future__ import annotations

import pytest
import torch

from captum_ib import baselines
from captum_ib.models.dual_encoder import ZeroShotClassifier
from tests.attr.cases import SUBJECTS
from tests.models.rows import token_mask
from tests.models.test_dual_encoder import SHAPES, bind, value_of

SETTINGS = {
    "GenericAttention": {},
    "AttentionRollout": {},
    "BeyondIntuition": {"n_steps": 2},
    "LayerGradCAM": {},
    "LeGrad": {},
    "MaskCLIP": {},
    "ScoreCAM": {"relu_attributions": False},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_audio_and_text(name):
    dual = bind().pair("audio", "text")
    maps = getattr(baselines, name)(dual).attribute(
        (value_of("audio"), value_of("text")),
        additional_forward_args=token_mask(),
        **SETTINGS[name],
    )
    assert [tuple(each.shape) for each in maps] == [SHAPES["audio"], SHAPES["text"]]
    assert all(torch.isfinite(each).all() and each.std() > 0 for each in maps)
    assert (maps[1][token_mask() == 0] == 0).all()


@pytest.mark.parametrize(
    "name", ["GenericAttention", "LayerGradCAM", "LeGrad", "MaskCLIP", "ScoreCAM"]
)
def test_blocks_that_take_the_sequence_first(name):
    maps = [
        getattr(baselines, name)(bind(first).pair("audio", "text")).attribute(
            (value_of("audio"), value_of("text")),
            additional_forward_args=token_mask(),
            **SETTINGS[name],
        )
        for first in (False, True)
    ]
    for usual, sequence_first in zip(*maps, strict=True):
        torch.testing.assert_close(sequence_first, usual, rtol=1e-3, atol=1e-5)


ZERO_SHOT = (
    "GenericAttention LayerGradCAM ScoreCAM FastIG GradECLIP LeGrad MaskCLIP CLIPSurgery TokenTM"
)


@pytest.mark.parametrize("name", ZERO_SHOT.split())
def test_zero_shot_classifiers(name):
    subject = SUBJECTS["clip"]()
    pixels, ids = subject.inputs
    model = ZeroShotClassifier(subject.model, ids, subject.extra)
    found = getattr(baselines, name)(model).attribute(pixels, target=1, **SETTINGS.get(name, {}))
    assert found.shape == (pixels.shape if name == "FastIG" else (3, 1, 4, 4))
    assert torch.isfinite(found).all() and found.std() > 0


def test_heads_without_a_projection_have_no_known_size():
    pair = (value_of("audio"), value_of("text"))
    with pytest.raises(ValueError, match="no linear map follows the heads of attention 0"):
        baselines.BeyondIntuition(bind().pair("audio", "text")).attribute(pair, variant="token")
