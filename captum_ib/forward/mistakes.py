"""Mistakes that would pass silently get a word: what was given, and what was likely meant."""

# Anything may be given here, and a model's attributes may be anything.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

CALLERS = ("captum_ib", "captum", "quantus", "torch")
"""Packages whose lines are not the user's."""
MASKS = ("attention_mask", "attn_mask", "mask", "padding_mask", "src_key_padding_mask")
"""Names under which masks are passed elsewhere."""

_ROUGH = 0.5
_BYTES = 20.0  # no normalised picture has such values, unless a channel's std is below 0.05


class InputWarning(UserWarning):
    """What was given can be explained, but is likely not what was meant."""


def warn(message: str) -> None:
    """An :class:`InputWarning` at the line outside of this package, Captum and Quantus."""
    frame, depth = sys._getframe(), 1  # pyright: ignore[reportPrivateUsage]
    while frame.f_back is not None and _inside(frame.f_code.co_filename):
        frame, depth = frame.f_back, depth + 1
    warnings.warn(message, InputWarning, stacklevel=depth)


def _inside(file: str) -> bool:
    loaded = (getattr(sys.modules.get(name), "__file__", None) for name in CALLERS)
    return any(file.startswith(str(Path(home).parent) + os.sep) for home in loaded if home)


def refuse_unknown(
    given: Mapping[str, object], known: Sequence[str], owner: str, open_ended: bool
) -> None:
    """Raise ``TypeError`` for keywords that an ``attribute`` does not have.

    A mask given by its name goes to the model; another word is likely a slip, unless the method
    hands on what it does not know (``open_ended``).
    """
    for name in given:
        if name in known:
            continue
        if name in MASKS:
            raise TypeError(
                f"attribute() has no argument {name}; pass the mask as "
                f"additional_forward_args={name}: it goes to the model behind the inputs"
            )
        if not open_ended:
            raise TypeError(f"{owner}.attribute has no argument {name}{meant(name, known)}")


def meant(name: str, known: Sequence[str]) -> str:
    """What a mistyped argument likely is: "; did you mean …? It has …".

    >>> meant("steps", ["inputs", "n_steps", "p"])
    '; did you mean n_steps? It has inputs, n_steps, p'
    """
    near = get_close_matches(name, known, n=1)
    near = near or [one for one in known if len(name) > 3 and name in one]
    asked = f"; did you mean {near[0]}? It has " if near else "; it has "
    return asked + ", ".join(known)


def tensor_of(value: object) -> str:
    """What to do with something that is no tensor, to make one of it; starts with "; "."""
    kind, module = type(value).__name__, type(value).__module__.partition(".")[0]
    if module == "numpy":
        return "; pass torch.from_numpy(array), normalised as the model wants it"
    if module == "PIL":
        return (
            "; pass the model's own preprocessing of it, preprocess(picture)[None], or call "
            "captum_ib.explain(model, picture)"
        )
    if isinstance(value, Mapping) or kind in ("BatchEncoding", "BatchFeature"):
        names = ", ".join(map(str, getattr(value, "keys", list)()))
        return (
            f'; pass its entries: inputs=batch["pixel_values"], for a pair (batch["pixel_values"], '
            f'batch["input_ids"]), and additional_forward_args=batch["attention_mask"] (it has '
            f"{names})"
        )
    if isinstance(value, list):
        return "; pass a tuple for several inputs, torch.stack(list) for several samples"
    if isinstance(value, str):
        return "; pass the tokenizer's ids, or call captum_ib.explain(model, (picture, text))"
    return ""


def look(forward_func: Callable[..., Any], inputs: Sequence[Tensor], others: Sequence[Any]) -> None:
    """Warn of what is likely a mistake in a call: train mode, raw pixels, padding without a mask.

    Only what the model itself says is compared: its flags, its normalisation, its padding.
    """
    if not isinstance(forward_func, nn.Module):
        return
    _look_at_mode(forward_func)
    model = getattr(forward_func, "model", forward_func)  # of a dual encoder
    for value in inputs:
        if value.is_floating_point() and value.ndim == 4:
            _look_at_pixels(model, value)
    given = any(isinstance(value, Tensor) and value.ndim >= 2 for value in others)
    if len(inputs) == 1 and not given and padding_in(inputs[0], forward_func):
        warn(
            "the text's ids hold padding, and no mask says so, so it is explained as text: pass "
            "the tokenizer's attention_mask as additional_forward_args"
        )


def look_at_masks(
    towers: Sequence[Any], inputs: Sequence[Tensor], masks: Sequence[object], given: int
) -> None:
    """Warn of a mask that was forgotten, or of one for two texts.

    Args:
        towers: of the pair.
        inputs: of the pair.
        masks: assigned to the towers; ``None`` where there is none.
        given: how many there were.
    """
    for tower, value in zip(towers, inputs, strict=True):
        _look_at_end(tower, value)
    takers = [tower for tower in towers if tower.takes_mask]
    texts = not any(value.is_floating_point() for value in inputs)
    if given == 1 and len(takers) == 2 and texts:
        warn(
            f"one mask for two inputs that take one: it goes to the {takers[1].name}, and all of "
            f"the {takers[0].name} counts; pass additional_forward_args=(mask, mask), None for one "
            "that needs none"
        )
        return
    for tower, value, mask in zip(towers, inputs, masks, strict=True):
        if not tower.takes_mask or mask is not None:
            continue
        if padding_in(value, tower.module, tower.token_mask(value)):
            warn(
                f"the {tower.name}'s ids hold padding, and no mask says so, so padding is "
                "explained as text: pass the tokenizer's attention_mask as additional_forward_args"
            )


