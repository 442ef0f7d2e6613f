"""A method of a run on its model: subjects in, maps out, one per sample."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_ib import methods
from captum_ib.benchmark.config import MethodConfig
from captum_ib.benchmark.settings import FLOOR
from captum_ib.benchmark.subjects import Subjects
from captum_ib.models.dual_encoder import DualEncoder
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

    def __len__(self) -> int:
        return len(self.image)

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


def make_explainer(line: MethodConfig, model: nn.Module) -> Explainer | Floor:
    """The explainer of a line of the run.

    Raises:
        ValueError: the method is not for this kind of model; a layer is not there or does not fit.
    """
    return Floor() if line.method == FLOOR else Explainer(line, model)


class Explainer:
    """A method of the registry.

    Args:
        line: which, and its settings.
        model: a classifier, or a ``DualEncoder``.

    Attributes:
        stochastic: whether its maps depend on the seed.
    """

    def __init__(self, line: MethodConfig, model: nn.Module) -> None:
        self.row = methods.get(line.method)
        kind = "dual" if isinstance(model, DualEncoder) else "classifier"
        if kind not in self.row.takes:
            fitting = ", ".join(row.name for row in methods.for_kind(kind))
            what = "an image-text model" if kind == "dual" else "a classifier"
            raise ValueError(f"{line.label}: {self.row.name} can't explain {what}; use: {fitting}")
        known = inspect.signature(self.row.cls).parameters
        self._own = {key: _listed(key, value) for key, value in line.settings.items()}
        self._own = {key: value for key, value in self._own.items() if key in known}
        rest = {key: value for key, value in line.settings.items() if key not in known}
        self._settings = {**self.row.settings, **rest}
        self.stochastic = "seed" in self.row.options
        self._model = model
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
        method = self._method if model in (None, self._model) else self._built(_checked(model))
        settings = dict(self._settings)
        if self.stochastic:
            settings[self.row.options["seed"]] = seed
        pixels, text = subjects.pixels, None
        if subjects.input_ids is not None:
            image, text = method.attribute(
                (pixels, subjects.input_ids), additional_forward_args=subjects.mask, **settings
            )
            text = text.detach().float().cpu()
        else:
            # Captum's input methods would set this themselves, with a warning.
            pixels = pixels.clone().requires_grad_(self.row.layers == "none")
            image = method.attribute(pixels, target=subjects.targets, **settings)
            if self.row.layers == "none":
                image = image.sum(dim=1, keepdim=True)
        if image.ndim != 4 or image.shape[1] != 1:
            raise ValueError(
                f"{self.row.name} gives no map over the image (shape {tuple(image.shape)}); choose "
                "another layer"
            )
        return Maps(image.detach().float().cpu(), text)

    def _built(self, model: nn.Module) -> Any:
        if self.row.cls_path.startswith("captum.") and not isinstance(model, DualEncoder):
            wrapped = _Logits(model)
            if self.row.layers == "one":
                layer = self._own.get("layer")
                _, module = resolve_layer(model, layer) if layer else blocks(model)[-1]
                return self.row.cls(wrapped, module)
            return self.row.cls(wrapped, **self._own)
        return self.row.cls(model, **self._own)


class Floor:
    """The method that knows nothing: standard normal noise, of its own for every sample.

    One value per pixel and per token, so that it has no grid that could favour it.
    """

    stochastic = True

    def __call__(self, subjects: Subjects, seed: int, model: nn.Module | None = None) -> Maps:
        """Noise that depends on the seed and the sample's id only."""
        size = tuple(subjects.pixels.shape[2:])
        images, texts = [], []
        for row, name in enumerate(subjects.ids):
            generator = torch.Generator().manual_seed(seed_of(seed, name))
            images.append(torch.randn(1, *size, generator=generator))
            if subjects.input_ids is not None and subjects.valid is not None:
                noise = torch.randn(subjects.input_ids.shape[1], generator=generator)
                texts.append(noise * torch.from_numpy(subjects.valid[row]))
        return Maps(torch.stack(images), torch.stack(texts) if texts else None)


def seed_of(*parts: object) -> int:
    """A number for a generator that depends on all parts, the same on every machine.

    >>> seed_of(0, "scene-0-0") == seed_of(0, "scene-0-0") != seed_of(1, "scene-0-0")
    True
    """
    digest = hashlib.sha256("/".join(map(str, parts)).encode("utf-8")).digest()
    return int.from_bytes(digest[:4], "big")


class _Logits(nn.Module):
    """A classifier whose output is a tensor: Captum's methods take no ``ModelOutput``."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = model.training

    def forward(self, pixels: Tensor) -> Tensor:
        output = self.model(pixels)
        return getattr(output, "logits", output)


def _listed(key: str, value: Any) -> Any:
    """Several layers are a list."""
    return list(value) if key in ("layer", "layers") and isinstance(value, tuple) else value


def _checked(model: nn.Module | None) -> nn.Module:
    if model is None:
        raise TypeError("a model is needed")
    return model


Explain = Callable[[Subjects, int], Maps]
