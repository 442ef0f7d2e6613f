"""Define what the models of the zoo are trained on: batches, losses and the auxiliary heads.

Two linear heads on the patch tokens let a small transformer learn several times faster from
scratch: after the second block one says which pixels of the patch belong to objects, at the end
one says which colour and shape the patch shows. Both are dropped when training is over.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from captum_ib.zoo import architectures, relations, scenes
from captum_ib.zoo.captions import holds, vocabulary
from captum_ib.zoo.loading import WEIGHTS
from captum_ib.zoo.tokenizer import WordTokenizer

# From one object without distractors to four: until this share of the steps, at most so many.
_CURRICULUM = ((0.08, 1), (0.18, 2), (0.30, 3), (1.0, scenes.MAX_OBJECTS))
_LEAST_COVER = 0.1  # share of a patch that an object must cover to be what the patch shows

_EARLY_BLOCK = 1  # the second
_OUTLINE_WEIGHT = 3.0
_PAIR_WEIGHT = 4.0


def most_objects(progress: float, curriculum: Sequence[tuple[float, int]] = _CURRICULUM) -> int:
    """The most objects per image at ``progress`` in [0, 1] of the training."""
    return next(most for until, most in curriculum if progress <= until)


def patch_targets(data: scenes.Scenes, patch: int) -> tuple[Tensor, Tensor]:
    """What each patch shows: ``(N, P)`` colour id and shape id, 0 for ground, else id + 1."""
    cover = functional.avg_pool2d(data.masks.float(), patch).flatten(2)
    share, place = cover.max(1)
    seen = share >= _LEAST_COVER
    colour = data.colours.gather(1, place) + 1
    shape = data.shapes.gather(1, place) + 1
    return colour * seen, shape * seen


def patch_pixels(data: scenes.Scenes, patch: int) -> Tensor:
    """Which pixels of each patch belong to some object: ``(N, P, patch * patch)`` float 0 or 1."""
    union = data.masks.any(1, keepdim=True).float()
    return functional.unfold(union, patch, stride=patch).transpose(1, 2)


def waves(side: int) -> Tensor:
    """Positions of ``side`` times ``side`` patches as waves in x and y: ``(side², WIDTH)``."""
    where = torch.arange(side, dtype=torch.float32)
    number = architectures.WIDTH // 4
    angles = where[:, None] * 0.01 ** (torch.arange(number) / number) * (torch.pi / 2)
    line = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows, columns = line[:, None].expand(-1, side, -1), line[None].expand(side, -1, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)


class Learner(nn.Module):
    """A model in training: the model, its auxiliary head, and its loss on generated scenes."""

    curriculum: Sequence[tuple[float, int]] = _CURRICULUM

    def __init__(self, name: str) -> None:
        super().__init__()
        self.spec = architectures.SPECS[name]
        self.model: Any = architectures.build(architectures.config_of(name))
        self._start_positions()
        self.n_colours, self.n_shapes = len(scenes.COLOURS) + 1, len(scenes.SHAPES) + 1
        self.what = nn.Linear(architectures.WIDTH, self.n_colours + self.n_shapes)
        self.where = nn.Linear(architectures.WIDTH, self.spec.patch**2)
        self._early: Tensor | None = None
        self.blocks()[_EARLY_BLOCK].register_forward_hook(self._keep)

    def _start_positions(self) -> None:
        """Start the vision positions as waves in x and y, of a patch's scale; they are learned.

        Both libraries start them near 0, from where attention takes long to find neighbours.
        """
        with torch.no_grad():
            self.positions()[1:] = waves(self.spec.size // self.spec.patch)

    def _keep(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """Keep what an early block returns; before transformers 5 that is a tuple."""
        self._early = output[0] if isinstance(output, tuple) else output

    def positions(self) -> Tensor:
        """The position embeddings of the image tokens ``(1 + P, d)``, class token first."""
        raise NotImplementedError

    def blocks(self) -> nn.ModuleList:
        """The blocks of the vision transformer."""
        raise NotImplementedError

    def pixels(self, images: Tensor) -> Tensor:
        """Normalise images in [0, 1]."""
        return (images - self.spec.mean) / self.spec.std

    def patch_loss(self, patches: Tensor, data: scenes.Scenes) -> Tensor:
        """Cross-entropy of the auxiliary heads, given the last patch tokens ``(N, P, d)``."""
        if self._early is None:
            raise RuntimeError("patch_loss needs a forward pass of the model before.")
        early, self._early = self._early[:, 1:], None
        outline = functional.binary_cross_entropy_with_logits(
            self.where(early), patch_pixels(data, self.spec.patch)
        )
        logits = self.what(patches).split([self.n_colours, self.n_shapes], dim=-1)
        targets = patch_targets(data, self.spec.patch)
        losses = [
            functional.cross_entropy(a.flatten(0, 1), b.flatten())
            for a, b in zip(logits, targets, strict=True)
        ]
        return torch.stack(losses).sum() + _OUTLINE_WEIGHT * outline

    def draw(self, n: int, seed: int, start: int, most: int) -> scenes.Scenes:
        """A training batch with up to ``most`` objects per image."""
        raise NotImplementedError

    def forward(self, data: Any) -> tuple[Tensor, Tensor]:
        """The main loss and the auxiliary loss on a batch."""
        raise NotImplementedError


class ClipLearner(Learner):
    """Contrastive training, in which a caption that is true of another image is no negative."""

    def __init__(self) -> None:
        super().__init__("clip-scenes")
        self.tokenizer = WordTokenizer(vocabulary())

    def positions(self) -> Tensor:
        """As :meth:`Learner.positions` describes them."""
        return self.model.vision_model.embeddings.position_embedding.weight

    def blocks(self) -> nn.ModuleList:
        """As :meth:`Learner.blocks` describes them."""
        return self.model.vision_model.encoder.layers

    def draw(self, n: int, seed: int, start: int, most: int) -> scenes.CaptionedScenes:
        """Scenes as :meth:`Learner.draw` describes them."""
        return scenes.captioned(n, seed=seed, start=start, size=self.spec.size, objects=(1, most))

    def forward(self, data: scenes.CaptionedScenes) -> tuple[Tensor, Tensor]:
        """Losses as :meth:`Learner.forward` describes them."""
        ids, mask = self.tokenizer.encode(data.captions)
        vision = self.model.vision_model(pixel_values=self.pixels(data.images))
        text = self.model.text_model(input_ids=ids, attention_mask=mask)
        image_embeds = functional.normalize(self.model.visual_projection(vision[1]), dim=-1)
        text_embeds = functional.normalize(self.model.text_projection(text[1]), dim=-1)
        logits = text_embeds @ image_embeds.T * self.model.logit_scale.exp().clamp(max=100)
        own = torch.eye(len(data), dtype=torch.bool)
        true = holds(data.mentions, data.colours, data.shapes)
        logits = logits.masked_fill(true & ~own, -torch.inf)
        target = torch.arange(len(data))
        main = functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)
        return main / 2, self.patch_loss(vision[0][:, 1:], data)


class VitLearner(Learner):
    """Classification by the one shape that is no distractor."""

    def __init__(self, name: str = "vit-scenes") -> None:
        super().__init__(name)

    def positions(self) -> Tensor:
        """As :meth:`Learner.positions` describes them."""
        return self.model.pos_embed[0]

    def blocks(self) -> nn.ModuleList:
        """As :meth:`Learner.blocks` describes them."""
        return self.model.blocks

    def draw(self, n: int, seed: int, start: int, most: int) -> scenes.LabelledScenes:
        """Scenes as :meth:`Learner.draw` describes them."""
        return scenes.labelled(n, seed=seed, start=start, size=self.spec.size, objects=(1, most))

    def forward(self, data: scenes.LabelledScenes) -> tuple[Tensor, Tensor]:
        """Losses as :meth:`Learner.forward` describes them."""
        tokens = self.model.forward_features(self.pixels(data.images))
        logits = self.model.forward_head(tokens)
        return functional.cross_entropy(logits, data.labels), self.patch_loss(tokens[:, 1:], data)


class RelationsLearner(VitLearner):
    """Classification by the direction from the ring to the star.

    It starts from the shipped ``vit-scenes``, which already tells the shapes apart. A third
    auxiliary head tells from the class token where ring and star are: without it, the loss stays
    at chance for hundreds of steps.
    """

    curriculum = ((0.08, 2), (0.16, 4), (1.0, relations.MAX_OBJECTS))

    def __init__(self) -> None:
        super().__init__("vit-relations")
        self.pair = nn.Linear(architectures.WIDTH, 4)
        known = load_file(WEIGHTS / "vit-scenes" / "model.safetensors")
        self._take_positions(known.pop("pos_embed")[0])
        own = self.model.state_dict()
        self.model.load_state_dict(
            {k: v for k, v in known.items() if k in own and not k.startswith("head.")}, strict=False
        )

    def _take_positions(self, known: Tensor) -> None:
        """Take over what was learned on a smaller grid, as a change of the waves it began with."""
        small, side = math.isqrt(len(known) - 1), self.spec.size // self.spec.patch
        change = (known[1:] - waves(small)).T.reshape(1, -1, small, small)
        change = functional.interpolate(change, size=(side, side), mode="bilinear")
        with torch.no_grad():
            self.positions()[0] = known[0]
            self.positions()[1:] += change[0].flatten(1).T

    def draw(self, n: int, seed: int, start: int, most: int) -> relations.RelatedScenes:
        """Scenes as :meth:`Learner.draw` describes them."""
        return relations.labelled(n, seed=seed, start=start, size=self.spec.size, objects=(2, most))

    def forward(self, data: Any) -> tuple[Tensor, Tensor]:
        """Losses as :meth:`Learner.forward` describes them."""
        tokens = self.model.forward_features(self.pixels(data.images))
        main = functional.cross_entropy(self.model.forward_head(tokens), data.labels)
        target = 4 * (data.centres.flatten(1) - 0.5)
        pair = functional.mse_loss(self.pair(tokens[:, 0]), target)
        return main, self.patch_loss(tokens[:, 1:], data) + _PAIR_WEIGHT * pair


LEARNERS: dict[str, type[ClipLearner] | type[VitLearner]] = {
    "clip-scenes": ClipLearner,
    "vit-scenes": VitLearner,
    "vit-relations": RelationsLearner,
}
