"""What all metrics here share: Quantus' call signature, and checks before anything is computed."""

# Quantus calls evaluate_batch by keyword, with more of them than its base class says.
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
from quantus.helpers.enums import DataType, ModelType
from quantus.helpers.model.model_interface import ModelInterface
from quantus.metrics.base import Metric
from torch import Tensor, nn

Undefined = Literal["raise", "nan"]


class Samples(NamedTuple):
    """What Quantus hands to a metric: its wrapper of the model, and N samples.

    Attributes:
        model: ``None`` where the metric was called without one.
        x: inputs.
        y: targets, or the other modality's inputs.
        a: attributions.
        s: masks, where some were given.
    """

    model: ModelInterface
    x: np.ndarray
    y: np.ndarray
    a: np.ndarray
    s: np.ndarray | None = None


class TorchMetric(Metric[list[float]]):
    """A ``quantus.Metric`` for PyTorch models: batched, with one score per sample.

    Args:
        undefined: what happens to a sample for which the metric has no value (a constant map, an
            empty mask, …): ``"raise"`` a ``ValueError`` that names the samples, or score them
            ``"nan"``.
        abs: take the absolute attribution first.
        normalise: apply ``normalise_func`` to the attributions first; ranks, and so every metric
            here that takes a quantile, don't depend on it.
        normalise_func: Quantus' ``normalise_by_max`` unless given.
        normalise_func_kwargs: keywords for ``normalise_func``.
        return_aggregate: return one number in a list instead of one per sample.
        aggregate_func: how to; the mean over the samples that have a score unless given.
        default_plot_func: what ``metric.plot()`` calls.
        disable_warnings: Quantus' flag; nothing here prints.
        display_progressbar: one bar over the batches.

    Calling a metric takes Quantus' arguments: ``model``, ``x_batch``, ``y_batch``, then ``a_batch``
    or ``explain_func``, ``s_batch`` where masks are needed, ``device``, ``batch_size``,
    ``softmax``, ``channel_first``, ``explain_func_kwargs``, ``model_predict_kwargs``. Arrays in, a
    list of scores out.

    Raises:
        TypeError: ``x_batch`` or ``a_batch`` is no array; neither ``a_batch`` nor ``explain_func``
            given.
        ValueError: NaN or infinity in ``x_batch`` or ``a_batch``; attributions that don't fit the
            inputs; samples for which the metric is undefined (with ``undefined="raise"``).
        RuntimeError: the model is in training mode.
    """

    data_applicability = {DataType.IMAGE}  # noqa: RUF012 (Quantus declares it so)
    model_applicability = {ModelType.TORCH}  # noqa: RUF012

    def __init__(
        self,
        *,
        undefined: Undefined = "raise",
        abs: bool = False,
        normalise: bool = False,
        normalise_func: Callable[[np.ndarray], np.ndarray] | None = None,
        normalise_func_kwargs: dict[str, Any] | None = None,
        return_aggregate: bool = False,
        aggregate_func: Callable | None = None,
        default_plot_func: Callable | None = None,
        disable_warnings: bool = True,
        display_progressbar: bool = False,
    ) -> None:
        if undefined not in ("raise", "nan"):
            raise ValueError(f'undefined is "raise" or "nan", given {undefined!r}')
        super().__init__(
            abs=abs,
            normalise=normalise,
            normalise_func=normalise_func,
            normalise_func_kwargs=normalise_func_kwargs,
            return_aggregate=return_aggregate,
            aggregate_func=aggregate_func or np.nanmean,
            default_plot_func=default_plot_func,
            disable_warnings=disable_warnings,
            display_progressbar=display_progressbar,
        )
        self.undefined = undefined

    def __call__(
        self,
        model: nn.Module | None,
        x_batch: np.ndarray,
        y_batch: np.ndarray,
        a_batch: np.ndarray | None = None,
        s_batch: np.ndarray | None = None,
        channel_first: bool | None = None,
        explain_func: Callable | None = None,
        explain_func_kwargs: dict | None = None,
        model_predict_kwargs: dict | None = None,
        softmax: bool | None = True,
        device: str | None = None,
        batch_size: int = 64,
        custom_batch: Any = None,
        **kwargs: Any,
    ) -> list[float]:
        """Score a batch of explanations; see the class for the arguments.

        Returns:
            One score per sample, or one number with ``return_aggregate=True``.
        """
        check_array("x_batch", x_batch)
        if a_batch is not None:
            check_array("a_batch", a_batch)
            check_fits(a_batch, x_batch)
        elif explain_func is None:
            raise TypeError("give either a_batch (attributions) or explain_func (how to get them)")
        if model is not None and not isinstance(cast(object, model), nn.Module):
            raise TypeError(
                f"model must be a torch.nn.Module, given {type(model).__name__}; a function goes "
                "into the forward of a module, which Quantus can put on a device"
            )
        if model is not None and model.training:
            raise RuntimeError("the model is in training mode; call model.eval() first")
        self._given = a_batch
        self._begin()
        return super().__call__(
            model=model,
            x_batch=x_batch,
            y_batch=y_batch,
            a_batch=None,  # custom_preprocess puts it in
            s_batch=s_batch,
            channel_first=channel_first,
            explain_func=explain_func or _never,
            # A copy: Quantus writes the device into the dictionary it is given.
            explain_func_kwargs=dict(explain_func_kwargs or {}),
            model_predict_kwargs=model_predict_kwargs,
            softmax=softmax,
            device=device,
            batch_size=batch_size,
            custom_batch=custom_batch,
            **kwargs,
        )

    def custom_preprocess(self, *, x_batch: np.ndarray, **kwargs: Any) -> dict[str, Any] | None:
        """Put given attributions in, past Quantus' assertions.

        Quantus refuses a batch that is constant or negative throughout; here that is for each
        metric to decide, sample by sample.
        """
        if self._given is None:
            return None
        maps = self._given
        if maps.ndim == x_batch.ndim - 1:
            maps = np.expand_dims(maps, 1)
        if self.normalise and self.normalise_func is not None:
            maps = self.normalise_func(maps)
        return {"a_batch": np.abs(maps) if self.abs else maps}

    def evaluate_batch(
        self,
        model: ModelInterface,
        x_batch: np.ndarray,
        y_batch: np.ndarray,
        a_batch: np.ndarray,
        s_batch: np.ndarray | None = None,
        **kwargs: Any,
    ) -> list:
        """Scores of one batch; called by Quantus."""
        return self._evaluate(Samples(model, x_batch, y_batch, a_batch, s_batch))

    @abstractmethod
    def _evaluate(self, samples: Samples) -> list:
        """Scores of one batch."""

    def _begin(self) -> None:
        """Called once before the batches of a call; for metrics that collect curves."""

    def _undefined(self, where: Tensor, why: str) -> None:
        """Refuse the samples marked in ``where`` (N,) unless the user asked for NaN."""
        if self.undefined == "raise" and bool(where.any()):
            rows = torch.nonzero(where).flatten().tolist()
            raise ValueError(
                f"{self.name} has no value for {why} (samples {rows} of this batch); leave them "
                'out, or build the metric with undefined="nan" to score them NaN'
            )


