"""Load open_clip models: weights as safetensors, preprocessing of their pretraining, tokenizers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from captum_ib.checks import nearest
from captum_ib.loading import values as rule
from captum_ib.loading.files import has, read_json
from captum_ib.loading.hubs import (
    as_shown,
    building,
    from_disk_or_hub,
    pickled,
    safetensors_file,
    wrapped,
)
from captum_ib.loading.loaded import FolderError, LoadedModel, ModelUnavailableError, Options
from captum_ib.loading.processing import VOCABULARIES
from captum_ib.loading.values import short
from captum_ib.rgb import as_rgb

CONFIG = "open_clip_config.json"
"""What a folder of open_clip's says of its model."""
_FILE = "open_clip_model.safetensors"
_PICKLED = ("open_clip_pytorch_model.bin", "open_clip_pytorch_model.pth")
_HUB = "hf-hub:"


def load_open_clip(name: str, options: Options) -> LoadedModel:
    """An open_clip model by ``NAME/TAG`` or ``hf-hub:ORG/NAME``.

    Raises:
        ValueError, ModelUnavailableError: as in :func:`captum_ib.loading.load.load`.
    """
    spec = f"open_clip:{name}"
    open_clip = _library(spec)
    if name.startswith(_HUB):
        return read_open_clip(_fetched(name.removeprefix(_HUB), spec, options), spec, options)
    name, _, tag = name.partition("/")
    if name not in open_clip.list_models():
        near = nearest(name, open_clip.list_models())
        raise ValueError(f"open_clip has no model {name!r}; near: {near}")
    settings: dict[str, Any] = {"pretrained": None}
    if options.pretrained:
        settings = _pretrained(spec, name, tag, options)
    with building(spec):
        model, _, transform = open_clip.create_model_and_transforms(name, **settings)
        tokenizer = open_clip.get_tokenizer(name)
    return wrap_open_clip(spec, model, transform, tokenizer)


def read_open_clip(folder: Path, name: str, options: Options) -> LoadedModel:
    """The model in a folder as open_clip passes them on, with ``open_clip_config.json``.

    Raises:
        ModelUnavailableError: open_clip is not installed.
        FolderError: the configuration is missing or not plain, or there are no weights.
        ValueError: the weights are pickled, or don't fit.
    """
    open_clip = _library(name)
    config = read_json(folder, CONFIG)
    _require_plain(config, str(folder / CONFIG))
    if not isinstance(config.get("model_cfg"), dict):
        raise FolderError(f"{folder / CONFIG} has no model_cfg")
    if options.pretrained and not has(folder, _FILE):
        if not any(has(folder, file) for file in _PICKLED):
            raise FolderError(f"{folder} is not a complete model: {_FILE} is missing")
        if not options.allow_pickle:
            raise ValueError(pickled(name))
    with building(name):
        model, _, transform = open_clip.create_model_and_transforms(
            f"local-dir:{folder}", load_weights=options.pretrained, pretrained_text=False
        )
        tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    return wrap_open_clip(name, model, transform, tokenizer)


def _library(name: str) -> Any:
    """open_clip itself."""
    try:
        import open_clip
    except ImportError as error:
        raise ModelUnavailableError(
            f"{name} needs the package open_clip_torch: pip install 'captum_ib[openclip]'"
        ) from error
    return open_clip


def _fetched(repository: str, name: str, options: Options) -> Path:
    """Where the files of a hub repository lie; fetched if need be."""
    from huggingface_hub import snapshot_download

    weights = [_FILE, *(_PICKLED if options.allow_pickle else ())] if options.pretrained else []
    files = [CONFIG, *weights, "tokenizer_config.json", "special_tokens_map.json", *VOCABULARIES]

    def fetch(on_disk: bool) -> Path:
        folder = Path(
            snapshot_download(
                repository,
                revision=options.revision,
                allow_patterns=files,
                local_files_only=on_disk,
            )
        )
        complete = not weights or any(has(folder, one) for one in weights)
        if on_disk and not (has(folder, CONFIG) and complete):
            raise FileNotFoundError(f"{folder} is not complete")
        return folder

    return from_disk_or_hub(name, fetch)


