"""LibraGrad and AttnLRP: the authors' outputs, completeness, rules written out, and refusals."""

from __future__ import annotations

import pytest
import torch
from captum.attr import InputXGradient
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from captum_ib import NIB, libra
from captum_ib.baselines import AttnLRP, GenericAttention, LibraGrad
from captum_ib.loading import load
from tests.attr.cases import SUBJECTS
from tests.attr.test_contract import same_state, state
from tests.baselines.models import hf_vit, images, timm_vit, torchvision_vit


@pytest.fixture(scope="module")
def vit(conformance):
    path = conformance / "vit_comparators.safetensors"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    images = load_file(conformance / "vit_images.safetensors")
    return load(str(conformance / "vit")).model, images, load_file(path)


def gap(found, expected):
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("score", ["output", "probability"])
@pytest.mark.parametrize("corrected", [True, False])
@pytest.mark.parametrize("method", ["input_x_grad", "fullgrad", "fullgrad_plus"])
def test_authors_output_of_libragrad(vit, method, corrected, score):
    model, data, expected = vit
    key = f"{'libra' if corrected else 'plain'}_{method}{'_softmax' * (score == 'probability')}"
    settings = {"target": data["target"], "method": method, "libra": corrected, "score": score}
    found = LibraGrad(model).attribute(data["pixel_values"], all_tokens=True, **settings)
    assert gap(found, expected[key]) < 1e-4
    maps = LibraGrad(model).attribute(data["pixel_values"], **settings)
    assert torch.equal(maps.flatten(1), found[:, 1:])


@pytest.mark.parametrize(
    ("key", "conv", "linear", "tolerance"),
    [("conv025_lin005", 0.25, 0.05, 1e-4), ("conv01_lin0", 0.1, 0.0, 1e-3),
     ("conv100_lin1", 100.0, 1.0, 1e-4)],
)  # fmt: skip
def test_authors_output_of_attnlrp(vit, key, conv, linear, tolerance):
    model, data, expected = vit
    pixels = AttnLRP(model).attribute(
        data["pixel_values"], target=data["target"], attention="cp", gamma_conv=conv,
        gamma_linear=linear,
    ).sum(dim=1)  # fmt: skip
    assert gap(F.avg_pool2d(pixels, 16) * 256, expected[f"attnlrp_{key}"]) < tolerance
    if f"attnlrp_{key}_pixels" in expected:
        assert gap(pixels, expected[f"attnlrp_{key}_pixels"]) < 1e-4


@pytest.mark.parametrize(
    "build",
    [timm_vit, lambda: hf_vit("sdpa"), lambda: hf_vit("eager"), torchvision_vit],
    ids=["timm", "sdpa", "eager", "torchvision"],
)
def test_fullgrad_is_complete_with_corrected_gradients_only(build):
    model, x = build(), images()
    before = state(model)
    with torch.no_grad():
        output = getattr(y := model(x), "logits", y)[:, 1]
    settings = {"target": 1, "method": "fullgrad", "all_tokens": True}
    whole = LibraGrad(model).attribute(x, **settings).sum(dim=1)
    assert torch.allclose(whole, output, rtol=1e-4, atol=1e-4)
    plain = LibraGrad(model).attribute(x, libra=False, **settings).sum(dim=1)
    assert (plain - output).abs().min() > 0.01
    assert same_state(before, state(model))


def test_implementations_of_attention_agree():
    x = images()
    one, other = (LibraGrad(hf_vit(kind)).attribute(x, target=1) for kind in ("sdpa", "eager"))
    assert gap(one, other) < 1e-5
    one, other = (AttnLRP(hf_vit(kind)).attribute(x, target=1) for kind in ("sdpa", "eager"))
    assert gap(one, other) < 1e-4


def without_offsets() -> nn.Module:
    """A transformer whose output is a sum over its input's pixels, if gradients are balanced."""
    model = timm_vit()
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or name in ("cls_token", "pos_embed"):
            nn.init.zeros_(parameter)
    return model


def test_the_context_lifts_other_methods():
    model, x = without_offsets(), images().requires_grad_()
    with torch.no_grad():
        output = model(x)[:, 2]
    with libra(model):
        lifted = InputXGradient(model).attribute(x, target=2).flatten(1).sum(dim=1)
    assert torch.allclose(lifted, output, rtol=1e-3, atol=1e-4)
    plain = InputXGradient(model).attribute(x, target=2).flatten(1).sum(dim=1)
    assert (plain - output).abs().min() > 0.01

    settings = {"target": 2, "n_steps": 1, "method": "gausslegendre", "reduce": "none"}
    with libra(model):
        path = NIB(model, "blocks.1").attribute(x.detach(), **settings).flatten(1).sum(dim=1)
    half: list[torch.Tensor] = []
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        forward = model.blocks[1].forward
        patch.setattr(model.blocks[1], "forward", lambda h: forward(h / 2))
        half.append(model(x)[:, 2])
    # One point, λ = ½: Σ z ∂F/∂z̃ = F(z / 2) / ½.
    assert torch.allclose(path, 2 * half[0], rtol=1e-3, atol=1e-4)


