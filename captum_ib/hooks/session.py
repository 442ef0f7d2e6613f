"""A borrowed model with hooks on its layers: one recorded pass, then replayed ones."""

# open_session is the session's own, outside the class; torch does not type a graph's nodes.
# pyright: reportPrivateUsage=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from captum_ib.axis import Axes
from captum_ib.checks import require_finite
from captum_ib.hooks.axes import AxisTracker
from captum_ib.hooks.composite import CompositeHook, LayerFunction
from captum_ib.hooks.isolate import borrowed, roots
from captum_ib.hooks.replay import Recorder, Replay

Run = Callable[[int], Tensor]
"""Forward pass of the model on its inputs repeated so many times, draw by draw → its output."""


class Session:
    """Forward passes through a model with some layers' activations read or replaced.

    Made by :func:`open_session`.

    Attributes:
        layers, names: the layers in the order in which they run, and their names.
        activations: their activations in the plain pass, ``(N, …)``, detached.
        axes: what their axes hold, as far as the operations of the plain pass show.
        tracker: what else these operations show.
        output: the model's output in the plain pass, detached.
        steady: whether repeated samples gave what each gave in the plain pass, as far as was seen.
        replay: what need not be computed again; ``None`` when there is nothing to replay or a
            replayed pass did not equal the plain one.
    """

    def __init__(
        self,
        run: Run,
        layers: Sequence[nn.Module],
        names: Sequence[str],
        to_input: bool,
        samples_axis: int = 0,
    ) -> None:
        self.layers = list(layers)
        self.names = list(names)
        self.to_input = to_input
        self.samples_axis = samples_axis
        self.activations: list[Tensor] = []
        self.axes: list[Axes] = []
        self.tracker = AxisTracker()
        self.replay: Replay | None = None
        self.steady = True
        self.output = torch.empty(0)
        self._run = run

    def run(self, repeats: int, fn: LayerFunction, replay: bool = True) -> Tensor:
        """One pass with ``fn(index, activation)`` at every layer; rows ordered draw by draw."""
        hook = CompositeHook(self.layers, fn, self.to_input, self.names, self.samples_axis)
        playing = self.replay.playing(repeats) if replay and self.replay else nullcontext()
        with playing, hook, hook.one_pass():
            return self._run(repeats)

    def _record(self, n: int) -> None:
        found: dict[int, Tensor] = {}
        passed: dict[int, Tensor] = {}

        def capture(index: int, activation: Tensor) -> Tensor:
            found[index] = activation.detach().clone()
            # Not a leaf: models may add to a layer's output in place.
            passed[index] = activation.detach().requires_grad_().clone()
            return passed[index]

        recorder = Recorder(n, self.samples_axis)
        with recorder.recording(), self.tracker:
            output = self.run(1, capture)
        for index, activation in found.items():
            require_finite(activation, f"the activation of layer {self.names[index]}")
        require_finite(output, "the model's output")
        order = list(found)
        self.layers = [self.layers[index] for index in order]
        self.names = [self.names[index] for index in order]
        self.activations = [found[index] for index in order]
        # Of what was passed on, since operations behind the layer show something, too.
        self.axes = [self.tracker.of(passed[index]) for index in order]
        self.output = output.detach()
        require_path(output, list(passed.values()), self.names)
        self.replay = recorder.replay()

    def _check_replay(self, n: int) -> None:
        """Keep the replay only if two repeats of it equal the plain pass."""
        if self.replay is None or not self.replay.schedule:
            self.replay = None
            return
        unsure = self.replay.unsure
        reason = None if unsure else self._difference(replay=True)
        if unsure or reason is not None:
            # Sizes don't tell where the samples are: a pass with twice as many shows it.
            self.replay = self._seen_twice(self.replay, n)
            untold = reason or "which tensors go along with the samples can't be told"
            reason = untold if self.replay is None else self._difference(replay=True)
        if reason is None:
            return
        self.replay = None
        # An error of the model itself must reach the caller.
        self.steady = self._difference(replay=False) is None
        if not self.steady:  # no fault of the replay, and told of by who knows why
            return
        warnings.warn(
            f"running without replay, which is slower but gives the same result ({reason})",
            RuntimeWarning,
            stacklevel=2,
        )

    def _seen_twice(self, replay: Replay, n: int) -> Replay | None:
        """The record with its samples' axes as a pass of two repeats shows them."""

        def passed(index: int, activation: Tensor) -> Tensor:
            return activation.detach().requires_grad_().clone()

        recorder = Recorder(2 * n, self.samples_axis)
        with recorder.recording():
            self.run(2, passed, replay=False)
        return replay.with_axes_of(recorder.replay(), 2)

    def _difference(self, replay: bool) -> str | None:
        """Why two repeats differ from the plain pass, or ``None`` when they don't."""
        repeats = 2
        try:
            with torch.no_grad():
                output = self.run(repeats, lambda index, activation: None, replay)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            if not replay:
                raise
            return f"{type(error).__name__}: {error}"
        expected = self.output.repeat(repeats, *[1] * (self.output.ndim - 1))
        if output.shape != expected.shape:
            return f"output of shape {tuple(output.shape)} instead of {tuple(expected.shape)}"
        gap = (output - expected).abs().max().float()
        scale = expected.abs().max().float().clamp_min(1e-6)
        if bool(gap <= self.tolerance(output) * scale):
            return None
        return f"outputs differ by {float(gap / scale):.2g} of the largest"

    def tolerance(self, output: Tensor) -> float:
        """How much two equal passes may differ, relative to the largest output."""
        dtypes = [output.dtype, *(activation.dtype for activation in self.activations)]
        return tolerance(dtypes, output.device.type)


