"""Run a method on a subject: what the shell, the page and ``captum_ib.explain`` all do."""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from captum_ib.bottleneck import FitTrace
from captum_ib.checks import AUTO
from captum_ib.collapse import Collapse, collapses_of
from captum_ib.explaining.answering import answer_maps
from captum_ib.explaining.building import Layers, build_method
from captum_ib.explaining.choices import Choice
from captum_ib.explaining.subject import Subject
from captum_ib.forward.mistakes import look_at_map, meant
from captum_ib.methods import MethodSpec
from captum_ib.models.dual_encoder import DualEncoder

RETRIES = 3
"""How often another β is tried for a map that collapses."""
_FACTORS: dict[str | None, float] = {None: 1.0, "nothing": 0.1, "everything": 10.0}


@dataclass(frozen=True)
class Finding:
    """What a method says about a subject.

    Attributes:
        row: the method.
        maps: one per input, on the CPU: ``(1, 1, h, w)`` for a picture, ``(T,)`` for a text, in
            the method's unit.
        layers: names of the layers it looked at.
        settings: all settings, given and default.
        seconds: that it took.
        method: the method itself, as it was used.
        given: the keywords of ``attribute`` that were used.
        collapses: per map in bits why it shows nothing, if it does; begin, end and padding of a
            text don't count.
        aside: per map the bits in begin, end and padding of a text, which no figure shows.
        tried: β (of a pair, for each input) at which a map collapsed, before the one that was used.
        attention: for each token of a caption, where in the picture it looks, ``(T, h, w)``;
            ``None`` of methods without cross-attention.
        whole: of an answer the map over all tokens, ``(1, T)``, of which ``maps`` are parts.
    """

    row: MethodSpec
    maps: tuple[Tensor, ...]
    layers: tuple[str, ...]
    settings: Mapping[str, Any]
    seconds: float = 0.0
    method: Any = field(default=None, repr=False, compare=False)
    given: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    collapses: tuple[Collapse | None, ...] = ()
    aside: tuple[float, ...] = ()
    tried: tuple[tuple[float, ...], ...] = ()
    attention: Tensor | None = field(default=None, repr=False, compare=False)
    whole: Tensor | None = field(default=None, repr=False, compare=False)

    @property
    def betas(self) -> tuple[float, ...]:
        """β for each map."""
        beta = self.settings["beta"]
        return tuple(beta) if isinstance(beta, (list, tuple)) else (beta,) * len(self.maps)

    @property
    def image(self) -> Tensor | None:
        """The picture's map, ``(1, 1, h, w)``; ``None`` of texts alone."""
        return next((one for one in self.maps if one.ndim == 4), None)

    @property
    def texts(self) -> tuple[Tensor, ...]:
        """The texts' maps, ``(T,)`` each."""
        return tuple(one for one in self.maps if one.ndim == 1)

    @property
    def bits(self) -> tuple[float, ...] | None:
        """Bits in each map, summed; ``None`` for methods with another unit."""
        if self.row.unit != "bits":
            return None
        return tuple(float(one.double().sum()) for one in self.maps)

    def record(self) -> dict[str, Any]:
        """Method, layers and settings."""
        return {
            "method": self.row.name,
            "class": self.row.cls_path,
            "paper": self.row.paper,
            "unit": self.row.unit,
            "signed": self.row.signed,
            "layers": list(self.layers),
            "settings": dict(self.settings),
        }