def _never(**kwargs: Any) -> np.ndarray:
    raise RuntimeError("attributions were given, so none should have been asked for")


def check_array(name: str, array: np.ndarray) -> None:
    """Refuse what is no array, is empty, or holds NaN or infinity.

    Raises:
        TypeError: not a numpy array.
        ValueError: empty, or not finite.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(
            f"{name} must be a numpy array, as everywhere in Quantus; given {type(array).__name__} "
            "(a tensor becomes one with .detach().cpu().numpy())"
        )
    if array.size == 0:
        raise ValueError(f"{name} is empty (shape {array.shape})")
    if not np.isfinite(array).all():
        rows = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(1)).tolist()
        raise ValueError(f"{name} holds NaN or infinity in samples {rows}")


def check_fits(attributions: np.ndarray, inputs: np.ndarray) -> None:
    """Refuse attributions that are not of the inputs' shape, apart from the channel axis.

    Raises:
        ValueError: what was given and what would fit.
    """
    size, wanted = attributions.shape, inputs.shape
    if len(wanted) == 4:
        # Quantus takes images with their channels first or last, maps with channels first or none.
        sizes = {wanted[2:], wanted[1:3]}
        channels = len(size) == 4 and size[1] in (1, wanted[1], wanted[3])
        fits = size[0] == wanted[0] and (size[1:] in sizes or (channels and size[2:] in sizes))
    else:
        fits = size == wanted
    if not fits:
        raise ValueError(
            f"a_batch of shape {size} does not fit x_batch of shape {wanted}; expected the same "
            "shape, for images with one channel or without the channel axis (upsample layer maps, "
            "for instance with captum.attr.LayerAttribution.interpolate)"
        )


def pixel_maps(attributions: np.ndarray, inputs: np.ndarray, metric: str) -> Tensor:
    """Attributions as ``(N, H, W)`` float64: one number per pixel, channels summed.

    Raises:
        ValueError: the inputs are no images ``(N, C, H, W)``, or the attributions are not finite.
    """
    if inputs.ndim != 4:
        raise ValueError(
            f"{metric} needs images (N, C, H, W), given x_batch of shape {inputs.shape}"
        )
    check_array("the attribution", attributions)
    if attributions.ndim != 4 or attributions.shape[2:] != inputs.shape[2:]:
        raise ValueError(
            f"{metric} needs one value per pixel: expected (N, 1, H, W) or (N, C, H, W) with "
            f"(H, W) = {inputs.shape[2:]}, given an attribution of shape {attributions.shape}"
        )
    return torch.from_numpy(np.asarray(attributions, dtype=np.float64)).sum(1)


def constant(maps: Tensor) -> Tensor:
    """Which samples of ``(N, …)`` have the same value everywhere; ``(N,)`` of bool."""
    flat = maps.flatten(1)
    return flat.amax(1) == flat.amin(1)


def require_both(mean: object, std: object) -> None:
    """Refuse one of a preprocessing's mean and std without the other.

    Raises:
        ValueError: one is ``None``, the other not.
    """
    if (mean is None) != (std is None):
        raise ValueError("mean and std belong together: give both or neither")


def per_channel(values: float | Sequence[float], like: Tensor, name: str) -> Tensor:
    """A number or one per channel as a tensor that broadcasts over ``(N, C, H, W)``.

    Raises:
        ValueError: neither one number nor one per channel.
    """
    tensor = torch.as_tensor(values, dtype=like.dtype, device=like.device).flatten()
    if len(tensor) not in (1, like.shape[1]):
        raise ValueError(
            f"{name} has {len(tensor)} entries for images with {like.shape[1]} channels; give one "
            "number or one per channel"
        )
    return tensor.view(1, -1, 1, 1)