def look_at_map(found: Any) -> None:
    """Warn of a signed map, the first that a method returned, that is 0 for every sample."""
    while isinstance(found, tuple) and found:
        found = found[0]
    if isinstance(found, Tensor) and found.numel() and not bool(found.any()):
        warn(f"the map is 0 everywhere, for every sample: {_NO_SLOPE}")


_NO_SLOPE = (
    "the explained output does not change there, as behind a head whose weights are 0, or its "
    "gradient is cut off, as by rounding, .sign(), argmax or .detach(), or is 0 at every point "
    "that was looked at; choose another layer, or a forward function without them"
)


def _look_at_end(tower: Any, ids: Tensor) -> None:
    """Warn of texts without the end token at which a causal tower is read."""
    end = getattr(tower, "end", None)
    if end is None or ids.is_floating_point():
        return
    without = (ids != end).all(dim=1)
    if bool(without.any()):
        warn(
            f"the {tower.name}'s ids hold no end token {end} in sample(s) "
            f"{without.nonzero().flatten().tolist()[:5]}, so the model reads their first token "
            "only: use this model's tokenizer, and cut texts ahead of the end token"
        )


def padding_in(ids: Tensor, model: nn.Module, counted: Tensor | None = None) -> bool:
    """Whether token ids end (or begin) with what the model's configuration calls padding.

    Args:
        ids: ``(N, T)``.
        model: has the configuration.
        counted: tokens that the model reads by itself, ``(N, T)``; ``None``: all. A CLIP reads to
            its end token: padding behind it has no effect.
    """
    if ids.is_floating_point() or ids.ndim != 2 or ids.shape[1] < 2:
        return False
    config: Any = getattr(model, "config", None)
    config = getattr(config, "text_config", config)
    if "siglip" in str(getattr(config, "model_type", "")):
        return False  # trained on padded texts, where padding counts
    padding, end = (getattr(config, name, None) for name in ("pad_token_id", "eos_token_id"))
    read = torch.ones_like(ids, dtype=torch.bool) if counted is None else counted
    if isinstance(padding, int) and padding != end:
        empty = read & (ids == padding)
        return bool((empty[:, -1] | empty[:, 0]).any())
    if isinstance(end, int):  # texts are padded with their end, which stands there once anyhow
        empty = read & (ids == end)
        return bool((empty[:, -1] & empty[:, -2]).any())
    return False


def _look_at_mode(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if not getattr(module, "training", False) or not _changes_with_mode(module):
            continue
        kind = type(module).__name__
        if model.training:
            said = f"the model is in training mode, in which its {kind} answers"
            mend = "model.eval()"
        else:
            said = f"the model's {name} is in training mode, in which a {kind} answers"
            mend = f'model.get_submodule("{name}").eval()'
        warn(
            f"{said} otherwise; what is explained is its answer in evaluation mode: call {mend} to "
            "see the same predictions"
        )
        return


def _changes_with_mode(module: nn.Module) -> bool:
    if isinstance(module, nn.modules.batchnorm._BatchNorm):  # pyright: ignore[reportPrivateUsage]
        return True
    if isinstance(module, nn.modules.dropout._DropoutNd):  # pyright: ignore[reportPrivateUsage]
        return module.p > 0
    share = getattr(module, "drop_prob", None)  # timm's DropPath
    return type(module).__name__ == "DropPath" and isinstance(share, float) and share > 0


def _look_at_pixels(model: Any, pixels: Tensor) -> None:
    """Compare with the mean and std of the model's own configuration (timm's)."""
    config = getattr(model, "pretrained_cfg", None)
    if not isinstance(config, Mapping) or not config.get("mean") or not config.get("std"):
        return
    mean, std = tuple(config["mean"]), tuple(config["std"])
    low, high = float(pixels.min()), float(pixels.max())
    mend = f"normalise them as this model wants it: mean {mean}, std {std} of values in [0, 1]"
    if high > _BYTES:
        warn(f"pixels from {low:.4g} to {high:.4g} look like bytes: divide by 255, then {mend}")
    elif any(mean) and low >= 0 and high <= 1 and _is_photograph(pixels):
        warn(
            f"pixels from {low:.4g} to {high:.4g} look like a picture before normalisation: {mend}"
        )


def _is_photograph(pixels: Tensor) -> bool:
    """Whether neighbours are alike, as in pictures and not in noise; constant ones say nothing."""
    values = pixels.detach().float()
    spread = float(values.std())
    step = (values[..., 1:] - values[..., :-1]).abs().mean()
    return spread > 0.02 and float(step) < _ROUGH * spread
