"""Load models of timm and of transformers, from disk where they are, else from the hub."""

from __future__ import annotations

import difflib
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from PIL import Image
from torch import Tensor, nn

from captum_ib.models.load import Options
from captum_ib.models.loaded import LoadedModel, ModelUnavailableError, triple

T = TypeVar("T")
_SIZES = ((47, 61), (61, 47))  # pictures to try preprocessing with


def load_timm(name: str, options: Options) -> LoadedModel:
    """A timm classifier by name; errors as in :func:`captum_ib.models.load.load`."""
    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.4)
        raise ValueError(f"timm has no model {name!r}; near: {', '.join(near) or 'none'}")
    if not options.pretrained:
        return wrap_timm(f"timm:{name}", timm.create_model(name, pretrained=False))
    config = _timm_config(name)
    file = config.hf_hub_id and _safetensors_file(config.hf_hub_id, name, options)
    if file:
        # custom_load is meant for the file in another format that this one stands in for.
        overlay = {"file": file, "custom_load": False}
    elif options.allow_pickle:
        overlay = (
            {"hf_hub_id": f"{config.hf_hub_id}@{options.revision}"} if options.revision else {}
        )
    else:
        raise ValueError(pickled(f"timm:{name}"))
    try:
        model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
    except OSError as error:
        raise unavailable(f"timm:{name}", error) from error
    return wrap_timm(f"timm:{name}", model)


def _timm_config(name: str) -> Any:
    """What timm knows of the model's trained weights."""
    import timm

    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError:  # an unknown tag
        config = None
    if config is None or not (config.hf_hub_id or config.url):
        tags = ", ".join(timm.list_pretrained(f"{name.split('.')[0]}*")[:3]) or "none"
        raise ValueError(f"timm has no trained weights for {name!r}; names that have: {tags}")
    return config


def wrap_timm(name: str, model: nn.Module, labels: Sequence[str] | None = None) -> LoadedModel:
    """A timm model with the preprocessing that its configuration states."""
    from timm.data.config import resolve_model_data_config
    from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset
    from timm.data.transforms_factory import create_transform

    config = resolve_model_data_config(model)
    transform: Any = create_transform(**config, is_training=False)
    size = config["input_size"]

    def preprocess(image: Image.Image) -> Tensor:
        return transform(image.convert("RGB"))

    subset = infer_imagenet_subset(model)
    if labels is None and subset:
        labels = list(ImageNetInfo(subset).label_descriptions())
    loaded = LoadedModel(
        name=name,
        model=model.eval(),
        kind="classifier",
        preprocess=preprocess,
        image_size=(size[1], size[2]),
        mean=triple(config["mean"], "mean"),
        std=triple(config["std"], "std"),
        labels=None if labels is None else list(labels),
    )
    return checked(loaded)


def load_transformers(name: str, options: Options) -> LoadedModel:
    """A transformers model by hub id or folder; errors as in :func:`captum_ib.models.load.load`."""
    spec = f"hf:{name}"
    if Path(name).is_dir():
        if options.pretrained:
            require_safetensors(Path(name), options)
        try:
            return _read_transformers(name, options, local_only=True)
        except OSError as error:
            raise ValueError(f"{name} is not a complete model: {one_line(error)}") from error
    return _from_disk_or_hub(spec, lambda local: _read_transformers(name, options, local))


def _read_transformers(name: str, options: Options, local_only: bool) -> LoadedModel:
    import transformers

    common: dict[str, Any] = {
        "revision": options.revision,
        "local_files_only": local_only,
        "trust_remote_code": False,
    }
    config = transformers.AutoConfig.from_pretrained(name, **common)
    dual = hasattr(config, "text_config") and hasattr(config, "vision_config")
    heads = getattr(config, "architectures", None) or []
    if not dual and not any("ForImageClassification" in head for head in heads):
        raise ValueError(
            f"hf:{name} is a {'/'.join(heads) or config.model_type}; only image classifiers "
            "(…ForImageClassification) and image-text dual encoders can be explained"
        )
    auto = transformers.AutoModel if dual else transformers.AutoModelForImageClassification
    if options.pretrained:
        weights = {"use_safetensors": None if options.allow_pickle else True}
        model = auto.from_pretrained(name, config=config, **weights, **common)
    else:
        model = auto.from_config(config)
    processor = transformers.AutoImageProcessor.from_pretrained(name, **common)
    tokenizer = transformers.AutoTokenizer.from_pretrained(name, **common) if dual else None
    return wrap_transformers(f"hf:{name}", model, processor, tokenizer)


def wrap_transformers(
    name: str, model: Any, processor: Any, tokenizer: Any | None = None
) -> LoadedModel:
    """A transformers model with its image processor and, for a dual encoder, its tokenizer."""

    def preprocess(image: Image.Image) -> Tensor:
        return processor(images=image.convert("RGB"), return_tensors="pt")["pixel_values"][0]

    normalised = getattr(processor, "do_normalize", True)
    labels = getattr(model.config, "id2label", None)
    size = preprocess(Image.new("RGB", _SIZES[0])).shape
    words = None if tokenizer is None else HubTokenizer(tokenizer)
    loaded = LoadedModel(
        name=name,
        model=model.eval(),
        kind="classifier" if words is None else "dual",
        preprocess=preprocess,
        image_size=(size[-2], size[-1]),
        mean=triple(processor.image_mean if normalised else [0.0] * 3, "mean"),
        std=triple(processor.image_std if normalised else [1.0] * 3, "std"),
        labels=[labels[i] for i in sorted(labels)] if labels and words is None else None,
        tokenizer=words,
        tokens=None if words is None else words.tokens,
        special_tokens=frozenset() if words is None else words.special_tokens,
    )
    return checked(loaded)


