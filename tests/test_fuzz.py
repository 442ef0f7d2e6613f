"""Random calls of ``attribute``: a right result, or an error of ours; the model as before."""

from __future__ import annotations

import copy
import inspect
import random
import traceback
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertForSequenceClassification

import captum_ib
from captum_ib.attr import IBA, NIB, CoIBA
from captum_ib.layout import TokenLayout
from tests.attr.cases import METHODS, SUBJECTS, Case, Method, Subject, _seeded

FAST, SLOW = 80, 520
OURS = str(Path(captum_ib.__file__).parent)
QUICK = {"n_steps": (1, 2, 2, 2, 3), "n_samples": (1, 2, 2, 3)}


def bert() -> Subject:
    config = BertConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=12, num_labels=4,
    )  # fmt: skip
    ids = torch.tensor([[3, 4, 5, 6, 7], [8, 9, 10, 0, 0], [11, 12, 0, 0, 0]])
    layers = ["bert.encoder.layer.0", "bert.encoder.layer.1"]
    model = _seeded(lambda: BertForSequenceClassification(config))
    return Subject(model, ids, layers, (3, 5), extra=(ids != 0).long())


def rows() -> list[Case]:
    found = [
        Case(method, SUBJECTS[subject]())
        for method in METHODS.values()
        for subject in method.subjects
    ]
    text = bert()
    found += [
        Case(Method(lambda s: IBA(s.model, s.layers[0])), text),
        Case(Method(lambda s: CoIBA(s.model, s.layers)), text),
        Case(Method(lambda s: NIB(s.model, s.layers[1]), signed=True, random=False), text),
    ]
    return found


def sizes(value: Tensor) -> list[Tensor]:
    """The same with another number of axes or another size."""
    return [value[:0], value[0], value[..., None], value[..., :-1], torch.cat([value, value], -1)]


def inputs_like(value: Tensor) -> list[Any]:
    """What comes in place of an input."""
    low = value.clone()
    low.flatten()[0] = -1 if not value.is_floating_point() else float("nan")
    high = value.clone()
    high.flatten()[-1] = 10**6
    return [
        *(value.to(kind) for kind in (torch.float64, torch.float16, torch.bfloat16, torch.uint8)),
        *(value.to(kind) for kind in (torch.int64, torch.int32, torch.bool, torch.complex64)),
        *(value.to("meta"), value.to_sparse(), value.numpy(), value.tolist(), None, "picture"),
        *(low, high, value * 0, value[:1], value[:2], value.clone()),
        *(value.transpose(-1, -2).contiguous().transpose(-1, -2), value[:1].expand(value.shape)),
        *sizes(value),
    ]


def elsewhere(case: Case, draw: random.Random) -> Case:
    """The same method at other layers, whatever they are."""
    subject = case.subject
    model = subject.model.model if subject.pair else subject.model
    names = [name for name, _ in model.named_modules() if name]
    layers = [draw.choice(names) for _ in subject.layers]
    return Case(case.method, replace(subject, layers=layers, shape=()))