def test_attention_maps_still_get_their_gradients():
    model, x = timm_vit(), images()
    with libra(model):
        found = GenericAttention(model).attribute(x, target=1)
    assert found.shape == (2, 1, 4, 4) and (found > 0).any()


def test_what_can_not_be_corrected_is_said():
    with pytest.raises(TypeError, match="libra takes the model"), libra(lambda x: x):
        pass
    with pytest.raises(ValueError, match="compiled or scripted"), libra(torch.compile(timm_vit())):
        pass
    flash = hf_vit("sdpa")
    flash.config._attn_implementation = "flash_attention_2"
    with pytest.raises(ValueError, match="in a kernel"), libra(flash):
        pass
    plain = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    with pytest.raises(RuntimeError, match="corrected nothing in Sequential"), libra(plain):
        plain(torch.rand(2, 3)).sum().backward()
    with libra(plain):  # nothing ran
        pass
    with pytest.raises(ValueError, match="LibraGrad needs a plain transformer"):
        LibraGrad(SUBJECTS["resnet"]().model)
    with pytest.raises(ValueError, match="layers must be two sequences of blocks"):
        LibraGrad(SUBJECTS["clip"]().model, ["vision_model.encoder.layers.0"])
    with pytest.raises(ValueError, match="method must be"):
        LibraGrad(timm_vit()).attribute(images(), target=0, method="all")
    with pytest.raises(ValueError, match="attention must be"):
        AttnLRP(timm_vit()).attribute(images(), target=0, attention="lxt")
    with pytest.raises(ValueError, match="gamma_conv must"):
        AttnLRP(timm_vit()).attribute(images(), target=0, gamma_conv=-1.0)


class OneHead(nn.Module):
    """Attention of one head over embeddings (N, T, C), and a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(4, 4, bias=False) for _ in range(3))
        self.norm, self.head = nn.LayerNorm(4), nn.Linear(4, 2)

    def forward(self, x):
        scores = self.query(x) @ self.key(x).transpose(1, 2)
        return self.head(F.gelu(self.norm(scores.softmax(dim=-1) @ self.value(x)))).sum(dim=1)


def test_the_papers_rules_one_by_one():
    """Relevance as the paper writes it, layer by layer, without gradients."""
    torch.manual_seed(0)
    model, x = OneHead(), torch.randn(1, 3, 4)
    with torch.no_grad():
        q, k, v = model.query(x), model.key(x), model.value(x)
        scores = q @ k.transpose(1, 2)
        A = scores.softmax(dim=-1)
        o = A @ v
        normed = model.norm(o)
        hidden = F.gelu(normed)
        R = hidden * model.head.weight[1]  # ε-rule at the head; the identity through GELU
        # Layer norm: normalised × weight + bias, a linear map of o with a constant deviation.
        spread = (o.var(-1, unbiased=False, keepdim=True) + model.norm.eps).sqrt()
        share = R / normed * model.norm.weight / spread
        R_o = o * (share - share.mean(dim=-1, keepdim=True))
        # Products: half to each.
        R_A = A * ((R_o / o) @ v.transpose(1, 2)) / 2
        R_v = v * (A.transpose(1, 2) @ (R_o / o)) / 2
        # Softmax, by its Taylor decomposition.
        R_scores = scores * (R_A - A * R_A.sum(dim=-1, keepdim=True))
        R_q = q * ((R_scores / scores) @ k) / 2
        R_k = k * ((R_scores / scores).transpose(1, 2) @ q) / 2
        parts = ((R_q, q, model.query), (R_k, k, model.key), (R_v, v, model.value))
        expected = sum(x * (R_z / z @ layer.weight) for R_z, z, layer in parts)
    found = AttnLRP(model).attribute(x, target=1, gamma_linear=None)
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_gamma_by_kind_of_layer():
    model, x = OneHead(), torch.randn(2, 3, 4)
    base = {"target": 1, "gamma_linear": None, "gamma_attention": None, "attention": "cp"}
    plain = AttnLRP(model).attribute(x, **base)
    calls: list[float] = []
    for name in ("gamma_linear", "gamma_attention", "gamma_conv"):
        calls.append(gap(AttnLRP(model).attribute(x, **{**base, name: 0.5}), plain))
    assert calls[0] > 1e-2 and calls[1] > 1e-2 and calls[2] == 0  # it has no convolution
