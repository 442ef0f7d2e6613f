"""Load ImageBind from its published checkpoint, or from the same tensors as safetensors."""

from __future__ import annotations

from pathlib import Path

import torch

from captum_ib.loading.files import refusing
from captum_ib.loading.from_openai import MEAN, STD, openai_preprocess, openai_tokenizer
from captum_ib.loading.hubs import wrapped
from captum_ib.loading.loaded import FolderError, LoadedModel, Options
from captum_ib.loading.weights import one_file
from captum_ib.models.imagebind import ImageBind, ImageBindConfig


def load_imagebind(
    name: str, options: Options, config: ImageBindConfig | None = None
) -> LoadedModel:
    """An ImageBind by the file of its state dict; errors as in :func:`captum_ib.load`.

    What is loaded brings what turns pictures and words into inputs; spectrograms, depth, thermal
    pictures and motion are made by their owner (:class:`captum_ib.models.imagebind_towers`).

    Args:
        name: a ``.safetensors`` file, or a pickled one where that is allowed (it is read by the
            unpickler that makes tensors only).
        options: ``mean`` and ``std`` in the place of OpenAI's.
        config: the sizes; default: ``imagebind_huge``.
    """
    spec, file = f"imagebind:{name}", Path(name)
    weights = one_file(spec, name, options)
    config = config or ImageBindConfig()
    words = openai_tokenizer(spec)
    words.tokenizer.context_length = config.text.size[1]
    with refusing(file):
        model = filled(weights.read(), config, str(file))
    mean, std = options.mean or MEAN, options.std or STD
    side = config.vision.size[0]
    preprocess = openai_preprocess(side, mean, std)
    return wrapped(spec, model, preprocess, (side, side), mean, std, words=words)


def filled(tensors: dict[str, torch.Tensor], config: ImageBindConfig, where: str) -> ImageBind:
    """An ImageBind with its tensors, all of them.

    Raises:
        FolderError: a tensor is missing, unknown or of another shape.
    """
    with torch.device("meta"):
        model = ImageBind(config)
    wanted = model.state_dict()
    faults = [
        *(f"{name} is missing" for name in wanted.keys() - tensors.keys()),
        *(f"{name} is unknown" for name in tensors.keys() - wanted.keys()),
        *(
            f"{name} is {tuple(tensors[name].shape)}, expected {tuple(value.shape)}"
            for name, value in wanted.items()
            if name in tensors and tensors[name].numel() != value.numel()
        ),
    ]
    if faults:
        raise FolderError(f"{where} is no such ImageBind: {'; '.join(sorted(faults)[:3])}")
    own = {name: tensors[name].reshape(value.shape).clone() for name, value in wanted.items()}
    model.load_state_dict(own, assign=True)
    return model.float().eval()