def explain_choice(subject: Subject, choice: Choice, *, show_progress: bool = True) -> Finding:
    """Run a method as it was chosen; where β is free and the map collapses, with another β.

    A map that keeps nothing is tried again with a tenth of β, one that keeps everything with ten
    times β, :data:`RETRIES` times at most; of a pair only that input's. If none selects, the first
    is given.

    Raises:
        TypeError, ValueError: as in :func:`explain_subject`.
    """
    run = partial(explain_subject, subject, choice.row, choice.layers, show_progress=show_progress)
    first = found = run(choice.settings)
    tried: tuple[tuple[float, ...], ...] = ()
    while choice.free and any(found.collapses) and len(tried) < RETRIES:
        tried = (*tried, found.betas)
        parts = zip(found.betas, found.collapses, strict=True)
        betas = tuple(beta * _FACTORS[one.kind if one is not None else None] for beta, one in parts)
        found = run({**choice.settings, "beta": betas[0] if len(subject.inputs) == 1 else betas})
    return first if any(found.collapses) else replace(found, tried=tried)


def explain_subject(
    subject: Subject,
    row: MethodSpec,
    layers: Layers,
    settings: Mapping[str, Any],
    *,
    show_progress: bool = True,
) -> Finding:
    """Run a method.

    Args:
        subject: what is to be explained.
        row: the method.
        layers: names of layers, none for the method's default, or ``"auto"`` or ``"paper"``.
        settings: keywords of its ``attribute``.
        show_progress: show a progress bar, if stderr is a terminal.

    Raises:
        TypeError: a keyword that its ``attribute`` does not have.
        ValueError: a layer that is not there, does not fit the method, or gives no map.
    """
    start = time.perf_counter()
    method, names = build_method(subject.model, row, layers)
    parameters = inspect.signature(method.attribute).parameters
    _require_known(row, settings, parameters)
    keywords, shown = dict(settings), show_progress and sys.stderr.isatty()
    if "show_progress" in parameters:
        keywords["show_progress"] = shown
    if row.halves:
        keywords.setdefault("internal_batch_size", AUTO)
    if subject.picture is not None and settings.get("cross_attention", True):
        keywords |= {"return_attention": True} if "return_attention" in parameters else {}
    if row.unit == "bits" and "return_trace" in parameters:
        keywords["return_trace"] = True
    with _passes(subject.model, row, keywords, shown and "show_progress" not in parameters):
        maps, traces, attention, whole = _maps(method, subject, row, keywords)
    if subject.picture is not None and (maps[0].ndim != 4 or maps[0].shape[1] != 1):
        raise ValueError(_no_map(row, names, maps[0]))
    kept = {key: _plain(value) for key, value in {**_defaults(parameters), **settings}.items()}
    kept.pop("show_progress", None)
    seconds = time.perf_counter() - start
    collapses, aside = _collapses(subject, row, maps, traces)
    return Finding(
        row,
        maps,
        tuple(names),
        kept,
        seconds,
        method,
        dict(settings),
        collapses,
        aside,
        attention=attention,
        whole=whole,
    )


def _collapses(
    subject: Subject, row: MethodSpec, maps: Sequence[Tensor], traces: Sequence[FitTrace | None]
) -> tuple[tuple[Collapse | None, ...], tuple[float, ...]]:
    """Why maps show nothing, and what of them lies in tokens that stand for no text."""
    if row.unit != "bits":
        return (), ()
    words = [None] * (len(maps) - len(subject.words)) + list(subject.words)
    counted = [
        one if text is None or not text.shown else one[None, text.shown]
        for one, text in zip(maps, words, strict=True)
    ]
    aside = tuple(
        float(one.double().sum() - own.double().sum())
        for one, own in zip(maps, counted, strict=True)
    )
    if subject.answering is not None:  # one fit for all of its maps
        whole = torch.cat([one.reshape(-1) for one in counted]).reshape(1, -1)
        return (collapses_of(whole, traces[0])[0],) * len(maps), aside
    pairs = zip(counted, traces, strict=True)
    return tuple(collapses_of(own.reshape(1, -1), trace)[0] for own, trace in pairs), aside


