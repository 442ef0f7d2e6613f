"""Models with every kind of flag, all methods on them, and the state that no call may change."""

from __future__ import annotations

import copy
import os
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as everywhere
from torch.overrides import _get_current_function_mode_stack
from torch.utils import checkpoint

from captum_ib import methods
from captum_ib.hooks import threads, undo
from captum_ib.models.dual_encoder import DualEncoder
from tests.attr.cases import SUBJECTS, maps

OURS = [row for row in methods.METHODS.values() if row.cls_path.startswith("captum_ib.")]
FEW = {"steps": 2, "samples": 2, "seed": 0}
SHORT = {"rise": {"n_masks": 4, "grid": 3}}


class Counting(nn.Linear):
    """A linear layer with dropout that counts its calls in a buffer."""

    seen: torch.Tensor

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__(inner.in_features, inner.out_features, inner.bias is not None)
        self.load_state_dict(inner.state_dict())
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += 1
        return super().forward(nn.functional.dropout(x, 0.5, self.training))


@dataclass(frozen=True)
class Row:
    """A method on a model."""

    name: str
    kind: str

    def __str__(self) -> str:
        return f"{self.name}-{self.kind}"

    def call(self, model: Any, inputs: Any, extra: Any) -> tuple[torch.Tensor, ...]:
        """All of it: the method is built and called."""
        row = methods.get(self.name)
        settings = methods.settings_for([row], {})[self.name]
        settings |= {row.options[key]: FEW[key] for key in FEW if key in row.options}
        settings |= SHORT.get(self.name, {})
        target = None if self.kind == "dual" else 1
        result = row.cls(model).attribute(
            inputs, target=target, additional_forward_args=extra, **settings
        )
        return maps(result)


# What answers is a classifier of one class here: the methods see no difference.
ROWS = [Row(row.name, kind) for row in OURS for kind in sorted(row.takes - {"generator"})]


@dataclass
class Model:
    """A model as a user has it; ``forward_func`` is what methods are given."""

    model: nn.Module
    forward_func: Any
    inputs: Any
    extra: Any = None

    def run(self, row: Row) -> tuple[torch.Tensor, ...]:
        return row.call(self.forward_func, self.inputs, self.extra)


def build(kind: str, flags: str = "mixed") -> Model:
    """A small model of that kind with flags ``"eval"``, ``"train"`` or ``"mixed"``."""
    subject = SUBJECTS["clip" if kind == "dual" else "vit"]()
    if kind == "dual":
        model = copy.deepcopy(subject.model.model)
        model.visual_projection = Counting(model.visual_projection)
        forward_func = DualEncoder.from_model(model)
        inputs = tuple(value[:2] for value in subject.inputs)
        built = Model(model, forward_func, inputs, subject.extra[:2])
    else:
        model = copy.deepcopy(subject.model)
        model.head = Counting(model.head)
        built = Model(model, model, subject.inputs[:2])
    model.train(flags == "train")  # behind the back of the dual encoder
    if flags == "mixed":
        chance = random.Random(0)
        for module in model.modules():
            module.training = chance.random() < 0.5
        for parameter in model.parameters():
            parameter.requires_grad_(chance.random() < 0.7)
        next(model.parameters()).grad = torch.ones_like(next(model.parameters()))
    return built


def state(model: nn.Module) -> dict[str, Any]:
    """Everything that a call must leave as it was, of a model and of torch."""
    found: dict[str, Any] = {}
    for name, module in model.named_modules():
        hooks = {key: dict(value) for key, value in vars(module).items() if _hooks(key, value)}
        found[f"{name}: module"] = (module.training, hooks, sorted(vars(module)))
        for key, value in module.named_parameters(recurse=False):
            found[f"{name}.{key}"] = (
                id(value),
                value.requires_grad,
                None if value.grad is None else value.grad.tolist(),
            )
        for key, value in module.named_buffers(recurse=False):
            found[f"{name}.{key}"] = (id(value), value.tolist())
    found["hooks on all modules"] = {
        key: dict(value) for key, value in vars(everywhere).items() if _hooks(key, value)
    }
    found["modes"] = (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.is_autocast_enabled("cuda"),
        torch.autocast_increment_nesting() + torch.autocast_decrement_nesting(),
        torch._C._is_torch_function_all_disabled(),
        _get_current_function_mode_stack(),
        torch.get_default_dtype(),
        torch.backends.mha.get_fastpath_enabled(),
    )
    found["checkpointing"] = {
        key: id(value) for key, value in vars(checkpoint).items() if "heckpoint" in key
    }
    found["threads"] = (
        len(threads._table.claims),
        len(threads._table.waiting),
        undo.lock._is_owned(),
        len(threads._table.plain),
        len(threads._table.shortcuts._steps),
    )
    return found


def _hooks(key: str, value: object) -> bool:
    return "hook" in key and isinstance(value, dict)


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The names of what is not as it was."""
    return [name for name in {**before, **after} if before.get(name) != after.get(name)]


FILES = (
    f"captum_ib{os.sep}",
    f"{os.sep}contextlib.py",
    f"{os.sep}threading.py",
    f"torch{os.sep}autograd{os.sep}grad_mode.py",
    f"torch{os.sep}utils{os.sep}_contextlib.py",
    f"torch{os.sep}utils{os.sep}hooks.py",
    f"torch{os.sep}overrides.py",
    f"torch{os.sep}amp{os.sep}autocast_mode.py",
    f"torch{os.sep}nn{os.sep}modules{os.sep}module.py",
)
"""Where an interrupt may come: the library's own code, and what its contexts are made of."""


@dataclass
class Events:
    """Counts the calls, lines and returns of :data:`FILES`, and interrupts at one of them.

    ``sys.settrace`` is harsher than Ctrl-C, which comes at calls and loops only.
    """

    stop_at: int = -1
    count: int = 0
    places: dict[tuple[str, int, str], list[int]] = field(default_factory=dict)

    def run(self, function: Callable[[], object]) -> None:
        """Call ``function``; KeyboardInterrupt comes out of it at event ``stop_at``."""
        before = sys.gettrace()
        sys.settrace(self._call)
        try:
            function()
        finally:
            sys.settrace(before)

    def _call(self, frame: Any, event: str, arg: Any) -> Any:
        name = frame.f_code.co_filename
        if not any(part in name for part in FILES) or f"{os.sep}tests{os.sep}" in name:
            return None
        return self._event(frame, event, arg)

    def _event(self, frame: Any, event: str, arg: Any) -> Any:
        if event == "exception":
            return self._event
        if self.stop_at < 0:
            place = (frame.f_code.co_filename, frame.f_lineno, event)
            self.places.setdefault(place, []).append(self.count)
        self.count += 1
        if self.count - 1 == self.stop_at:
            raise KeyboardInterrupt(f"{frame.f_code.co_filename}:{frame.f_lineno} ({event})")
        return self._event

    def points(self, number: int, seed: int) -> list[int]:
        """Seeded points to stop at: half of all events, half of all places in ``hooks/``, each
        place as likely as the other however often it is passed."""
        chance = random.Random(seed)
        inside = f"captum_ib{os.sep}hooks{os.sep}"
        near = sorted(place for place in self.places if inside in place[0])
        some = [
            chance.choice(self.places[chance.choice(near)]) for _ in range(number - number // 2)
        ]
        return [*some, *(chance.randrange(self.count) for _ in range(number // 2))]
