"""Find and read the weights of a folder, and see that they are those of the model, all of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from captum_ib.loading.files import has, inside, read_json, refusing
from captum_ib.loading.hubs import pickled
from captum_ib.loading.loaded import FolderError, Options

MAX_SHARDS = 1000

COUNTED = r"(^|\.)(position_ids|num_batches_tracked)$"
"""Tensors that may be missing: the model counts them itself, and evaluation reads none of them."""
UNUSED = rf"{COUNTED}|(^|\.)(relative_position_index|token_type_ids|attn_mask|coords_table)$"
"""Tensors that older versions wrote beside the weights: computed, not learned."""
_WHOLE = rf"{UNUSED}|(^|\.)relative_coords_table$|(_index|_ids|_tracked|_mask)$"
_STATED = r"^(module\.)?(input_resolution|context_length|vocab_size|queue_\w+|idx_queue)$"
"""Whole numbers beside the weights, in OpenAI's CLIPs and in what was trained with a queue."""


@dataclass(frozen=True)
class Weights:
    """The files that hold a model's weights.

    Attributes:
        shown: what errors call them.
        files: the files, seen to lie in the folder.
        pickled: whether they are pickled (they are then read by an unpickler that makes tensors
            only).
    """

    shown: Path
    files: tuple[Path, ...]
    pickled: bool = False

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.stat().st_size for file in self.files)

    def read(self) -> dict[str, Tensor]:
        """All tensors by name.

        Raises:
            FolderError: a file is broken, holds no tensors or something else besides, two files
                hold the same tensor, or the weights are quantised.
        """
        tensors: dict[str, Tensor] = {}
        for file in self.files:
            with refusing(f"{self.shown} can't be read"):
                found = _unpickled(file) if self.pickled else load_file(file)
            twice = found.keys() & tensors.keys()
            if twice:
                raise FolderError(f"{self.shown}: {_some(twice)} stand in two files")
            tensors.update(found)
        if not tensors:
            raise FolderError(f"{self.shown} holds no tensors")
        whole = [
            name
            for name, tensor in tensors.items()
            if not _real(tensor) and not re.search(rf"{_WHOLE}|{_STATED}", name)
        ]
        if whole:
            raise FolderError(
                f"{self.shown} holds no real numbers for {_some(whole)}: quantised weights can't "
                "be explained; use the weights that they were made from"
            )
        return tensors


def find_weights(folder: Path, options: Options) -> Weights:
    """The weights of a folder: safetensors, or pickled ones where those are allowed.

    Raises:
        FolderError: there are none, or pickled ones only; an index names anything but such files
            of the same folder.
    """
    if has(folder, "model.safetensors"):
        return Weights(folder / "model.safetensors", (inside(folder, "model.safetensors"),))
    if has(folder, "model.safetensors.index.json"):
        return _shards(folder, "model.safetensors.index.json", ".safetensors")
    if not any(file for end in ("*.bin", "*.pt", "*.pth") for file in folder.glob(end)):
        raise FolderError(f"{folder} holds no weights (model.safetensors is missing)")
    if not options.allow_pickle:
        raise FolderError(pickled(str(folder)))
    if has(folder, "pytorch_model.bin.index.json"):
        return _shards(folder, "pytorch_model.bin.index.json", ".bin")
    file = inside(folder, "pytorch_model.bin")
    return Weights(folder / "pytorch_model.bin", (file,), pickled=True)


def one_file(spec: str, name: str, options: Options) -> Weights:
    """The weights of a model that is named by their file: safetensors, or pickled where allowed.

    Args:
        spec: what errors call the model.
        name: the file.
        options: of the call; there is no revision, and nothing without weights.

    Raises:
        ValueError: it is no file, or a pickled one that was not allowed.
    """
    file = Path(name)
    if not options.pretrained or options.revision is not None:
        raise ValueError(f"{spec} is a file: it has no revision and nothing but its weights")
    if not file.is_file():
        raise ValueError(f"{spec}: {file} is no file")
    unpickled = file.suffix != ".safetensors"
    if unpickled and not options.allow_pickle:
        raise ValueError(pickled(spec))
    return Weights(file, (file,), unpickled)


