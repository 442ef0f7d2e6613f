"""Captum's own methods that the command line offers beside ours."""

from __future__ import annotations

from captum_ib.methods.spec import OUTPUT, MethodSpec

CAPTUMS = (
    MethodSpec(
        name="ig",
        cls_path="captum.attr:IntegratedGradients",
        takes=frozenset({"classifier"}),
        unit=OUTPUT,
        signed=True,
        paper="Sundararajan et al., ICML 2017",
        description="share of the output, along the path from the mean colour to the image",
        passes="50 steps, forward and backward",
        settings={"internal_batch_size": 10},
        options={"steps": "n_steps"},
    ),
    MethodSpec(
        name="saliency",
        cls_path="captum.attr:Saliency",
        takes=frozenset({"classifier"}),
        unit="output units per pixel value",
        signed=False,
        paper="Simonyan et al., ICLR workshop 2014",
        description="magnitude of the gradient",
        passes="1 forward and backward",
    ),
    MethodSpec(
        name="inputxgradient",
        cls_path="captum.attr:InputXGradient",
        takes=frozenset({"classifier"}),
        unit=OUTPUT,
        signed=True,
        paper="Shrikumar et al., 2016",
        description="gradient times (normalised) pixel value",
        passes="1 forward and backward",
    ),
    MethodSpec(
        name="gradcam",
        cls_path="captum.attr:LayerGradCam",
        takes=frozenset({"classifier"}),
        unit=OUTPUT,
        signed=True,
        paper="Selvaraju et al., ICCV 2017",
        description="channels of a convolutional layer, weighted by their mean gradient",
        passes="1 forward and backward",
        layers="one",
    ),
)
