"""A forward function around a model that knows the model's layers itself."""

from __future__ import annotations

from torch import Tensor, nn

from captum_ib.layout import TokenLayout


class ModelView(nn.Module):
    """A forward function around a model that knows the model's layers itself.

    What it says goes before what :meth:`TokenLayout.infer` and
    :func:`~captum_ib.models.layers.default_layers` would find out from the modules.

    Attributes:
        samples_axis: 1 where its layers take the sequence first, ``(T, N, C)``.
        knows_layouts: whether :meth:`layout` goes before what the operations of a pass show.
    """

    samples_axis: int = 0
    knows_layouts: bool = True

    def layout(
        self, layer: nn.Module, activation: Tensor, inputs: tuple[Tensor, ...], name: str
    ) -> TokenLayout:
        """The layout of one of the model's layers."""
        raise NotImplementedError(f"{type(self).__name__} defines no layout")

    def blocks(self) -> list[tuple[str, nn.Module]]:
        """The main stack of blocks with their names, in order."""
        raise NotImplementedError(f"{type(self).__name__} defines no blocks")