def _require_plain(value: Any, where: str) -> None:
    """See that a configuration holds words and sane numbers, and no path.

    Raises:
        FolderError: an entry that is something else.
    """
    if isinstance(value, dict):
        for key, entry in value.items():
            _require_plain(entry, f"{where}: {key}")
    elif isinstance(value, list):
        for entry in value:
            _require_plain(entry, where)
    elif value is not None and not rule.number(value):
        named = isinstance(value, str) and re.fullmatch(r"[\w.-]*(/[\w.-]+)?", value)
        if not named or ".." in value:
            raise FolderError(f"{where} can't be {short(value)}")


def _pretrained(spec: str, name: str, tag: str, options: Options) -> dict[str, Any]:
    """Arguments of ``create_model_and_transforms`` for the weights of a tag."""
    from open_clip import pretrained

    config = pretrained.get_pretrained_cfg(name, tag)
    if not config:
        tags = pretrained.list_pretrained_tags_by_model(name)
        raise ValueError(
            f"{spec}: open_clip has no weights {tag!r} for {name}; write {name}/TAG with one of "
            f"its tags: {', '.join(tags[:5]) or 'none'}"
        )
    # An entry ends in a slash, or in the name of the repository's only file.
    repository = "/".join(config.get("hf_hub", "").split("/")[:2])
    file = repository and safetensors_file(repository, _FILE, spec, options.revision)
    if not file and not options.allow_pickle:
        raise ValueError(pickled(spec))
    return {
        "pretrained": file or tag,
        "force_quick_gelu": bool(config.get("quick_gelu", tag == "openai")),
        "image_mean": config.get("mean"),
        "image_std": config.get("std"),
        "image_interpolation": config.get("interpolation"),
        "image_resize_mode": config.get("resize_mode"),
    }


def wrap_open_clip(name: str, model: Any, transform: Any, tokenizer: Any) -> LoadedModel:
    """An open_clip model with its transform (that for inference) and its tokenizer."""
    config = model.visual.preprocess_cfg

    def preprocess(image: Image.Image) -> Tensor:
        return transform(as_rgb(image))

    size = config["size"] if isinstance(config["size"], (tuple, list)) else (config["size"],) * 2
    return wrapped(
        name,
        model,
        preprocess,
        (int(size[0]), int(size[1])),
        config["mean"],
        config["std"],
        words=OpenClipTokenizer(tokenizer),
    )


class OpenClipTokenizer:
    """An open_clip tokenizer in the form of :class:`captum_ib.loading.loaded.LoadedModel`.

    open_clip pads to full length, cuts what is longer, and gives no mask: its models find the end
    of a text themselves.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        inner = getattr(tokenizer, "tokenizer", None)  # where it comes from transformers
        self._inner = inner
        special = ("<pad>", "<start_of_text>", "<end_of_text>")
        self.special_tokens = frozenset(inner.all_special_tokens if inner else special)

    def __call__(self, texts: list[str]) -> tuple[Tensor, None]:
        """``input_ids`` ``(N, T)``, padded to full length, and no mask."""
        return self.tokenizer(list(texts)), None

    def tokens(self, ids: Tensor) -> list[str]:
        """The tokens of one row of ids as words, without marks of word boundaries."""
        row = ids.tolist()
        if self._inner is not None:
            words = self._inner.convert_ids_to_tokens(row)
        else:
            # Padding has the id of a word (0), but stands behind the end.
            end = row.index(self.tokenizer.eot_token_id) + 1
            words = [self.tokenizer.decoder[i] for i in row[:end]] + ["<pad>"] * (len(row) - end)
        return as_shown(words)
