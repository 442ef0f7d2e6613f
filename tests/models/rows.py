"""A row of the table of supported models, and the inputs that the rows share."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

CLASSES = 5


@dataclass(frozen=True)
class Row:
    """One model.

    Attributes:
        name: as the docs print it.
        library: where it comes from; the row is skipped where that is not installed.
        build: the model.
        inputs: what it is called with, two samples or more.
        shapes: method → shape of its map (of each map, for a pair).
        additional: its additional_forward_args.
        target: the class to explain.
        forward: the forward function around the model.
        fallback: method → why it runs without replay; every other method must run with it.
        needs: an attribute of a module, `module:attribute`, that older versions lack.
        slow: only `make test-slow` runs it.
        note: for the docs.
    """

    name: str
    library: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], Any]
    shapes: Mapping[str, Any]
    additional: Callable[[], Any] = lambda: None
    target: int | None = 1
    forward: Callable[[nn.Module], Any] = lambda model: model
    fallback: Mapping[str, str] = field(default_factory=dict)
    needs: str | None = None
    slow: bool = False
    note: str = ""

    def model(self) -> nn.Module:
        """The model in evaluation mode, the same every time."""
        torch.manual_seed(0)
        model = self.build().eval()
        for parameter in model.parameters():
            if not bool(parameter.any()):  # many heads start at 0, and explain nothing
                nn.init.normal_(parameter, std=0.1)
        return model

    def missing(self) -> str | None:
        """Why this environment can't run the row, or `None` when it can."""
        for needed in filter(None, (self.library, self.needs)):
            module, _, attribute = needed.partition(":")
            try:
                home = import_module(module)
            except ImportError:
                return f"{module} is not installed"
            if attribute and not hasattr(home, attribute):
                return f"this version has no {module}.{attribute}"
        return None


def pickled(value: Any) -> Any:
    """What comes back from a pickle of it."""
    return pickle.loads(pickle.dumps(value))  # noqa: S301


def images(n: int = 2, height: int = 32, width: int = 48) -> Tensor:
    return torch.randn(n, 3, height, width, generator=torch.Generator().manual_seed(0))


def maps(n: int, iba: tuple[int, int], coiba: tuple[int, int], nib: tuple[int, int]) -> dict:
    """Shapes of three spatial maps."""
    grids = {"iba": iba, "coiba": coiba, "nib": nib}
    return {method: (n, 1, *grid) for method, grid in grids.items()}


TOWER = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
}

LENGTHS = (7, 4)


def token_ids() -> Tensor:
    """Two texts of 7 and 4 tokens, padded with 0."""
    ids = torch.randint(3, 29, (2, 7), generator=torch.Generator().manual_seed(0))
    return ids * token_mask()


def token_mask() -> Tensor:
    return (torch.arange(7) < torch.tensor(LENGTHS)[:, None]).long()