def _maps(
    method: Any, subject: Subject, row: MethodSpec, keywords: Mapping[str, Any]
) -> tuple[tuple[Tensor, ...], list[FitTrace | None], Tensor | None, Tensor | None]:
    """One map per input, without the axis of samples for texts; the fits; a caption's attention;
    of an answer the map over all tokens."""
    if subject.answering is not None:
        maps, trace, whole = answer_maps(method, subject, keywords)
        return maps, _usable((trace,) * len(maps), len(maps)), None, whole
    given: Any = subject.inputs
    more: dict[str, Any] = {} if subject.pair else {"target": subject.target}
    if subject.words:
        more["additional_forward_args"] = subject.masks
    else:
        # Captum's input methods would set this themselves, with a warning.
        given = subject.pixel_values.clone().requires_grad_(row.layers == "none")
    found: Any = method.attribute(given, **more, **keywords)
    traces, attention = None, None
    if keywords.get("return_attention"):
        *rest, (_, read) = found
        found = tuple(rest) if keywords.get("return_trace") else rest[0]
        attention = read.over_keys()[0].detach().float().cpu()
    if keywords.get("return_trace"):
        found, traces = found
    if not subject.words:
        if row.cls_path.startswith("captum.") and row.signed:  # ours have looked
            look_at_map(found)
        found = (found.sum(dim=1, keepdim=True) if row.layers == "none" else found,)
    maps = [one.detach().float().cpu() for one in found]
    own = tuple(one[0] if one.ndim == 2 and subject.words else one for one in maps)
    return own, _usable(traces, len(maps)), attention, None


def _usable(traces: Any, count: int) -> list[FitTrace | None]:
    """One trace per map; ``None`` where a map is of several fits, or of a single step."""
    each = list(traces) if isinstance(traces, tuple) else [traces]
    if len(each) != count:
        return [None] * count
    return [one if isinstance(one, FitTrace) and len(one.compression) > 1 else None for one in each]


def _no_map(row: MethodSpec, names: Sequence[str], found: Tensor) -> str:
    mend = "choose another layer"
    if row.cls_path == "captum.attr:LayerGradCam":
        mend = (
            "this is Captum's own Grad-CAM, for feature maps (N, C, h, w) only; the method "
            "layergradcam is Grad-CAM for layers of every kind"
        )
    return (
        f"{row.name} gives no map over the image at {', '.join(names)} (shape "
        f"{tuple(found.shape)}); {mend}"
    )


@contextmanager
def _passes(
    model: nn.Module, row: MethodSpec, keywords: Mapping[str, Any], show: bool
) -> Iterator[None]:
    """A bar that counts the inputs that pass through the model, for methods without a bar."""
    if not show:
        yield
        return
    parts = [model]
    if isinstance(model, DualEncoder):
        parts = [model.tower(name).module for name in model.modalities[:2]]
    total = keywords.get("n_steps", 50) if row.name == "ig" else None
    with ExitStack() as stack:
        bar = stack.enter_context(tqdm(total=total, desc=row.shown, unit="pass"))
        for part in parts:
            stack.callback(part.register_forward_hook(partial(_count, bar)).remove)
        yield


def _count(bar: Any, module: nn.Module, args: Any, output: Any) -> None:
    """A forward hook: the samples of a pass; it returns nothing, so the output stays."""
    bar.update(len(output) if isinstance(output, Tensor) and output.ndim else 1)


_INPUTS = ("self", "inputs", "baselines", "target", "additional_forward_args")


def _require_known(
    row: MethodSpec, settings: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter]
) -> None:
    known = [name for name in parameters if name not in _INPUTS]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        word = unknown[0]
        raise TypeError(f"{row.name} has no setting {word}{meant(word, [*known, 'layer'])}")


def _defaults(parameters: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    return {
        name: parameter.default
        for name, parameter in parameters.items()
        if name not in _INPUTS and parameter.default is not inspect.Parameter.empty
    }


def _plain(value: Any) -> Any:
    """A value that JSON can hold; functions and classes by their name."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return getattr(value, "__name__", str(value))
