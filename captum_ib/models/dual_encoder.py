"""Two encoders and one joint space: pairs of inputs → their cosine similarity."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from captum_ib.hooks import borrowed
from captum_ib.layout import TokenLayout
from captum_ib.models.families import towers_of
from captum_ib.models.layers import NamedLayer, at_depth
from captum_ib.models.tower import Tower
from captum_ib.models.view import ModelView


class DualEncoder(nn.Module):
    """A dual encoder as a forward function: ``dual(first, second, *masks)`` → cosine ``(N,)``.

    So Captum's own methods take it as ``forward_func``. Made by :meth:`from_model` for the known
    families (:mod:`captum_ib.models.families`), or from any two or more towers.

    Args:
        model: the module that holds both encoders.
        towers: one :class:`~captum_ib.models.tower.Tower` per modality, at least two; ``forward``
            takes the first two.

    Attributes:
        model: the given model, untouched.
        modalities: the towers' names, in the order of ``forward``'s arguments.

    >>> from captum_ib import zoo
    >>> dual = DualEncoder.from_model(zoo.load("clip-scenes").model)
    >>> dual.modalities
    ('image', 'text')
    """

    def __init__(self, model: nn.Module, towers: Sequence[Tower]) -> None:
        super().__init__()
        if len(towers) < 2 or len({tower.name for tower in towers}) < len(towers):
            raise ValueError(
                "a dual encoder needs at least two towers of different names, given "
                f"{[tower.name for tower in towers]}"
            )
        self.model = model
        self._towers = {tower.name: tower for tower in towers}
        self.training = model.training  # the flags inside are the user's

    @staticmethod
    def from_model(model: nn.Module) -> DualEncoder:
        """The dual encoder in a model of a known family.

        Raises:
            TypeError: another model, with the families that are known.
        """
        if isinstance(model, DualEncoder):
            return model
        return DualEncoder(model, towers_of(model))

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the towers."""
        return tuple(self._towers)

    @property
    def layers(self) -> dict[str, list[nn.Module]]:
        """The blocks of every tower, in order."""
        return {name: [block for _, block in tower.blocks] for name, tower in self._towers.items()}

    def tower(self, modality: str) -> Tower:
        """The tower of a modality.

        Raises:
            ValueError: an unknown modality.
        """
        if modality not in self._towers:
            raise ValueError(f"unknown modality {modality!r}, this model has {self.modalities}")
        return self._towers[modality]

    def pair(self, first: str, second: str) -> DualEncoder:
        """The same model with two of its modalities as the pair, in this order."""
        return DualEncoder(self.model, [self.tower(first), self.tower(second)])

    def forward(self, first: Tensor, second: Tensor, *masks: Tensor | None) -> Tensor:
        """Cosine similarity of each pair, ``(N,)``.

        Args:
            first, second: inputs of the first two modalities, N samples each.
            masks: for the modalities with padding, in order; a single mask goes to the only, or
                the last, of them.
        """
        names = self.modalities[:2]
        given = self.assign_masks(masks)
        one, other = (
            self.encode(name, value, mask)
            for name, value, mask in zip(names, (first, second), given, strict=True)
        )
        return (one * other).sum(dim=-1)

    def assign_masks(self, masks: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Which of the given masks belongs to the first and which to the second modality.

        Raises:
            ValueError: more masks than modalities that take one.
        """
        takers = [i for i, name in enumerate(self.modalities[:2]) if self._towers[name].takes_mask]
        if len(masks) > len(takers):
            raise ValueError(
                f"given {len(masks)} masks, but {len(takers)} of {self.modalities[:2]} take one"
            )
        assigned: list[Tensor | None] = [None, None]
        for index, mask in zip(takers[len(takers) - len(masks) :], masks, strict=True):
            assigned[index] = mask
        return assigned

    def encode(self, modality: str, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Pooled embeddings ``(N, d)``, of length 1."""
        return nn.functional.normalize(self.tower(modality).pooled(inputs, mask), dim=-1)

    def tokens(self, modality: str, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """The last layer's tokens in the joint space, ``(N, T, d)``, not normalised."""
        return self.tower(modality).tokens(inputs, mask)

    def token_mask(
        self, modality: str, inputs: Tensor, mask: Tensor | None = None
    ) -> Tensor | None:
        """Valid tokens ``(N, T)``, or ``None`` when the modality has no padding."""
        return self.tower(modality).token_mask(inputs, mask)

    def default_layer(self, modality: str, share: float = 0.75) -> NamedLayer:
        """The block at ⌊share · depth⌋ of a tower: 9 of 12, as in both papers.

        Raises:
            ValueError: a tower without blocks.
        """
        blocks = self.tower(modality).blocks
        if not blocks:
            raise ValueError(
                f"the {modality} tower has no blocks; give it blocks=, or name a layer"
            )
        return at_depth(blocks, share)


def learned_scale(dual: DualEncoder, default: float) -> float:
    """What the model itself multiplies its cosine with (``logit_scale``, the exponential)."""
    learned = getattr(dual.model, "logit_scale", None)
    return float(learned.detach().exp()) if isinstance(learned, Tensor) else default


class TowerEmbedding(ModelView):
    """One tower as a plain forward function: inputs → pooled embedding ``(N, d)``, of length 1.

    Args:
        dual: the dual encoder.
        modality: the tower.
    """

    def __init__(self, dual: DualEncoder, modality: str) -> None:
        super().__init__()
        self.dual = dual
        self.modality = modality
        self.samples_axis = self.tower.samples_axis
        self.training = dual.training  # the flags inside are the user's

    @property
    def tower(self) -> Tower:
        """The tower itself; a property, so that its modules have one name: ``dual.model. …``."""
        return self.dual.tower(self.modality)

    @property
    def knows_layouts(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the tower has a rule of its own."""
        return self.tower.knows_layouts

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Embedding per row."""
        return self.dual.encode(self.modality, inputs, mask)

    def layout(
        self, layer: nn.Module, activation: Tensor, inputs: tuple[Tensor, ...], name: str
    ) -> TokenLayout:
        """The layout of one of the tower's layers."""
        return self.tower.layout(layer, activation, inputs, name)

    def blocks(self) -> list[NamedLayer]:
        """The tower's blocks, with their names within the dual encoder's model."""
        return list(self.tower.blocks)

    def valid_tokens(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor | None:
        """Valid tokens ``(N, T)`` of the inputs, or ``None`` when there is no padding."""
        return self.tower.token_mask(inputs, mask)


class TowerView(TowerEmbedding):
    """One tower as a plain forward function: inputs → cosine to a constant embedding, ``(N,)``.

    While one tower is explained, the other is a constant. ``view(inputs, mask)`` takes any
    multiple of N rows, ordered draw by draw.

    Args:
        dual: the dual encoder.
        modality: the tower.
        other_embedding: ``(N, d)``, of length 1.
    """

    def __init__(self, dual: DualEncoder, modality: str, other_embedding: Tensor) -> None:
        super().__init__(dual, modality)
        self.other_embedding = other_embedding.detach()

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Cosine similarity per row."""
        embedding = super().forward(inputs, mask)
        other = self.other_embedding.to(embedding.dtype)
        return (embedding.unflatten(0, (-1, other.shape[0])) * other).sum(dim=-1).flatten()

    def part(self, start: int, stop: int) -> TowerView:
        """The view for some of the samples."""
        return TowerView(self.dual, self.modality, self.other_embedding[start:stop])


class ZeroShotClassifier(TowerEmbedding):
    """Images (or other inputs of the first modality) → logits over prompts: a plain classifier.

    Args:
        dual: the dual encoder.
        prompts: inputs of the second modality, one row per prompt, e.g. ``input_ids`` ``(P, T)``.
        mask: mask of the prompts.
        scale: factor on the cosine similarities; default: the model's own ``logit_scale`` (the
            exponential, as CLIP applies it), or 100.
        prompts_per_class: so many consecutive prompts belong to one class; their embeddings are
            averaged (Radford et al. 2021, section 3.1.4).

    Raises:
        ValueError: a number of prompts that ``prompts_per_class`` does not divide.
    """

    weights: Tensor

    def __init__(
        self,
        dual: DualEncoder,
        prompts: Tensor,
        mask: Tensor | None = None,
        scale: float | None = None,
        prompts_per_class: int = 1,
    ) -> None:
        super().__init__(dual, dual.modalities[0])
        if prompts_per_class < 1 or len(prompts) % prompts_per_class:
            raise ValueError(
                f"{len(prompts)} prompts can't be divided into classes of {prompts_per_class}"
            )
        with borrowed([dual]), torch.no_grad():
            embeddings = dual.encode(dual.modalities[1], prompts, mask)
        classes = embeddings.unflatten(0, (-1, prompts_per_class)).mean(dim=1)
        self.register_buffer("weights", nn.functional.normalize(classes, dim=-1), persistent=False)
        self.scale = float(learned_scale(dual, 100.0) if scale is None else scale)

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits ``(N, classes)``."""
        embedding = super().forward(inputs, mask)
        return self.scale * embedding @ self.weights.to(embedding.dtype).T

    def blocks(self) -> list[NamedLayer]:
        """The blocks of the first tower, with their names within this module."""
        return [(f"dual.model.{name}", block) for name, block in self.tower.blocks]
