"""The methods of :mod:`captum_ib.attr`."""

from __future__ import annotations

from captum_ib.methods.spec import BITS, OUTPUT, MethodSpec

_NOISE = {"beta": "beta", "steps": "n_steps", "samples": "n_samples", "seed": "seed"}
_FIT = "10 steps x 4 draws, forward and backward, behind the layer"

BOTTLENECKS = (
    MethodSpec(
        name="iba",
        cls_path="captum_ib.attr.iba:IBA",
        takes=frozenset({"classifier"}),
        unit=BITS,
        signed=False,
        paper="Schulz et al., ICLR 2020",
        description="information that one layer passes on for the class",
        passes=_FIT,
        layers="many",
        options=_NOISE,
    ),
    MethodSpec(
        name="coiba",
        cls_path="captum_ib.attr.coiba:CoIBA",
        takes=frozenset({"classifier"}),
        unit=BITS,
        signed=False,
        paper="Hong et al., CVPR 2025",
        description="information that a whole range of layers passes on for the class",
        passes=_FIT,
        layers="many",
        options=_NOISE,
    ),
    MethodSpec(
        name="m2ib",
        cls_path="captum_ib.attr.m2ib:M2IB",
        takes=frozenset({"dual"}),
        unit=BITS,
        signed=False,
        paper="Wang et al., NeurIPS 2023",
        description="information that each tower passes on for the similarity of the pair",
        passes=_FIT + ", per tower",
        layers="many",
        options=_NOISE,
    ),
    MethodSpec(
        name="nib",
        cls_path="captum_ib.attr.nib:NIB",
        takes=frozenset({"classifier", "dual"}),
        unit=OUTPUT,
        signed=True,
        paper="Zhu et al., ICLR 2025",
        description="share of the output, along the path on which the layer's input fades out",
        passes="10 steps, forward and backward, behind the layer",
        layers="many",
        options={"steps": "n_steps"},
    ),
    MethodSpec(
        name="cam2ib",
        cls_path="captum_ib.attr.ca_m2ib:CAM2IB",
        takes=frozenset({"dual"}),
        unit=BITS,
        signed=False,
        paper="Bourigault et al.",
        description="as m2ib, guided by cross-attention between the two towers' tokens",
        passes=_FIT + ", and one forward per token, per tower",
        layers="many",
        options=_NOISE,
    ),
    MethodSpec(
        name="com2ib",
        cls_path="captum_ib.attr.com2ib:CoM2IB",
        takes=frozenset({"dual"}),
        unit=BITS,
        signed=False,
        paper="Hong et al. and Wang et al., joined here",
        description="information that a range of layers of each tower passes on for the pair",
        passes=_FIT + ", per tower",
        layers="many",
        options=_NOISE,
    ),
)
