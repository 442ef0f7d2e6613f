"""Models and optimisers on disk: one safetensors file, replaced as a whole, never unpickled."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

Optimizers = Sequence[torch.optim.Optimizer]


def save(
    path: Path, header: Mapping[str, str], models: Sequence[nn.Module], optimizers: Optimizers
) -> None:
    """Write weights and optimiser states, with ``header`` as the file's metadata.

    The file is written beside and then renamed: an interrupted save leaves the last whole one.
    """
    tensors: dict[str, Tensor] = {}
    for number, (model, optimizer) in enumerate(zip(models, optimizers, strict=True)):
        for name, value in model.state_dict().items():
            tensors[f"{number}.model.{name}"] = value.detach().cpu().clone().contiguous()
        for index, state in optimizer.state_dict()["state"].items():
            for name, value in state.items():
                tensors[f"{number}.adam.{index}.{name}"] = value.detach().cpu().clone()
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        save_file(tensors, beside, metadata=dict(header))
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def load(
    path: Path, fingerprint: str, models: Sequence[nn.Module], optimizers: Optimizers
) -> dict[str, str]:
    """Put what ``save`` wrote back into models and optimisers, and return the header.

    Raises:
        ValueError: the file's ``"fingerprint"`` is another one; nothing is changed then.
    """
    with safe_open(path, framework="pt") as file:
        header = file.metadata() or {}
        if header.get("fingerprint") != fingerprint:
            raise ValueError(
                f"{path} belongs to another run (other model, data or settings); delete it or "
                "choose another checkpoint folder"
            )
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for number, (model, optimizer) in enumerate(zip(models, optimizers, strict=True)):
        prefix = f"{number}.model."
        model.load_state_dict(
            {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        )
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith(f"{number}.adam."):
                index, entry = name.split(".", 3)[2:]
                state.setdefault(int(index), {})[entry] = tensor
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    return header