def samples_axis_of(forward_func: Callable[..., Any]) -> int:
    """The axis on which the layers behind a forward function have their samples, 0 or 1."""
    return int(getattr(forward_func, "samples_axis", 0))


@contextmanager
def open_session(
    forward_func: Callable[..., Any],
    run: Run,
    layers: Sequence[nn.Module],
    names: Sequence[str],
    n: int,
    to_input: bool = False,
    replay: bool = True,
) -> Generator[Session]:
    """Borrow a model for a number of passes; it comes back as it was.

    Args:
        forward_func: the module or function that ``run`` calls. Where it says
            ``samples_axis = 1``, its layers take the sequence first, ``(T, N, C)``; the session's
            activations have the samples first all the same.
        run: see :data:`Run`.
        layers, names: where to hook, in any order.
        n: samples per repeat.
        to_input: hook the layers' inputs instead of their outputs.
        replay: compute only once what does not depend on the layers.
    """
    session = Session(run, layers, names, to_input, samples_axis_of(forward_func))
    # At once: a call that holds the layers and waits for the rest could wait for ever.
    with borrowed([*roots(forward_func, lambda: run(1)), *layers]):
        session._record(n)
        if replay:
            session._check_replay(n)
        else:
            session.replay = None
        yield session


def require_path(output: Tensor, activations: Sequence[Tensor], names: Sequence[str]) -> None:
    """See that a gradient can get from the output to at least one of some activations.

    Raises:
        RuntimeError: the graph is cut on the way.
    """
    wanted = {activation.grad_fn for activation in activations}
    seen, ends = set(), set()
    waiting = [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        if node in wanted:
            return
        seen.add(node)
        if "NotImplemented" in node.name():  # an operation that gives no gradient, as int8 does
            ends.add(node.name())
        else:
            waiting.extend(parent for parent, _ in node.next_functions)
    said = f"layer{'s' if len(names) > 1 else ''} {', '.join(names)}"
    raise RuntimeError(
        f"no gradient reaches {said}: the output does not depend on {said} in a way that gradients "
        "can follow"
        + (" (an operation behind has no derivative: int8 weights?)" if ends else "")
        + "; choose layers on the path to the output, float weights, and a forward function "
        "without torch.no_grad(), .detach() or argmax behind them"
    )


TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 2e-2}
"""Largest difference between a replayed and a plain pass, relative to the largest output: other
batch sizes take other kernels, a wrong replay is off by far more."""

TF32 = 1e-2
"""The same for float32 whose products are made in TF32, with ten bits of mantissa."""


def tolerance(dtypes: Iterable[torch.dtype], device: str) -> float:
    """The tolerance of the least precise of what a pass computes in.

    Args:
        dtypes: of the output and of the activations: a model may turn a bfloat16 output into
            float32 at last.
        device: type of the device, ``"cpu"`` or ``"cuda"``: its ``torch.autocast`` and TF32 count.

    >>> tolerance([torch.float32], "cpu"), tolerance([torch.float32, torch.bfloat16], "cpu")
    (0.001, 0.05)
    """
    found = [TOLERANCE.get(dtype, TOLERANCE[torch.float32]) for dtype in dtypes]
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        found.append(TOLERANCE.get(dtype, TOLERANCE[torch.float32]))
    if device == "cuda" and _tf32():
        found.append(TF32)
    return max(found)


def _tf32() -> bool:
    """Whether float32 matrix products may be made in TF32 or less."""
    matmul = torch.backends.cuda.matmul
    # Where torch has it, it follows the older settings, too; these can't be read beside it.
    precision = getattr(matmul, "fp32_precision", None)
    if precision is not None:
        return precision not in ("none", "ieee")
    return bool(matmul.allow_tf32) or torch.get_float32_matmul_precision() != "highest"