VALUES: dict[str, tuple[Any, ...]] = {
    "n_steps": (0, -1, 1, 2, 1.5, "3", True, None),
    "n_samples": (0, -2, 1, 3, 2.0, "2", None),
    "beta": (0, 0.0, 1, 1e6, -1, float("nan"), float("inf"), "1", (1.0, 2.0), [0.1] * 3, None),
    "lr": (0, 0.1, 1e-8, 100.0, -1.0, float("nan"), "1", None),
    "min_std": (0, 1e-9, 10.0, -1, float("inf"), "s", None),
    "seed": (0, 2**40, 2**70, -1, 1.5, "7", None, True),
    "reduce": ("sum", "none", "max", None, 1),
    "internal_batch_size": (1, 2, 5, 1000, 0, -1, 1.5, "4"),
    "replay": (True, False),
    "antithetic": (True, False),
    "return_trace": (True, False),
    "return_convergence_delta": (True, False),
    "attribute_to_layer_input": (True, False),
    "show_progress": (False,),
    "smoothing": ("auto", None, 1.0, 0, -1.0, float("nan"), "much"),
    "mask_inactive": ("auto", True, False, "yes", None),
    "compression": ("upper_bound", "layerwise", "none", None),
    "damping": ("shared", "individual", "both"),
    "channel": ("uniform", "elementwise", "auto", "half", 3),
    "prior": ("standard", "estimated", "other", None),
    "variance": (1.0, 0.0, -1.0, 1e-6, (1.0, 2.0), "1", float("nan")),
    "guidance": (0.0, 1.0, -1.0, "x", (0.5, 1.0), float("nan")),
    "temperature": (0.1, 1.0, 0.0, -1, "x", float("inf")),
    "target_strength": (0.0, 1.0, -1.0, "x"),
    "attention_lr": (0.0, 0.1, -1.0, "x"),
    "residual": (True, False, "x"),
    "queries": ("early", "layer", "late"),
    "keys": ("contributions", "tokens", "none"),
    "power": (1.0, 4, 0.5, float("nan"), float("inf"), "2"),
    "method": (
        "riemann_right", "riemann_left", "riemann_middle", "riemann_trapezoid", "gausslegendre",
        "simpson", None,
    ),
    "layout": (
        None, "nchw", TokenLayout("nchw"), TokenLayout("sequence"), TokenLayout("flat"),
        TokenLayout("tokens", 1, (4, 4)), TokenLayout("tokens", 0, (3, 3)),
    ),
    "target": (
        0, 1, -1, 99, 1.0, "dog", None, True, [0, 1, 1], [0, 1], torch.tensor([0, 1, 1]),
        torch.tensor(1), torch.tensor([0.5, 1.0, 1.0]), (1,), (0, 1), [(0,), (1,), (1,)], [],
        [None],
        np.int64(1),
    ),
    "baselines": (
        None, 0, 0.5, "zero", torch.rand(4, 3, 16, 16), torch.zeros(1), (0,), lambda: 0.1,
        float("nan"), torch.full((1,), float("inf")), [], (torch.rand(4, 3), None),
    ),
    "additional_forward_args": (
        None, "mask", (None,), torch.ones(3, 5), torch.ones(3, 5).bool(), torch.zeros(3, 5),
        torch.ones(2, 5), (torch.ones(3, 5), torch.ones(3, 5)), 7,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Random:
    """One random call."""

    method: str
    case: Case
    inputs: Any
    keywords: dict[str, Any]

    @staticmethod
    def of(seed: int, cases: list[Case]) -> Random:
        draw = random.Random(seed)
        case = draw.choice(cases)
        name = type(case.build()).__name__
        known = inspect.signature(case.build().attribute).parameters
        if draw.random() < 0.2:
            case = elsewhere(case, draw)
        keywords: dict[str, Any] = {n: draw.choice(v) for n, v in QUICK.items() if n in known}
        inputs = case.subject.inputs
        if draw.random() < 0.5:
            if isinstance(inputs, tuple):
                which = draw.randrange(2)
                other = draw.choice(inputs_like(inputs[which]))
                inputs = tuple(other if i == which else v for i, v in enumerate(inputs))
                inputs = draw.choice([inputs, inputs, inputs, list(inputs), inputs[:1], inputs[0]])
            else:
                inputs = draw.choice(inputs_like(inputs))
        names = [option for option in known if option in VALUES]
        for option in draw.sample(names, draw.choice((0, 1, 1, 2, 3))):
            keywords[option] = draw.choice(VALUES[option])
        if keywords.get("n_steps") == 1 and "method" in known:
            keywords["n_steps"] = 2
        return Random(name, case, inputs, keywords)

    def run(self) -> Any:
        defaults = {"target": self.case.subject.target, **self.case.method.settings}
        defaults["additional_forward_args"] = self.case.subject.extra
        if self.case.method.random:
            defaults["seed"] = 0
        instance = self.case.build()
        with warnings.catch_warnings():
            # A float64 picture in a float32 model and the like may well be warned about.
            warnings.simplefilter("ignore")
            return instance.attribute(self.inputs, **{**defaults, **self.keywords})

    def __str__(self) -> str:
        def short(value: Any) -> str:
            if isinstance(value, Tensor):
                return f"{value.dtype}{tuple(value.shape)}{value.layout}{value.device}"
            if isinstance(value, (tuple, list)):
                return f"{type(value).__name__}({', '.join(map(short, value))[:200]})"
            return repr(value)[:80]

        told = {name: short(value) for name, value in self.keywords.items()}
        model = type(self.case.subject.model).__name__
        where = f"{self.method} on {model} at {self.case.subject.layers}"
        return f"{where}: inputs {short(self.inputs)}, {told}"


def state_of(model: torch.nn.Module) -> dict[str, Any]:
    """All that a call must leave alone."""
    found: dict[str, Any] = {f"value of {k}": v.clone() for k, v in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        found[f"flags of {name}"] = (parameter.requires_grad, parameter.grad)
    for name, module in model.named_modules():
        hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
        found[f"module {name}"] = (module.training, *map(len, hooks), "forward" in vars(module))
    return found


def same(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What differs."""
    changed = set(before) ^ set(after)
    for name in set(before) & set(after):
        one, other = before[name], after[name]
        equal = torch.equal(one, other) if isinstance(one, Tensor) else one == other
        changed |= set() if equal else {name}
    return sorted(changed)


def tensors_of(result: Any) -> list[Tensor]:
    """All tensors of a result, traces included."""
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, (tuple, list)):
        return [tensor for entry in result for tensor in tensors_of(entry)]
    return tensors_of(tuple(vars(result).values()))


def verdict(call: Random, call_fails: list[str]) -> str | None:
    """What is wrong with a call, or ``None``; counts errors of ours in ``call_fails``."""
    try:
        result = call.run()
    except (ValueError, TypeError, RuntimeError) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        raised = (last.line or "").startswith("raise ")  # not by what a line of ours called
        ours = last.filename.startswith(OURS) and raised
        named = any(name in str(error) for name in ("inputs", *call.keywords))
        call_fails.append(str(error))
        if ours or named:
            return None
        return f"{type(error).__name__} at {last.filename}:{last.lineno}: {str(error)[:200]}"
    except Exception as error:  # noqa: BLE001  any other kind is what is looked for
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} at {last.filename}:{last.lineno}: {str(error)[:200]}"
    return wrong(call, result)


def wrong(call: Random, result: Any) -> str | None:
    """What is wrong with a result."""
    for value in tensors_of(result):
        if not bool(torch.isfinite(value).all()):
            return "a result that is not finite"
        if value.dtype != torch.float32:
            return f"a result of {value.dtype}"
    extra = {"return_trace", "return_convergence_delta"}
    found = result[0] if any(call.keywords.get(name) for name in extra) else result
    maps = found if isinstance(found, tuple) else (found,)
    first = call.inputs[0] if isinstance(call.inputs, tuple) else call.inputs
    if any(len(one) != len(first) for one in maps):
        return f"{[len(one) for one in maps]} rows for {len(first)} samples"
    if not call.case.method.signed and any(bool((one < 0).any()) for one in maps):
        return "negative bits"
    plain = call.case.shape and not {"reduce", "layout", "attribute_to_layer_input"} & set(
        call.keywords
    )
    given = call.inputs if isinstance(call.inputs, tuple) else (call.inputs,)
    own = call.case.subject.inputs
    own = own if isinstance(own, tuple) else (own,)
    if plain and all(a.shape[1:] == b.shape[1:] for a, b in zip(given, own, strict=True)):
        expected = call.case.shape
        expected = expected if isinstance(expected[0], tuple) else (expected,)
        shapes = [tuple(one.shape[1:]) for one in maps]
        if shapes != [shape[1:] for shape in expected]:
            return f"maps of shape {shapes} for {expected}"
    return None


def check(seeds: range) -> None:
    """Run the calls of some seeds; all that is wrong is told at once."""
    cases = rows()
    # A call must not change the models of other tests, not even where it fails to.
    own = {id(case.subject): None for case in cases}
    for case in cases:
        own[id(case.subject)] = own[id(case.subject)] or replace(
            case.subject, model=copy.deepcopy(case.subject.model)
        )
    cases = [Case(case.method, own[id(case.subject)]) for case in cases]
    states = {id(case.subject.model): state_of(case.subject.model) for case in cases}
    problems, fails = [], []
    for seed in seeds:
        call = Random.of(seed, cases)
        found = verdict(call, fails)
        changed = same(states[id(call.case.subject.model)], state_of(call.case.subject.model))
        if changed:
            found = f"{found or 'a result'}, and the model is changed: {changed[:3]}"
            states[id(call.case.subject.model)] = state_of(call.case.subject.model)
        if found:
            problems.append(f"seed {seed}: {call}\n    {found}")
    assert not problems, f"{len(problems)} of {len(seeds)} calls:\n" + "\n".join(problems)
    # Neither are all calls refused, nor none.
    assert 0.2 < len(fails) / len(seeds) < 0.9


@pytest.mark.parametrize("part", range(2))
def test_random_calls_are_right_or_refused_with_a_word(part):
    check(range(part * FAST // 2, (part + 1) * FAST // 2))


@pytest.mark.slow
def test_many_random_calls_are_right_or_refused_with_a_word():
    check(range(1000, 1000 + SLOW))
