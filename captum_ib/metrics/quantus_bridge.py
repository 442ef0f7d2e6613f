"""From any attribution method to an explain_func that Quantus can call."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_ib.metrics.scorer import Pair, is_dual, model_device, model_input, sides, token_mask


def explain_func(
    method: Any,
    /,
    *,
    channels: Literal["sum", "keep"] = "sum",
    interpolation: str = "bilinear",
    conserve: bool = False,
    modality: str | None = None,
    pad_token: int | None = None,
    **settings: Any,
) -> ExplainFunc:
    """Make a Quantus explain_func of a Captum or captum_ib attribution method.

    The result is called as ``f(model=, inputs=, targets=, device=…)`` with numpy arrays and returns
    a numpy array whose axes match the inputs.

    Args:
        method: how to get the method.

            - A class: constructed on the model of each call, so that metrics which change the model
              (MPRT) explain the changed one. Settings that its constructor takes (``layer``, …) go
              there, the others to ``attribute()``. Give layers by dotted name: a module belongs to
              one model only.
            - A function ``model → method``, for methods that need more (``NoiseTunnel``,
              statistics).
            - An instance: only for the model that it was built on; any other model is refused.
        channels: ``"sum"`` an image's attribution over its channels, as Quantus' own bridge does
            and its localisation metrics require, or ``"keep"`` them.
        interpolation: how layer maps ``(N, c, h, w)`` grow to the inputs' ``(H, W)``, as in
            ``captum.attr.LayerAttribution.interpolate``.
        conserve: divide upsampled maps by how many pixels each position became, so that their sum
            stays (completeness).
        modality: for a dual encoder, which modality ``inputs`` are; ``targets`` are then the other
            modality's inputs. Its first unless given. Captum's own methods explain the first only.
        pad_token: for a dual encoder that can't tell padding from the token ids themselves, its id.
        settings: for the constructor and ``attribute()``; tensors and arrays are moved to the
            model's device. ``target=`` replaces Quantus' targets.

    Returns:
        A callable for Quantus. What Quantus passes in ``explain_func_kwargs`` is added to the
        settings, except ``device`` (where to compute) and ``method``, a name that
        ``quantus.evaluate`` adds on its own.

    Raises:
        TypeError: ``method`` is none of the three.
        ValueError: ``channels`` is neither "sum" nor "keep".
        ValueError: when called: an instance and another model; maps that don't fit the inputs, hold
            NaN, or are constant over the whole batch (Quantus would refuse with an assertion; for a
            bottleneck this means that it collapsed).

    >>> import numpy as np, torch
    >>> from captum.attr import Saliency
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2)).eval()
    >>> saliency = explain_func(Saliency)
    >>> saliency(model=model, inputs=np.ones((5, 3, 2, 2)), targets=np.zeros(5, int)).shape
    (5, 1, 2, 2)
    """
    if channels not in ("sum", "keep"):
        raise ValueError(f'channels is "sum" or "keep", given {channels!r}')
    return ExplainFunc(method, channels, interpolation, conserve, modality, pad_token, settings)


@dataclass
class ExplainFunc:
    """What ``explain_func`` returns; see there."""

    _method: Any
    _channels: str
    _interpolation: str
    _conserve: bool
    _modality: str | None
    _pad_token: int | None
    _settings: dict[str, Any]

    def __post_init__(self) -> None:
        self._build = _builder(self._method)

    def __call__(
        self,
        model: nn.Module,
        inputs: np.ndarray,
        targets: np.ndarray | None,
        device: str | torch.device | None = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """Attributions of ``inputs``, as Quantus asks for them."""
        kwargs.pop("method", None)
        where = model_device(model, device)
        settings = {
            name: _move(value, where) for name, value in {**self._settings, **kwargs}.items()
        }
        tensor = model_input(inputs, model, where)
        method, settings = self._build(model, settings)
        if is_dual(model) and "target" not in settings:
            attribution = self._explain_pair(method, model, tensor, targets, settings)
        else:
            settings.setdefault(
                "target", None if targets is None else model_input(targets, model, where)
            )
            if _is_captums(type(method)) and tensor.is_floating_point():
                tensor.requires_grad_()  # Captum would do so too, but warn about it
            attribution = method.attribute(tensor, **settings)
        name = _name(method)
        if not isinstance(attribution, Tensor):
            raise TypeError(f"{name} returned {type(attribution).__name__}; expected one tensor")
        fitted = self._fit(attribution.detach(), tensor, name)
        _check(fitted, name)
        return fitted.float().cpu().numpy()

    def _explain_pair(
        self,
        method: Any,
        dual: nn.Module,
        tensor: Tensor,
        targets: np.ndarray | None,
        settings: dict[str, Any],
    ) -> Any:
        this, other = sides(dual, self._modality)
        if targets is None:
            raise ValueError(f"to explain the {this} of pairs, give the {other} of each as targets")
        partner = model_input(targets, dual, tensor.device)
        masks = {
            side: token_mask(dual, side, values, self._pad_token)
            for side, values in ((this, tensor), (other, partner))
        }
        first, second = tuple(cast(Pair, dual).modalities)[:2]
        given = tuple(masks[side] for side in (first, second) if masks[side] is not None)
        if not _is_captums(type(method)):
            pair = (tensor, partner) if this == first else (partner, tensor)
            settings = {"additional_forward_args": given or None, **settings}
            return method.attribute(pair, **settings)[0 if this == first else 1]
        if this != first:
            raise ValueError(
                f"Captum's {_name(method)} explains the {first} of this dual encoder; for the "
                f"{this} use a captum_ib method, or explain a TowerView"
            )
        tensor.requires_grad_()  # Captum would do so too, but warn about it
        return method.attribute(tensor, additional_forward_args=(partner, *given), **settings)

    def _fit(self, attribution: Tensor, inputs: Tensor, name: str) -> Tensor:
        """Bring a map to the inputs' size, or say why that can't be done."""
        if len(attribution) == len(inputs):
            if inputs.ndim == 4 and attribution.ndim in (3, 4):
                maps = attribution[:, None] if attribution.ndim == 3 else attribution
                if maps.shape[1] in (1, inputs.shape[1]):
                    maps = self._upsample(maps, inputs.shape[2:])
                    return maps.sum(1, keepdim=True) if self._channels == "sum" else maps
            elif attribution.shape == inputs.shape[: attribution.ndim]:
                return attribution
        raise ValueError(
            f"{name} returned an attribution of shape {tuple(attribution.shape)} for inputs of "
            f"shape {tuple(inputs.shape)}; Quantus needs the inputs' axes: (N, 1, h, w) or "
            "(N, C, h, w) for images, one value per token for sequences"
        )

    def _upsample(self, maps: Tensor, size: torch.Size) -> Tensor:
        if maps.shape[2:] == size:
            return maps
        smooth = self._interpolation in ("bilinear", "bicubic")
        grown = F.interpolate(
            maps.float(),
            tuple(size),
            mode=self._interpolation,
            align_corners=False if smooth else None,
        )
        if self._conserve:
            grown = grown * (maps.shape[2] * maps.shape[3] / (size[0] * size[1]))
        return grown


Builder = Callable[[nn.Module, dict[str, Any]], tuple[Any, dict[str, Any]]]


def _builder(method: Any) -> Builder:
    """A function (model, settings) → (method on that model, settings that are left)."""
    if inspect.isclass(method) and hasattr(method, "attribute"):
        return lambda model, settings: _construct(method, model, settings)
    if hasattr(method, "attribute"):
        return lambda model, settings: (_bound(method, model), settings)
    if callable(method) and not inspect.isclass(method):
        return lambda model, settings: (_made(method, model), settings)
    raise TypeError(
        "explain_func takes an attribution class, an instance, or a function model → instance; "
        f"given {method!r}"
    )


def _construct(cls: type, model: nn.Module, settings: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    first, *parameters = inspect.signature(cls).parameters.values()
    del first  # forward_func, or however the class calls the model
    names = {p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    own = {name: value for name, value in settings.items() if name in names}
    left = {name: value for name, value in settings.items() if name not in names}
    if "layer" in own:
        own["layer"] = _layer(cls, model, own["layer"])
    return cls(model, **own), left


def _layer(cls: type, model: nn.Module, layer: Any) -> Any:
    """Captum's own layer methods want the module; a module of another model is a mistake."""
    if isinstance(layer, nn.Module):
        if not any(layer is module for module in model.modules()):
            raise ValueError(
                f"layer= of {cls.__name__} is a module of another model than the one to explain "
                "(MPRT explains copies); give its dotted name instead"
            )
        return layer
    if isinstance(layer, str) and _is_captums(cls):
        names = dict(model.named_modules())
        if layer not in names:
            raise ValueError(f"{type(model).__name__} has no layer {layer!r}; see named_modules()")
        return names[layer]
    return layer


