"""The model and the samples of a ranking as the metrics take them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from captum.attr import LayerAttribution
from torch import Tensor, nn

from captum_ib.forward import output_tensor, target_index
from captum_ib.metrics.insertion_deletion import InsertionMinusDeletion
from captum_ib.models.dual_encoder import DualEncoder

Score = Callable[[Tensor], Any]
"""Maps ``(N, 1, H, W)`` of the inputs' size (or as the method gives them, where they are no
images) → one score per sample, ``(N,)``; higher is better."""


class Judge:
    """The model and samples of a ranking, as the metrics take them."""

    def __init__(
        self,
        forward_func: Callable[..., Any],
        inputs: tuple[Tensor, ...],
        additional: tuple[Any, ...],
        target: Any,
    ) -> None:
        self.images = inputs[0]
        self.dual = isinstance(forward_func, DualEncoder)
        self.target: Any = None
        with torch.no_grad():
            if isinstance(forward_func, DualEncoder):
                masks = forward_func.assign_masks(additional)
                names = forward_func.modalities
                others = forward_func.encode(names[1], inputs[1], masks[1])
                self.classes = torch.arange(len(others))
                self.model: nn.Module = _AsClassifier(
                    lambda first: forward_func.encode(names[0], first, masks[0]) @ others.T
                )
            else:
                rest = (*inputs[1:], *additional)
                self.model = _AsClassifier(
                    lambda first: _as_classes(forward_func(first, *rest), len(first))
                )
                output = self.model(self.images)
                if output.shape[1] > 1 or target is not None:
                    given = output.argmax(dim=1) if target is None else target
                    index = target_index(given, output)
                    self.target = index[:, 0] if index is not None else None
                self.classes = torch.zeros(len(output), dtype=torch.long)
                if self.target is not None:
                    self.classes = self.target.cpu()
        self.probabilities = self.target is not None

    def insertion_minus_deletion(self, mean: Any, std: Any) -> Score:
        """ΔInsDel of maps.

        Raises:
            ValueError: inputs that are no images.
        """
        if not (self.images.is_floating_point() and self.images.ndim == 4):
            raise ValueError(
                f"inputs of shape {tuple(self.images.shape)} and type {self.images.dtype} are no "
                "images (N, C, H, W), so insertion and deletion of pixels can't judge them; pass "
                "score= (maps → one number per sample)"
            )
        metric = InsertionMinusDeletion(mean=mean, std=std, undefined="nan")

        def score(maps: Tensor) -> Any:
            return metric(
                self.model.eval(),
                self.images.cpu().numpy(),
                self.classes.numpy(),
                maps.cpu().numpy(),
                softmax=self.probabilities,
                device=str(self.images.device),
                batch_size=len(self.images),
            )

        return score

    def at_input_size(self, maps: Tensor) -> Tensor:
        """Grids upsampled to the image; sequences and flat maps as they are."""
        maps = maps.detach().float()
        if maps.ndim != 4 or self.images.ndim != 4:
            return maps
        size = (int(self.images.shape[2]), int(self.images.shape[3]))
        return LayerAttribution.interpolate(maps, size, "bilinear")


def _as_classes(output: Any, rows: int) -> Tensor:
    return output_tensor(output, rows).reshape(rows, -1)


class _AsClassifier(nn.Module):
    """A function from inputs to ``(N, classes)`` as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, inputs: Tensor) -> Tensor:
        return self.function(inputs)
