"""Mean and variance of a layer's activations: merged batch by batch, saved, loaded, compared."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from captum_ib.bottleneck.moments import Moments

FORMAT = "captum_ib.activation_statistics/1"

MIN_STD = 0.01
"""Lower bound of σ (Schulz et al.: keeps R̂ finite for neurons that hardly vary)."""


@dataclass
class ActivationStatistics:
    """Element-wise statistics of one or several layers over a set of reference inputs.

    Fill it with :meth:`update`, whole batches at a time; join parts computed elsewhere with
    :meth:`merge`; keep it with :meth:`save`. Methods take it as ``baselines=``.

    >>> statistics = ActivationStatistics()
    >>> statistics.update("layer", torch.tensor([[0.0], [2.0]]))
    >>> statistics.update("layer", torch.tensor([[4.0]]))
    >>> statistics.mean("layer").item(), round(statistics.std("layer").item(), 4)
    (2.0, 1.633)
    """

    layers: dict[str, Moments] = field(default_factory=dict[str, Moments])

    def __len__(self) -> int:
        return len(self.layers)

    def __contains__(self, layer: str) -> bool:
        return layer in self.layers

    def update(self, layer: str, batch: Tensor, mask: Tensor | None = None) -> None:
        """Add a batch of activations.

        Args:
            layer: the layer's name.
            batch: ``(N, *shape)``, floating point, any device.
            mask: ``(N, T)``, valid positions of a padded sequence; the others don't count.

        Raises:
            ValueError: NaN or inf in the batch, or a shape that differs from earlier batches'.
        """
        new = Moments.of(batch, mask)
        if not torch.isfinite(new.m2.sum()):  # a NaN or inf reaches the sums
            raise ValueError(f"activations of layer {layer!r} hold NaN or inf; no statistics taken")
        if layer in self.layers:
            self._require_shape(layer, tuple(new.mean.shape))
            new = self.layers[layer].merge(new)
        self.layers[layer] = new

    def merge(self, other: ActivationStatistics) -> ActivationStatistics:
        """Statistics over both sets of inputs; neither operand is changed.

        Raises:
            ValueError: when the layers or their shapes differ.
        """
        if set(self.layers) != set(other.layers):
            raise ValueError(
                f"can't merge statistics of layers {sorted(self.layers)} and {sorted(other.layers)}"
            )
        for name, moments in other.layers.items():
            self._require_shape(name, tuple(moments.mean.shape))
        return ActivationStatistics(
            {name: self.layers[name].merge(other.layers[name]) for name in self.layers}
        )

    @staticmethod
    def merge_all(parts: Iterable[ActivationStatistics]) -> ActivationStatistics:
        """Merge any number of parts."""
        parts = list(parts)
        if not parts:
            raise ValueError("no statistics to merge, given an empty sequence")
        merged = parts[0]
        for part in parts[1:]:
            merged = merged.merge(part)
        return merged

    def shape(self, layer: str) -> tuple[int, ...]:
        """Shape of one activation of ``layer``, without the sample axis."""
        return tuple(self._get(layer).mean.shape)

    def count(self, layer: str) -> int:
        """Number of reference inputs seen at ``layer`` (at its most often valid position)."""
        return int(self._get(layer).count.max().item())

    def mean(self, layer: str) -> Tensor:
        """Mean per element, float32, shape of the layer.

        Positions that fewer than 2 inputs reach (long captions are rare) take the mean over all.
        """
        moments = self._get(layer)
        return torch.where(moments.count < 2, moments.pooled().mean, moments.mean).float()

    def std(self, layer: str, min_std: float = MIN_STD) -> Tensor:
        """Population standard deviation per element, at least ``min_std``, float32.

        Positions that fewer than 2 inputs reach take that over all positions.
        """
        moments = self._get(layer)
        variance = torch.where(moments.count < 2, moments.pooled().variance, moments.variance)
        return variance.sqrt().clamp_min(min_std).float()

    def active(self, layer: str, threshold: float = 0.01) -> Tensor:
        """Neurons that are non-zero in more than ``threshold`` of the inputs, bool per element."""
        moments = self._get(layer)
        return moments.nonzero > threshold * moments.count

    def require(self, layer: str, shape: tuple[int, ...]) -> None:
        """Check that ``layer`` was estimated on activations of ``shape``.

        Raises:
            ValueError: when it was not, saying what these statistics hold.
        """
        self._require_shape(layer, shape)
        if self.count(layer) < 2:
            raise ValueError(
                f"statistics of layer {layer!r} come from {self.count(layer)} input; a standard "
                "deviation needs at least 2, and some hundred are better"
            )

    def save(self, path: str | Path) -> None:
        """Write a safetensors file; layer names, shapes and counts stand in its header."""
        from safetensors.torch import (
            save_file,  # pyright: ignore[reportUnknownVariableType]: its paths have half a type
        )

        header = {
            name: {"shape": list(self.shape(name)), "count": self.count(name)}
            for name in self.layers
        }
        tensors = {
            f"{index}.{part}": getattr(moments, part).expand(moments.mean.shape).clone()
            for index, moments in enumerate(self.layers.values())
            for part in ("count", "mean", "m2", "nonzero")
        }
        path = Path(path)
        temporary = path.with_name(path.name + ".part")
        save_file(tensors, temporary, {"format": FORMAT, "layers": json.dumps(header)})
        temporary.replace(path)

    @staticmethod
    def load(path: str | Path) -> ActivationStatistics:
        """Read what :meth:`save` wrote.

        Raises:
            ValueError: when the file is not one of ours or contradicts its own header.
        """
        from safetensors import SafetensorError, safe_open

        opened: Any = safe_open  # written in Rust, untyped
        try:
            with opened(str(path), framework="pt") as file:
                metadata: dict[str, str] = file.metadata() or {}
                tensors: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise ValueError(f"{path} is not a safetensors file: {error}") from error
        if metadata.get("format") != FORMAT:
            raise ValueError(
                f"{path} does not hold activation statistics: expected format {FORMAT!r} in its "
                f"header, found {metadata.get('format')!r}"
            )
        return ActivationStatistics(_read_layers(path, json.loads(metadata["layers"]), tensors))

    def _get(self, layer: str) -> Moments:
        if layer not in self.layers:
            raise ValueError(
                f"no statistics for layer {layer!r}; these hold {sorted(self.layers) or 'none'}"
            )
        return self.layers[layer]

    def _require_shape(self, layer: str, shape: tuple[int, ...]) -> None:
        known = self.shape(layer)
        if known != tuple(shape):
            raise ValueError(
                f"statistics of layer {layer!r} are for activations of shape {known}, given "
                f"{tuple(shape)}; estimate them on inputs of the same size"
            )


def _read_layers(
    path: str | Path, header: Mapping[str, Mapping[str, Any]], tensors: Mapping[str, Tensor]
) -> dict[str, Moments]:
    layers: dict[str, Moments] = {}
    for index, (name, entry) in enumerate(header.items()):
        keys = [f"{index}.{part}" for part in ("count", "mean", "m2", "nonzero")]
        missing = [key for key in keys if key not in tensors]
        shape = tuple(entry["shape"])
        if missing or any(tuple(tensors[key].shape) != shape for key in keys):
            raise ValueError(f"{path} contradicts its header at layer {name!r} (shape {shape})")
        layers[name] = Moments(*(tensors[key] for key in keys))
    return layers
