"""explain_func: Captum's methods, ours, and Quantus' own metrics on a timm ViT."""

from __future__ import annotations

import numpy as np
import pytest
import quantus
import torch
from captum.attr import (
    IntegratedGradients,
    LayerAttribution,
    LayerGradCam,
    NoiseTunnel,
    Saliency,
)
from quantus.functions.perturb_func import noisy_linear_imputation
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from captum_ib.metrics import ROAD, explain_func

# Quantus 0.5 turns arrays of one element into numbers in a way that numpy 1.25 deprecates.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Conversion of an array with ndim:DeprecationWarning"
)

QUIET = {"disable_warnings": True, "display_progressbar": False}


class Fixed:
    """A method that returns what it was given, whatever the input."""

    def __init__(self, forward_func, value):
        self.forward_func, self.value = forward_func, value

    def attribute(self, inputs, target=None):
        return self.value

    def get_name(self):
        return "Fixed"


def test_a_class_is_built_on_the_model_it_is_called_with(vit, images, targets):
    explain = explain_func(IntegratedGradients, channels="keep", n_steps=8)
    found = explain(model=vit, inputs=images, targets=targets)
    x = torch.from_numpy(images).requires_grad_()
    expected = IntegratedGradients(vit).attribute(x, target=torch.from_numpy(targets), n_steps=8)
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-5)
    summed = explain_func(IntegratedGradients, n_steps=8)
    np.testing.assert_allclose(
        summed(model=vit, inputs=images, targets=targets), found.sum(1, keepdims=True), atol=1e-6
    )
    assert type(found) is np.ndarray
    assert found.dtype == np.float32


def test_settings_go_to_the_constructor_or_to_attribute(images, targets):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 8, stride=8), nn.Flatten(), nn.Linear(64, 3)).eval()
    explain = explain_func(LayerGradCam, layer="0", relu_attributions=True)
    found = explain(model=model, inputs=images, targets=targets)
    expected = LayerGradCam(model, model[0]).attribute(
        torch.from_numpy(images), torch.from_numpy(targets), relu_attributions=True
    )
    grown = LayerAttribution.interpolate(expected, (32, 32), "bilinear")
    assert found.shape == (6, 1, 32, 32)
    np.testing.assert_allclose(found, grown.detach().numpy(), atol=1e-6)
    with pytest.raises(ValueError, match="has no layer 'body'"):
        explain_func(LayerGradCam, layer="body")(model=model, inputs=images, targets=targets)
    with pytest.raises(ValueError, match="a module of another model"):
        explain_func(LayerGradCam, layer=nn.Conv2d(1, 1, 1))(
            model=model, inputs=images, targets=targets
        )
    module = explain_func(LayerGradCam, layer=model[0], relu_attributions=True)
    np.testing.assert_array_equal(module(model=model, inputs=images, targets=targets), found)


def test_upsampling_may_conserve_the_sum(vit, images, targets):
    value = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    for mode in ("bilinear", "nearest"):
        explain = explain_func(lambda model: Fixed(model, value), interpolation=mode, conserve=True)
        found = explain(model=vit, inputs=images, targets=targets)
        np.testing.assert_allclose(found.sum((1, 2, 3)), value.sum((1, 2, 3)), rtol=1e-5)
    without = explain_func(lambda model: Fixed(model, value), interpolation="nearest")
    found = without(model=vit, inputs=images, targets=targets)
    np.testing.assert_array_equal(found[:, 0, ::8, ::8], value[:, 0])


def test_a_factory_gets_the_model(vit, images, targets):
    smooth = explain_func(
        lambda model: NoiseTunnel(Saliency(model)), nt_samples=2, nt_type="smoothgrad", stdevs=0.0
    )
    plain = explain_func(Saliency)
    np.testing.assert_allclose(
        smooth(model=vit, inputs=images, targets=targets),
        plain(model=vit, inputs=images, targets=targets),
        rtol=1e-4,
        atol=1e-7,
    )
    with pytest.raises(TypeError, match="which has no attribute"):
        explain_func(lambda model: model)(model=vit, inputs=images, targets=targets)


def test_an_instance_explains_its_own_model_only(vit, images, targets):
    bound = explain_func(Saliency(vit))
    free = explain_func(Saliency)
    np.testing.assert_array_equal(
        bound(model=vit, inputs=images, targets=targets),
        free(model=vit, inputs=images, targets=targets),
    )
    other = nn.Sequential(nn.Flatten(), nn.Linear(3072, 3))
    with pytest.raises(ValueError, match=r"built on another model.*explain_func\(Saliency"):
        bound(model=other, inputs=images, targets=targets)