class HubTokenizer:
    """A transformers tokenizer in the form of :class:`captum_ib.models.loaded.LoadedModel`."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.special_tokens = frozenset(tokenizer.all_special_tokens)

    def __call__(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """``input_ids`` and ``attention_mask``, both ``(N, T)``, padded at the end.

        Raises:
            ValueError: a text is longer than the model takes.
        """
        batch = self.tokenizer(list(texts), padding=True, return_tensors="pt")
        ids = batch["input_ids"]
        if ids.shape[1] > self.tokenizer.model_max_length:
            raise ValueError(
                f"the text has {ids.shape[1]} tokens, but the model takes at most "
                f"{self.tokenizer.model_max_length}; shorten it"
            )
        # Some tokenizers give no mask where the model attends to padding too (SigLIP).
        return ids, batch.get("attention_mask", torch.ones_like(ids))

    def tokens(self, ids: Tensor) -> list[str]:
        """The tokens of one row of ids as words, without marks of word boundaries."""
        words = self.tokenizer.convert_ids_to_tokens(ids.tolist())
        return [word.replace("</w>", "").strip("Ġ▁") or word for word in words]


def checked(loaded: LoadedModel) -> LoadedModel:
    """``loaded``, after seeing that its preprocessing gives the same shape for every picture.

    Raises:
        ValueError: it does not, or not an image of three channels.
    """
    tall, wide = (tuple(loaded.preprocess(Image.new("RGB", size)).shape) for size in _SIZES)
    if not tall == wide == (3, *loaded.image_size):
        raise ValueError(
            f"{loaded.name}: preprocessing gives images of shapes {tall} and {wide}, but they must "
            f"all be {(3, *loaded.image_size)}; set one size in preprocessor_config.json"
        )
    return loaded


def require_safetensors(folder: Path, options: Options) -> None:
    """Refuse a folder whose weights exist in pickled form only, unless that is allowed.

    Raises:
        ValueError: there are no weights, or pickled ones only.
    """
    if any(folder.glob("*.safetensors")):
        return
    if not any(file for end in ("*.bin", "*.pt", "*.pth") for file in folder.glob(end)):
        raise ValueError(f"{folder} holds no weights (model.safetensors)")
    if not options.allow_pickle:
        raise ValueError(pickled(str(folder)))


def pickled(name: str) -> str:
    """What to say about weights that would have to be unpickled."""
    return (
        f"{name} has pickled weights only, and unpickling can execute code; pass allow_pickle=True "
        "(--allow-pickle) if you trust the source"
    )


def unavailable(name: str, error: BaseException) -> ModelUnavailableError:
    """The error for a hub model that could not be fetched, with the hub's own reason."""
    return ModelUnavailableError(f"{name} could not be fetched from the hub: {one_line(error)}")


def one_line(error: BaseException) -> str:
    """The first line of an error's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _safetensors_file(repository: str, name: str, options: Options) -> str | None:
    """Path of the repository's ``model.safetensors``; ``None`` when it has no such file."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import EntryNotFoundError, LocalEntryNotFoundError

    repository, _, revision = repository.partition("@")

    def fetch(local_only: bool) -> str | None:
        try:
            return hf_hub_download(
                repository,
                "model.safetensors",
                revision=options.revision or revision or None,
                local_files_only=local_only,
            )
        except LocalEntryNotFoundError:
            raise
        except EntryNotFoundError:
            return None

    return _from_disk_or_hub(f"timm:{name}", fetch)


def _from_disk_or_hub(name: str, read: Callable[[bool], T]) -> T:
    """``read(True)``, which must stay on disk; if that finds nothing, ``read(False)``.

    The hub's own client asks an unreachable hub again and again for 20 seconds and more, and logs
    each time; so a single request finds out first whether there is a hub to ask.

    Raises:
        ModelUnavailableError: not on disk, and not to be had from the hub.
    """
    from huggingface_hub import constants

    try:
        return read(True)
    except OSError:
        if constants.HF_HUB_OFFLINE:
            raise ModelUnavailableError(
                f"{name} is not on disk, and HF_HUB_OFFLINE forbids to fetch it"
            ) from None
    try:
        urllib.request.urlopen(constants.ENDPOINT, timeout=10).close()
    except urllib.error.HTTPError:
        pass  # the hub answers, if only to complain
    except OSError as error:
        raise ModelUnavailableError(
            f"{name} is not on disk, and {constants.ENDPOINT} can't be reached "
            f"({one_line(error)}): download the model where there is a network, or name a folder"
        ) from error
    try:
        return read(False)
    except OSError as error:
        raise unavailable(name, error) from error
