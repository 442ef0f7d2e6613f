"""A method of a run on its model: subjects in, maps out, one per sample."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_ib import methods
from captum_ib.benchmark.config import MethodConfig
from captum_ib.benchmark.reader import Logits
from captum_ib.benchmark.settings import FLOOR
from captum_ib.benchmark.subjects import Pairs, Subjects
from captum_ib.checks import AUTO
from captum_ib.metrics.scorer import is_dual
from captum_ib.models.layers import blocks, resolve_layer


@dataclass(frozen=True)
class Maps:
    """What a method says about N samples.

    Attributes:
        image: ``(N, 1, h, w)`` float32, of the layer's or the image's size.
        text: ``(N, T)`` float32; ``None`` for a classifier.
    """

    image: Tensor
    text: Tensor | None

    def part(self, rows: Sequence[int]) -> Maps:
        """Some of the samples."""
        chosen = list(rows)
        return Maps(self.image[chosen], None if self.text is None else self.text[chosen])

    def at(self, size: Sequence[int]) -> np.ndarray:
        """The image's maps at a size, ``(N, 1, H, W)``, bilinear as Captum interpolates."""
        if tuple(self.image.shape[2:]) == tuple(size):
            return self.image.numpy()
        return F.interpolate(self.image, tuple(size), mode="bilinear", align_corners=False).numpy()

    def problem(self, row: int) -> str | None:
        """Why a sample's map can't be judged; ``None``: it can."""
        image = self.image[row]
        parts = [image] if self.text is None else [image, self.text[row]]
        if not all(bool(torch.isfinite(part).all()) for part in parts):
            return "the map holds NaN or infinity"
        low, high = float(image.min()), float(image.max())
        if low == high:
            return f"the map is constant ({low:g} everywhere), so it ranks nothing"
        return None


class Explainer:
    """A method of the registry.

    Args:
        line: which, and its settings.
        model: a classifier, or a ``DualEncoder``.

    Attributes:
        stochastic: whether its maps depend on the seed.

    Raises:
        ValueError: the method is not for this kind of model; a layer is not there or does not fit.
    """

    def __init__(self, line: MethodConfig, model: nn.Module) -> None:
        self.row, self._model = methods.get(line.method), model
        kind = "dual" if is_dual(model) else "classifier"
        if kind not in self.row.takes:
            fitting = ", ".join(row.name for row in methods.for_kind(kind))
            what = "an image-text model" if kind == "dual" else "a classifier"
            raise ValueError(f"{line.label}: {self.row.name} can't explain {what}; use: {fitting}")
        known = inspect.signature(self.row.cls).parameters
        self._own, self._settings = {}, dict(self.row.settings)
        for key, value in line.settings.items():
            layers = key in ("layer", "layers") and isinstance(value, tuple)
            (self._own if key in known else self._settings)[key] = list(value) if layers else value
        if self.row.halves:
            self._settings.setdefault("internal_batch_size", AUTO)
        self.stochastic = "seed" in self.row.options
        self._method = self._built(model)

    def __call__(self, subjects: Subjects, seed: int, model: nn.Module | None = None) -> Maps:
        """Maps of the subjects.

        Args:
            subjects: N samples.
            seed: of the noise, for a method that draws any.
            model: another model of the same architecture (MPRT's); default: the explainer's.

        Raises:
            ValueError, RuntimeError: the method can't explain these samples.
        """
        model, settings = self._model if model is None else model, dict(self._settings)
        method = self._method if model is self._model else self._built(model)
        if self.stochastic:
            settings[self.row.options["seed"]] = seed
        if isinstance(subjects, Pairs):
            image, text = method.attribute(
                (subjects.pixels, subjects.input_ids),
                additional_forward_args=subjects.mask,
                **settings,
            )
            text = text.detach().float().cpu()
        else:
            on_inputs, text = self.row.layers == "none", None
            # Captum's input methods would set this themselves, with a warning.
            pixels = subjects.pixels.clone().requires_grad_(on_inputs)
            image = method.attribute(pixels, target=subjects.targets, **settings)
            image = image.sum(dim=1, keepdim=True) if on_inputs else image
        if image.ndim != 4 or image.shape[1] != 1:
            raise ValueError(
                f"{self.row.name} gives no map over the image (shape {tuple(image.shape)}); choose "
                "another layer"
            )
        return Maps(image.detach().float().cpu(), text)

    def _built(self, model: nn.Module) -> Any:
        if not self.row.cls_path.startswith("captum.") or is_dual(model):
            return self.row.cls(model, **self._own)
        if self.row.layers == "one":
            layer = self._own.get("layer")
            _, module = resolve_layer(model, layer) if layer else blocks(model)[-1]
            return self.row.cls(Logits(model), module)
        return self.row.cls(Logits(model), **self._own)


class Floor:
    """The method that knows nothing: standard normal noise, of its own for every sample.

    One value per pixel and per token, so that it has no grid that could favour it.
    """

    stochastic = True

    def __call__(self, subjects: Subjects, seed: int, model: nn.Module | None = None) -> Maps:
        """Noise that depends on the seed and the sample's id only."""
        images, texts = [], []
        for row, name in enumerate(subjects.ids):
            generator = torch.Generator().manual_seed(seed_of(seed, name))
            images.append(torch.randn(1, *subjects.pixels.shape[2:], generator=generator))
            if isinstance(subjects, Pairs):
                valid = torch.from_numpy(subjects.valid[row])
                texts.append(torch.randn(len(valid), generator=generator) * valid)
        return Maps(torch.stack(images), torch.stack(texts) if texts else None)


def make_explainer(line: MethodConfig, model: nn.Module) -> Explainer | Floor:
    """The explainer of a line of the run; errors as for :class:`Explainer`."""
    return Floor() if line.method == FLOOR else Explainer(line, model)


def seed_of(*parts: object) -> int:
    """A number for a generator that depends on all parts, the same on every machine.

    >>> seed_of(0, "scene-0-0") == seed_of(0, "scene-0-0") != seed_of(1, "scene-0-0")
    True
    """
    digest = hashlib.sha256("/".join(map(str, parts)).encode("utf-8")).digest()
    return int.from_bytes(digest[:4], "big")
