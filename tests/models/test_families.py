"""Families of dual encoders: the cosine is the library's own, and texts may differ in length."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captum_ib import M2IB, NIB, DualEncoder
from captum_ib.hooks import CompositeHook
from captum_ib.models.families import FAMILIES, towers_of
from captum_ib.models.siglip import patchify
from tests.models.duals import DUAL_ENCODERS
from tests.models.rows import LENGTHS, Row, images, pickled, token_mask

EVERY = pytest.mark.parametrize("row", DUAL_ENCODERS, ids=lambda row: f"{row.library}-{row.name}")


def ready(row: Row) -> tuple[nn.Module, DualEncoder, tuple[Tensor, Tensor], tuple]:
    if row.missing():
        pytest.skip(str(row.missing()))
    model = row.model()
    mask = row.additional()
    return model, DualEncoder.from_model(model), row.inputs(), () if mask is None else (mask,)


def features(output: Any) -> Tensor:
    """`get_…_features` gives a tensor in transformers 4, an output in 5."""
    return output if isinstance(output, Tensor) else output.pooler_output


def own_cosine(model: Any, first: Tensor, ids: Tensor, masks: tuple) -> Tensor:
    """The similarity of each pair by the library's own way."""
    texts = {"input_ids": ids, "attention_mask": masks[0] if masks else None}
    kind = type(model).__name__
    if type(model).__module__.startswith("open_clip"):
        one, other = model.encode_image(first), model.encode_text(ids)
    elif kind == "BlipForImageTextRetrieval":
        return model(pixel_values=first, use_itm_head=False, **texts).itm_score.diagonal()
    elif kind == "ClapModel":
        longer = torch.zeros(len(first), 1, dtype=torch.bool)
        one = features(model.get_audio_features(input_features=first, is_longer=longer))
        other = features(model.get_text_features(**texts))
    elif kind == "Albef":  # ours; test_from_albef has the published layout
        one = model.vision_proj(model.visual_encoder(first)[:, 0])
        other = model.text_proj(model.text_encoder(**texts).last_hidden_state[:, 0])
    elif kind == "FlavaModel":  # its features are of all tokens; the first is contrasted
        output = model(pixel_values=first, skip_multimodal_encoder=True, **texts)
        one = model.image_projection(output.image_output.last_hidden_state[:, 0])
        other = model.text_projection(output.text_output.last_hidden_state[:, 0])
    elif kind == "Siglip2Model":
        patches, grid = patchify(first, 8)
        mask = torch.ones(patches.shape[:2], dtype=torch.long)
        shapes = torch.tensor([grid] * len(first))
        one = features(model.get_image_features(patches, mask, shapes))
        other = features(model.get_text_features(**texts))
    else:
        square = first.shape[2] == first.shape[3]
        size = {} if square or kind == "AlignModel" else {"interpolate_pos_encoding": True}
        one = features(model.get_image_features(first, **size))
        other = features(model.get_text_features(**texts))
    return nn.functional.cosine_similarity(one, other)


@EVERY
def test_the_cosine_is_the_librarys_own(row: Row) -> None:
    model, dual, inputs, masks = ready(row)
    with torch.no_grad():
        expected = own_cosine(model, *inputs, masks)
        torch.testing.assert_close(dual(*inputs, *masks), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "row",
    # SigLIP pools the last token, padding included; open_clip's texts have one length.
    [row for row in DUAL_ENCODERS if row.library != "open_clip" and "SigLIP" not in row.name],
    ids=lambda row: row.name,
)
def test_texts_of_different_lengths_do_not_disturb_each_other(row: Row) -> None:
    """The short caption alone, without padding, gives what it gives beside the long one."""
    _, dual, (first, ids), masks = ready(row)
    _, together = NIB(dual).attribute((first, ids), additional_forward_args=masks[0], n_steps=2)
    short = LENGTHS[1]
    _, alone = NIB(dual).attribute(
        (first[1:], ids[1:, :short]), additional_forward_args=masks[0][1:, :short], n_steps=2
    )
    torch.testing.assert_close(together[1:, :short], alone, rtol=1e-4, atol=1e-6)
    assert (together[1, short:] == 0).all()


@EVERY
def test_padding_gets_no_bits(row: Row) -> None:
    _, dual, inputs, masks = ready(row)
    text = M2IB(dual).attribute(
        inputs, additional_forward_args=masks or None, n_steps=2, n_samples=2, seed=0
    )[1]
    padded = token_mask() == 0
    if "without a mask" in row.name or row.name == "SigLIP (timm tower)":
        assert (text[padded] > 0).all()  # its text model reads the padding
    else:
        assert (text[padded] == 0).all()


