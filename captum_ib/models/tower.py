"""One tower of a dual encoder: inputs of one modality → embeddings in the joint space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import FunctionType
from typing import SupportsIndex

from torch import Tensor, nn

from captum_ib.layout import TokenLayout
from captum_ib.models.architectures import NamedLayer, stages

Embed = Callable[[Tensor, Tensor | None], Tensor]
"""(inputs, mask) → embeddings; the mask is ``None`` for modalities without padding."""

InferLayout = Callable[[nn.Module, Tensor, tuple[Tensor, ...], str], TokenLayout]
"""(layer, activation, inputs, name) → layout."""


class Tower(nn.Module):
    """What a dual encoder needs to know of one modality; ``tower(inputs, mask)`` is :meth:`pooled`.

    A subclass has :meth:`pooled` and :meth:`tokens`, and what else differs, as methods; or the
    functions are given. A subclass can be copied and pickled with its model. A tower of functions
    can't: they would go on computing with the weights of the model that they were written for.

    Args:
        name: the modality: ``"image"``, ``"text"``, ``"audio"``, …
        module: the encoder, to infer layouts from.
        pooled, tokens: functions of (inputs, mask), in the place of the methods.
        blocks: the main stack, in order, with names within the model.
        takes_mask: whether the modality has padding.
        token_mask: function in the place of :meth:`token_mask`.
        infer_layout: function in the place of :meth:`layout`.
        samples_axis: 1 where the blocks take the sequence first, ``(T, N, C)``, as ImageBind's and
            OpenAI's own CLIP do; layouts and attributions have the samples first all the same.

    Raises:
        TypeError: ``pooled`` or ``tokens`` is neither given nor a method of the subclass.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        pooled: Embed | None = None,
        tokens: Embed | None = None,
        blocks: Sequence[NamedLayer] = (),
        takes_mask: bool = False,
        token_mask: Callable[[Tensor, Tensor | None], Tensor | None] | None = None,
        infer_layout: InferLayout | None = None,
        samples_axis: int = 0,
    ) -> None:
        super().__init__()
        self.name = name
        self.module = module
        self.blocks = list(blocks)
        self.takes_mask = takes_mask
        self.samples_axis = samples_axis
        self._token_mask = token_mask
        self._infer_layout = infer_layout
        # In a dict: modules among them are the model's, and no children of the tower.
        given = {"pooled": pooled, "tokens": tokens}
        self._embed = {verb: embed for verb, embed in given.items() if embed is not None}
        for verb in given:
            if verb not in self._embed and getattr(type(self), verb) is getattr(Tower, verb):
                raise TypeError(
                    f"the {name} tower has no {verb}; give {verb}=, a function of (inputs, mask), "
                    f"or subclass Tower with a method {verb}(inputs, mask)"
                )

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """See :meth:`pooled`."""
        return self.pooled(inputs, mask)

    def pooled(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """One embedding per sample in the joint space, ``(N, d)``, not normalised."""
        return self._embed["pooled"](inputs, mask)

    def tokens(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """The last layer's tokens through the same head, ``(N, T, d)``, not normalised."""
        return self._embed["tokens"](inputs, mask)

    def token_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor | None:
        """Valid tokens ``(N, T)``, or ``None`` when all are; by default those of the mask."""
        if self._token_mask is not None:
            return self._token_mask(inputs, mask)
        return None if mask is None else mask.bool()

    def layout(
        self, layer: nn.Module, activation: Tensor, inputs: tuple[Tensor, ...], name: str
    ) -> TokenLayout:
        """The layout of one of the tower's layers; by default inferred from the encoder."""
        if self._infer_layout is not None:
            return self._infer_layout(layer, activation, inputs, name)
        return TokenLayout.infer(self.module, layer, activation, inputs, name)

    @property
    def knows_layouts(self) -> bool:
        """Whether :meth:`layout` is a rule of its own, given or of a subclass."""
        return self._infer_layout is not None or type(self).layout is not Tower.layout

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[object, ...]:
        """What copying and pickling start with.

        Raises:
            TypeError: ``pooled`` or ``tokens`` is a function, whose weights would not be copied.
        """
        if any(isinstance(function, FunctionType) for function in self._embed.values()):
            raise TypeError(
                f"the {self.name} tower can't be copied or pickled: its pooled and tokens are "
                "functions, which keep the weights of the model that they were written for; "
                "subclass Tower with them as methods"
            )
        return super().__reduce_ex__(protocol)


def named_blocks(model: nn.Module, *prefixes: str) -> list[NamedLayer]:
    """The children of the ``ModuleList`` at a dotted name, with their names.

    Args:
        model: the model.
        prefixes: where the list is; the first name that exists counts (libraries rename them).

    Raises:
        ValueError: none of them exists.

    >>> model = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1)])})
    >>> [name for name, _ in named_blocks(model, "layer", "layers")]
    ['layers.0', 'layers.1']
    """
    modules = dict(model.named_modules())
    for prefix in prefixes:
        if prefix in modules:
            children = modules[prefix].named_children()
            return [(f"{prefix}.{key}", block) for key, block in children]
    raise ValueError(
        f"{type(model).__name__} has its blocks at none of {', '.join(prefixes)}; build "
        "DualEncoder(model, towers) with the blocks of this version of the model"
    )


def blocks_within(part: str, module: nn.Module) -> list[NamedLayer]:
    """The blocks of a part of a model, found by its architecture, with their names in the model."""
    return [(f"{part}.{name}", block) for name, block in stages(module).blocks]
