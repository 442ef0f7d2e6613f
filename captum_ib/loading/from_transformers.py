"""Load transformers models: image classifiers, and dual encoders with their tokenizer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from captum_ib.loading.hubs import SIZES, checked, from_disk_or_hub, one_line, pickled
from captum_ib.loading.loaded import LoadedModel, Options, Resize, Triple, triple
from captum_ib.rgb import as_rgb


def load_transformers(name: str, options: Options) -> LoadedModel:
    """A transformers model by hub id or folder; errors as in :func:`captum_ib.load`."""
    spec = f"hf:{name}"
    if Path(name).is_dir():
        if options.pretrained:
            require_safetensors(Path(name), options)
        try:
            return _read(name, options, local_only=True)
        except OSError as error:
            raise ValueError(f"{name} is not a complete model: {one_line(error)}") from error
    return from_disk_or_hub(spec, lambda local_only: _read(name, options, local_only))


def _read(name: str, options: Options, local_only: bool) -> LoadedModel:
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
    auto = _class_for(config, heads, dual)
    if options.pretrained:
        weights = {"use_safetensors": None if options.allow_pickle else True}
        with _no_bars() if local_only else nullcontext():
            model = auto.from_pretrained(name, config=config, **weights, **common)
    else:
        model = auto.from_config(config)
    processor = transformers.AutoImageProcessor.from_pretrained(name, **common)
    tokenizer = transformers.AutoTokenizer.from_pretrained(name, **common) if dual else None
    return wrap_transformers(f"hf:{name}", model, processor, tokenizer)


def _class_for(config: Any, heads: list[str], dual: bool) -> Any:
    """The class of transformers to load a checkpoint as."""
    import transformers

    if not dual:
        return transformers.AutoModelForImageClassification
    if "BlipForImageTextRetrieval" in heads:  # AutoModel would drop its contrastive head
        return transformers.BlipForImageTextRetrieval
    return transformers.AutoModel


def wrap_transformers(
    name: str, model: Any, processor: Any, tokenizer: Any | None = None
) -> LoadedModel:
    """A transformers model with its image processor and, for a dual encoder, its tokenizer."""

    family = getattr(model.config, "model_type", "")
    normalised = getattr(processor, "do_normalize", True)
    mean = triple(processor.image_mean if normalised else [0.0] * 3, "mean")
    std = triple(processor.image_std if normalised else [1.0] * 3, "std")
    preprocess = _preprocess(model, processor, mean, std)
    labels = getattr(model.config, "id2label", None)
    size = preprocess(Image.new("RGB", SIZES[0])).shape
    words = None
    if tokenizer is not None:
        # SigLIP was trained on texts padded to full length, with no mask.
        full = model.config.text_config.max_position_embeddings if "siglip" in family else None
        words = HubTokenizer(tokenizer, full)
    loaded = LoadedModel(
        name=name,
        model=model.eval(),
        kind="classifier" if words is None else "dual",
        preprocess=preprocess,
        image_size=(size[-2], size[-1]),
        mean=mean,
        std=std,
        labels=[labels[i] for i in sorted(labels)] if labels and words is None else None,
        tokenizer=words,
        tokens=None if words is None else words.tokens,
        special_tokens=frozenset() if words is None else words.special_tokens,
    )
    return checked(loaded)


def _preprocess(
    model: Any, processor: Any, mean: Triple, std: Triple
) -> Callable[[Image.Image], Tensor]:
    """Picture → the model's input ``(3, H, W)``."""
    if getattr(model.config, "model_type", "") == "siglip2":
        # Its processor cuts patches; our image tower takes images, and does that itself.
        vision = model.config.vision_config
        side = math.isqrt(vision.num_patches) * vision.patch_size
        return Resize((side, side), mean, std)

    def preprocess(image: Image.Image) -> Tensor:
        return processor(images=as_rgb(image), return_tensors="pt")["pixel_values"][0]

    return preprocess


class HubTokenizer:
    """A transformers tokenizer in the form of :class:`captum_ib.loading.loaded.LoadedModel`.

    Args:
        tokenizer: of transformers.
        full_length: pad every text to this length and give no mask, for models that were trained
            so; default: pad to the longest text of the batch.
    """

    def __init__(self, tokenizer: Any, full_length: int | None = None) -> None:
        self.tokenizer = tokenizer
        self.full_length = full_length
        self.special_tokens = frozenset(tokenizer.all_special_tokens)

    def __call__(self, texts: list[str]) -> tuple[Tensor, Tensor | None]:
        """``input_ids`` and ``attention_mask``, both ``(N, T)``, padded at the end.

        Raises:
            ValueError: a text is longer than the model takes.
        """
        length = self.full_length
        batch = self.tokenizer(
            list(texts),
            padding=True if length is None else "max_length",
            max_length=length,
            return_tensors="pt",
        )
        ids, most = batch["input_ids"], length or self.tokenizer.model_max_length
        if ids.shape[1] > most:
            raise ValueError(
                f"the text has {ids.shape[1]} tokens, but the model takes at most {most}; "
                "shorten it"
            )
        return ids, batch["attention_mask"] if length is None else None

    def tokens(self, ids: Tensor) -> list[str]:
        """The tokens of one row of ids as words, without marks of word boundaries."""
        words = self.tokenizer.convert_ids_to_tokens(ids.tolist())
        return [word.replace("</w>", "").strip("Ġ▁") or word for word in words]


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


@contextmanager
def _no_bars() -> Iterator[None]:
    """No progress bar of transformers: reading from disk is quick, downloads keep theirs."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