def unfit(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    """What is missing, unknown or of another shape, a sentence each; buffers of counts may miss."""
    return sorted(
        [
            *(
                f"{name} is missing"
                for name in wanted.keys() - given.keys()
                if not re.search(COUNTED, name)
            ),
            *(f"{name} is unknown" for name in given.keys() - wanted.keys()),
            *(
                f"{name} is {tuple(given[name].shape)}, expected {tuple(tensor.shape)}"
                for name, tensor in wanted.items()
                if name in given and given[name].shape != tensor.shape
            ),
        ]
    )


def _shards(folder: Path, index: str, end: str) -> Weights:
    names = read_json(folder, index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise FolderError(f"{folder / index} must name the file of each tensor under weight_map")
    if not all(isinstance(name, str) and name.endswith(end) for name in names.values()):
        raise FolderError(f"{folder / index} may name *{end} files only")
    files = sorted(set(names.values()))
    if len(files) > MAX_SHARDS:
        raise FolderError(f"{folder / index} names more than {MAX_SHARDS} files")
    paths = tuple(inside(folder, name) for name in files)
    return Weights(folder / index, paths, pickled=end == ".bin")


def _unpickled(file: Path) -> dict[str, Tensor]:
    """Tensors from a pickled file, by the unpickler that can make nothing else.

    A checkpoint of a training holds them under ``"model"`` or ``"state_dict"``.
    """
    found = torch.load(file, map_location="cpu", weights_only=True)
    for key in ("model", "state_dict"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
            break
    if not isinstance(found, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in found.items()
    ):
        raise ValueError("it must hold tensors by name, and nothing else")
    return dict(found)


def fill(model: nn.Module, weights: Weights) -> tuple[str, ...]:
    """Put the weights into a model; returns the harmless tensors that were left out.

    Raises:
        FolderError: a tensor is missing, unknown to the model or of another shape.
    """
    given, wanted = weights.read(), model.state_dict()
    misshaped = [
        f"{name} {tuple(given[name].shape)} for {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in given and given[name].shape != tensor.shape
    ]
    missing, unknown = wanted.keys() - given.keys(), given.keys() - wanted.keys()
    left_out = judged(weights.shown, missing, unknown, misshaped)
    with refusing(f"{weights.shown} does not fit config.json beside it"):
        known = {name: tensor for name, tensor in given.items() if name in wanted}
        model.load_state_dict(known, strict=False)
    return left_out


def judged(
    where: object,
    missing: Collection[str],
    unknown: Collection[str],
    misshaped: Collection[str],
    others: str = "",
) -> tuple[str, ...]:
    """The harmless ones of tensors that don't fit.

    Args:
        where: the weights, for errors.
        missing: names that the file lacks.
        unknown: names that the model lacks.
        misshaped: names with both shapes.
        others: pattern of names that belong to other models in the same file.

    Raises:
        FolderError: any tensor is not harmless. What is missing would be random.
    """
    missing = [name for name in missing if not re.search(COUNTED, name)]
    harmless = f"{UNUSED}|{others}" if others else UNUSED
    harmful = [name for name in unknown if not re.search(harmless, name)]
    told = (("missing", missing), ("unknown to the model", harmful), ("misshaped", misshaped))
    faults = [f"{_some(names)} {fault}" for fault, names in told if names]
    if faults:
        raise FolderError(f"{where} does not fit config.json beside it: {'; '.join(faults)}")
    return tuple(sorted(unknown))


def detach(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give a model memory of its own where it took tensors over.

    Tensors of a file are the file itself: a model that keeps them changes when the file does.
    """
    taken = {tensor.data_ptr() for tensor in tensors.values()}
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.data_ptr() in taken:
            tensor.data = tensor.data.clone()


def _real(tensor: Tensor) -> bool:
    """Whether a tensor holds real numbers; those of one byte are the codes of quantised ones."""
    return tensor.is_floating_point() and tensor.element_size() > 1


def _some(names: Iterable[str]) -> str:
    """The first three of some names, and how many more there are."""
    names = sorted(name if len(name) <= 100 else name[:99] + "…" for name in names)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(ascii, names[:3])).replace("'", "") + more