@pytest.mark.parametrize(
    "name",
    [
        "CLIP",
        "MetaCLIP 2",
        "AltCLIP",
        "Chinese-CLIP",
        "BLIP retrieval",
        "ALBEF",
        "VisionTextDualEncoder",
    ],
)
def test_the_pooled_token_is_among_the_tokens(name: str) -> None:
    row = next(row for row in DUAL_ENCODERS if row.name == name)
    _, dual, inputs, masks = ready(row)
    with torch.no_grad():
        image = nn.functional.normalize(dual.tokens("image", inputs[0]), dim=-1)
        text = nn.functional.normalize(dual.tokens("text", inputs[1], *masks), dim=-1)
        torch.testing.assert_close(image[:, 0], dual.encode("image", inputs[0]))
        causal = name in ("CLIP", "MetaCLIP 2")
        pooled = torch.tensor(LENGTHS) - 1 if causal else torch.zeros(2, dtype=torch.long)
        torch.testing.assert_close(
            text[torch.arange(2), pooled], dual.encode("text", inputs[1], *masks)
        )


@EVERY
@pytest.mark.parametrize("again", [copy.deepcopy, pickled])
def test_a_copy_computes_with_its_own_weights(row: Row, again) -> None:
    _, dual, inputs, masks = ready(row)
    with torch.no_grad():
        before = dual(*inputs, *masks)
        other = again(dual)
        torch.testing.assert_close(other(*inputs, *masks), before, rtol=0, atol=0)
        for parameter in other.parameters():
            parameter.normal_(std=0.3)
        assert not torch.allclose(other(*inputs, *masks), before, atol=1e-3)
        torch.testing.assert_close(dual(*inputs, *masks), before)


def test_a_sound_is_found_at_its_time_and_frequency() -> None:
    """64 x 16 points of a spectrogram are 16 x 4 patches, two stretches of time folded."""
    row = next(row for row in DUAL_ENCODERS if row.name == "CLAP")
    _, dual, (sound, _), _ = ready(row)
    name, block = dual.tower("audio").blocks[0]
    louder = sound.clone()
    louder[:, :, 40:44, 8:12] += 3.0  # patch 10 in time, 2 in frequency
    found: list[Tensor] = []
    with torch.no_grad(), CompositeHook([block], lambda _, value: found.append(value)):
        dual.encode("audio", sound)
    with torch.no_grad(), CompositeHook([block], lambda _, value: found.append(value)):
        dual.encode("audio", louder)
    layout = dual.tower("audio").layout(block, found[0], (sound,), name)
    change = layout.attribution((found[1] - found[0]).abs())
    assert change.shape == (2, 1, 16, 4)
    assert change.flatten(1).argmax(dim=1).tolist() == [10 * 4 + 2] * 2


def test_an_unknown_model_says_what_is_known_and_what_to_do() -> None:
    with pytest.raises(TypeError, match=r"Linear is of no known family .*clip, clipseg, owlvit"):
        DualEncoder.from_model(nn.Linear(2, 2))


def test_blip_without_its_contrastive_head_is_refused() -> None:
    model = nn.Module()
    model.config = type("Config", (), {"model_type": "blip"})()
    with pytest.raises(TypeError, match="load the checkpoint as BlipForImageTextRetrieval"):
        towers_of(model)


def test_patches_of_an_image_processor_are_refused() -> None:
    with pytest.raises(ValueError, match="takes images .* multiples of 8 .*given shape"):
        patchify(torch.zeros(2, 16, 192), 8)
    with pytest.raises(ValueError, match=r"given shape \(2, 3, 32, 30\)"):
        patchify(images(2, 32, 30), 8)


def test_every_family_has_a_row() -> None:
    models = {"CLIP", "MetaCLIP 2", "SigLIP", "SigLIP 2", "ALIGN", "AltCLIP", "Chinese-CLIP"}
    models |= {"ALBEF", "BLIP retrieval", "CLAP", "VisionTextDualEncoder", "AIMv2", "CLIPSeg"}
    models |= {"FLAVA", "GroupViT", "OWL-ViT", "OWLv2"}
    assert models <= {row.name for row in DUAL_ENCODERS}
    assert len(FAMILIES) == len(models) + 3  # and open_clip, two texts, ImageBind (test_imagebind)
