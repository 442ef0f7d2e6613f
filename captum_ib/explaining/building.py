"""A method of the table on a model, at the layers that a person named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from captum_ib.forward import output_tensor
from captum_ib.hooks import check_stop
from captum_ib.methods import MethodSpec
from captum_ib.models.dual_encoder import DualEncoder
from captum_ib.models.layers import blocks, resolve_layer

Layers = str | Sequence[str]
"""Names of layers; none for the method's default; or ``"auto"`` or ``"paper"``."""


def build_method(model: nn.Module, row: MethodSpec, layers: Layers = ()) -> tuple[Any, list[str]]:
    """The method on a model, and the names of its layers.

    Args:
        model: a classifier, or a ``DualEncoder``.
        row: the method.
        layers: names of layers, none for the method's default, or ``"auto"`` or ``"paper"``.

    Raises:
        ValueError: a layer that is not there, or does not fit the method.
    """
    forward = Logits(model) if row.cls_path.startswith("captum.") else model
    names = [] if isinstance(layers, str) else list(layers)
    if row.layers == "none":
        if names:
            raise ValueError(f"{row.name} explains the input and takes no layer")
        return row.cls(forward), ["input"]
    if row.layers == "one":
        if len(names) > 1:
            raise ValueError(f"{row.name} takes one layer, given {len(names)}")
        name, module = resolve_layer(model, names[0]) if names else blocks(model)[-1]
        return row.cls(forward, module), [name]
    method = row.cls(model, _layers_for(model, row, layers))
    return method, [name for name, _ in method.layers]


def _layers_for(model: nn.Module, row: MethodSpec, layers: Layers) -> Any:
    """The constructor's argument for what was asked."""
    if isinstance(layers, str):  # comparators have one default each
        return layers if row.cls_path.startswith("captum_ib.attr.") else None
    if not layers or not isinstance(model, DualEncoder):
        return list(layers) or None
    groups = _by_tower(model, layers)
    if row.name == "com2ib":
        return groups
    ones = [group[0] for group in groups if len(group) == 1]
    return ones if len(ones) == 2 else list(layers)


def _by_tower(dual: DualEncoder, layers: Sequence[str]) -> list[list[str]]:
    """The named layers of each tower; two texts may share one encoder.

    Raises:
        ValueError: a name that is not there, or a tower that got none.
    """
    named = [(name, resolve_layer(dual.model, name)[1]) for name in layers]
    groups: list[list[str]] = []
    for modality in dual.modalities[:2]:
        inside = set(dual.tower(modality).modules())
        groups.append([name for name, module in named if module in inside])
        if not groups[-1]:
            raise ValueError(
                f"a dual encoder needs two layers or more, some of each tower; none of "
                f"{', '.join(layers)} lies in the {modality} tower (`captum-ib layers` lists them)"
            )
    return groups


class Logits:
    """A forward function for Captum's own methods: a tensor of logits, and a look whether to stop.

    Args:
        model: a classifier; its output may be a ``ModelOutput``, which Captum does not take.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __call__(self, pixels: Tensor) -> Tensor:
        """Logits ``(N, classes)``."""
        check_stop()  # Captum's methods don't look between their steps
        return output_tensor(self.model(pixels), len(pixels))
