"""Write and read the state of a training run: atomically, as safetensors, without pickle.

The random state is the number of the step: every batch is drawn from ``(seed, step)``, so a resumed
run sees exactly what an uninterrupted one would.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file that is either the old or the new one whole, whatever happens."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, part, metadata=dict(metadata))
    part.chmod(0o644)  # safetensors gives no one else the right to read
    os.replace(part, path)


def save(
    path: Path,
    learner: nn.Module,
    optimizers: Sequence[Optimizer],
    settings: Mapping[str, str],
) -> None:
    """Write the weights, the optimisers' states and the settings of a run."""
    tensors = {f"learner.{name}": value for name, value in learner.state_dict().items()}
    for number, optimizer in enumerate(optimizers):
        for index, entries in optimizer.state_dict()["state"].items():
            for name, value in entries.items():
                tensors[f"optimizer.{number}.{index}.{name}"] = torch.as_tensor(value)
    write_tensors(path, tensors, settings)


def restore(
    path: Path,
    learner: nn.Module,
    optimizers: Sequence[Optimizer],
    settings: Mapping[str, str],
) -> int:
    """Put back what :func:`save` wrote.

    Args:
        path: The checkpoint.
        learner, optimizers: What to put the state into.
        settings: The settings of the run that wants to resume; those of the checkpoint must be the
            same, except for ``"step"``.

    Returns:
        The number of steps already done.

    Raises:
        ValueError: If the file is no checkpoint, or that of a run with other settings.
    """
    try:
        with safe_open(path, "pt") as file:
            found = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is no checkpoint ({error}); remove it.") from error
    other = {
        name: (found.get(name), value)
        for name, value in settings.items()
        if name != "step" and found.get(name) != value
    }
    if other or "step" not in found:
        told = ", ".join(f"{name}: {old} there, {new} here" for name, (old, new) in other.items())
        raise ValueError(
            f"{path} is the checkpoint of another run ({told or 'no step'}). Resume with its "
            f"settings, or remove it to start afresh."
        )
    try:
        _put_back(tensors, learner, optimizers)
        return int(found["step"])
    except (ArithmeticError, LookupError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{path} does not hold the state of this run ({reason}); remove it to start afresh."
        ) from error


def _put_back(
    tensors: Mapping[str, Tensor], learner: nn.Module, optimizers: Sequence[Optimizer]
) -> None:
    prefix = "learner."
    learner.load_state_dict(
        {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
    )
    states = [optimizer.state_dict() for optimizer in optimizers]
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, number, index, entry = name.split(".")
            states[int(number)]["state"].setdefault(int(index), {})[entry] = value
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict(state)