def _is_captums(cls: type) -> bool:
    return cls.__module__.startswith("captum.")


def _bound(method: Any, model: nn.Module) -> Any:
    if getattr(method, "forward_func", None) is not model:
        raise ValueError(
            f"this {_name(method)} was built on another model than the one Quantus wants explained "
            f"(MPRT explains randomised copies). Give explain_func the class, "
            f"explain_func({type(method).__name__}, …), or a function model → method"
        )
    return method


def _made(factory: Callable, model: nn.Module) -> Any:
    method = factory(model)
    if not hasattr(method, "attribute"):
        raise TypeError(
            f"the function given to explain_func returned {type(method).__name__}, which has no "
            "attribute(); it must return an attribution method built on the model it is given"
        )
    return method


def _name(method: Any) -> str:
    return method.get_name() if hasattr(method, "get_name") else type(method).__name__


def _move(value: Any, device: torch.device) -> Any:
    if isinstance(value, np.ndarray):
        value = torch.as_tensor(value)
    return value.to(device) if isinstance(value, Tensor) else value


def _check(attribution: Tensor, name: str) -> None:
    """Say clearly what Quantus would refuse with an assertion, or worse, rank."""
    if not bool(torch.isfinite(attribution).all()):
        raise ValueError(f"{name} returned NaN or infinity")
    low, high = float(attribution.min()), float(attribution.max())
    if low == high:
        raise ValueError(
            f"{name} returned the same value ({low:g}) everywhere, for all {len(attribution)} "
            "samples; there is nothing to rank. A bottleneck that collapsed gives 0 bits "
            "everywhere: lower beta, or take more steps"
        )
    if high < 0:
        raise ValueError(
            f"{name} returned only negative values, which Quantus refuses; if the sign means "
            "nothing here, negate the output, or take absolute values"
        )