def test_quantus_own_keywords(vit, images, targets):
    explain = explain_func(IntegratedGradients, n_steps=20)
    # quantus.evaluate adds method=<name of the entry>; metrics add the device.
    found = explain(model=vit, inputs=images, targets=targets, method="IG", device="cpu", n_steps=4)
    expected = explain_func(IntegratedGradients, n_steps=4)
    np.testing.assert_array_equal(found, expected(model=vit, inputs=images, targets=targets))
    rule = explain_func(IntegratedGradients, n_steps=4, method="riemann_left")
    assert not np.array_equal(found, rule(model=vit, inputs=images, targets=targets))


def test_float64_inputs_and_target_override(vit, images, targets):
    explain = explain_func(Saliency, target=2)
    found = explain(model=vit, inputs=images.astype(np.float64), targets=targets)
    expected = explain_func(Saliency)(model=vit, inputs=images, targets=np.full(6, 2))
    np.testing.assert_allclose(found, expected)


def test_captum_on_a_pair_explains_its_first_side(dual):
    x = np.random.default_rng(0).random((2, 1, 2, 4)).astype(np.float32)
    ids = np.array([[1, 4, 2, 0], [1, 5, 4, 2]])
    found = explain_func(Saliency, abs=False)(model=dual, inputs=x, targets=ids)
    tensor = torch.from_numpy(x).requires_grad_()
    dual(tensor, torch.from_numpy(ids), torch.from_numpy(ids != 0)).sum().backward()
    np.testing.assert_allclose(found, tensor.grad.numpy(), atol=1e-6)
    with pytest.raises(ValueError, match="Captum's Saliency explains the image"):
        explain_func(Saliency, modality="text")(model=dual, inputs=ids, targets=x)


def test_a_pair_without_its_other_half_is_refused(dual):
    with pytest.raises(ValueError, match="to explain the image of pairs, give the text of each"):
        explain_func(Saliency)(model=dual, inputs=np.ones((1, 1, 2, 2), "float32"), targets=None)


class TestBadInput:
    def test_channels(self):
        with pytest.raises(ValueError, match='"sum" or "keep"'):
            explain_func(Saliency, channels="mean")

    def test_what_is_no_method(self):
        for wrong in (3, "Saliency", nn.Linear):
            with pytest.raises(TypeError, match="takes an attribution class"):
                explain_func(wrong)

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (torch.zeros(6, 1, 4, 4), r"same value \(0\) everywhere.*collapsed.*lower beta"),
            (torch.full((6, 3, 32, 32), torch.nan), "returned NaN"),
            (-torch.rand(6, 1, 32, 32) - 0.1, "only negative values"),
            (torch.rand(6, 2, 4, 4), r"shape \(6, 2, 4, 4\) for inputs of shape \(6, 3, 32, 32\)"),
            (torch.rand(5, 1, 4, 4), r"shape \(5, 1, 4, 4\)"),
            (torch.rand(6, 16), r"shape \(6, 16\)"),
        ],
    )
    def test_maps_that_quantus_can_not_use(self, value, message, vit, images, targets):
        with pytest.raises(ValueError, match=message):
            explain_func(lambda model: Fixed(model, value))(
                model=vit, inputs=images, targets=targets
            )

    def test_several_tensors(self, vit, images, targets):
        with pytest.raises(TypeError, match="returned tuple; expected one tensor"):
            explain_func(lambda model: Fixed(model, (torch.rand(1), torch.rand(1))))(
                model=vit, inputs=images, targets=targets
            )


class TestQuantusMetrics:
    """Quantus' own metrics through the bridge equal Quantus called by hand."""

    @pytest.fixture
    def masks(self):
        masks = np.zeros((6, 1, 32, 32), dtype=int)
        masks[:, :, 8:24, 8:24] = 1
        return masks

    @pytest.fixture
    def by_hand(self, vit, images, targets):
        x = torch.from_numpy(images).requires_grad_()
        attr = IntegratedGradients(vit).attribute(x, target=torch.from_numpy(targets), n_steps=4)
        return attr.sum(1, keepdim=True).detach().numpy()

    @pytest.fixture
    def bridge(self):
        return explain_func(IntegratedGradients, n_steps=4)

    @pytest.mark.parametrize(
        "build",
        [
            lambda: ROAD(percentages=[20, 60], noise=0.0, **QUIET),
            lambda: quantus.PixelFlipping(features_in_step=512, **QUIET),
            lambda: quantus.Selectivity(patch_size=16, **QUIET),
            lambda: quantus.SensitivityN(features_in_step=512, **QUIET),
            lambda: quantus.Completeness(**QUIET),
            lambda: quantus.PointingGame(**QUIET),
            lambda: quantus.RelevanceRankAccuracy(**QUIET),
            lambda: quantus.Sparseness(**QUIET),
        ],
        ids=lambda build: build().__class__.__name__,
    )
    def test_equals_given_attributions(self, build, vit, images, targets, masks, by_hand, bridge):
        given = build()(vit, images, targets, by_hand.copy(), masks, softmax=True, device="cpu")
        asked = build()(
            vit, images, targets, None, masks, softmax=True, device="cpu", explain_func=bridge
        )
        if isinstance(given, dict):
            assert list(given) == list(asked)
            given, asked = list(given.values()), list(asked.values())
        np.testing.assert_allclose(np.array(asked, float), np.array(given, float), rtol=1e-4)

    def test_quantus_road_on_one_channel(self):
        torch.manual_seed(0)
        model = VisionTransformer(
            img_size=16, patch_size=4, in_chans=1, embed_dim=8, depth=1, num_heads=2, num_classes=3
        ).eval()
        x = np.random.default_rng(0).random((8, 1, 16, 16)).astype(np.float32)
        with torch.no_grad():
            y = model(torch.from_numpy(x)).argmax(1).numpy()
        settings = {"percentages": [10, 50, 90], "noise": 0.0, **QUIET}
        explain = explain_func(Saliency)
        given = quantus.ROAD(**settings)(
            model, x, y, explain(model=model, inputs=x, targets=y), device="cpu"
        )
        asked = quantus.ROAD(**settings)(model, x, y, explain_func=explain, device="cpu")
        assert given == asked
        ours = ROAD(**settings)(model, x, y, explain_func=explain, device="cpu", batch_size=3)
        assert ours == given

    @pytest.mark.parametrize("order", ["morf", "lerf"])
    def test_road_imputes_pixels_in_either_order(self, vit, images, targets, maps, order):
        found = ROAD(percentages=[20, 60], noise=0.0, order=order, **QUIET)(
            vit, images, targets, maps, device="cpu", batch_size=4
        )
        for share, accuracy in found.items():
            imputed = []
            for x, m in zip(images, maps, strict=True):
                ranked = sorted(range(1024), key=lambda pixel, m=m: -float(m.ravel()[pixel]))
                ranked = ranked if order == "morf" else ranked[::-1]
                gone = np.array(ranked[: 1024 * share // 100])
                imputed.append(noisy_linear_imputation(x, gone, noise=0.0))
            with torch.no_grad():
                predicted = vit(torch.from_numpy(np.stack(imputed)).float()).argmax(1).numpy()
            assert accuracy == (predicted == targets).mean()

    def test_road_knows_two_orders(self):
        with pytest.raises(ValueError, match="order must be .*, given 'best'"):
            ROAD(order="best", **QUIET)

    def test_mprt_explains_the_randomised_model(self, vit, images, targets):
        metric = quantus.MPRT(layer_order="top_down", skip_layers=True, **QUIET)
        scores = metric(vit, images, targets, explain_func=explain_func(Saliency), device="cpu")
        last = list(scores)[-1]
        assert scores["original"] == pytest.approx([1.0] * 6)
        assert max(np.abs(scores[last])) < 0.5
        with pytest.raises(ValueError, match="built on another model"):
            metric(vit, images, targets, explain_func=explain_func(Saliency(vit)), device="cpu")

    def test_max_sensitivity(self, vit, images, targets):
        def by_hand(model, inputs, targets, **kwargs):
            x = torch.as_tensor(inputs, dtype=torch.float32).requires_grad_()
            return Saliency(model).attribute(x, torch.as_tensor(targets)).detach().numpy()

        scores = []
        for explain in (explain_func(Saliency, channels="keep"), by_hand):
            np.random.seed(0)
            metric = quantus.MaxSensitivity(nr_samples=3, lower_bound=0.2, **QUIET)
            scores.append(metric(vit, images, targets, explain_func=explain, device="cpu"))
        assert scores[0] == scores[1]
        assert min(scores[0]) > 0
