"""Load transformers models: classifiers, dual encoders, and vision-language models that answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from captum_ib.loading.budget import check_size
from captum_ib.loading.configurations import configuration
from captum_ib.loading.families import GENERATORS, OTHER_HEADS, model_class
from captum_ib.loading.files import has, one_line, read_json, refusing
from captum_ib.loading.from_generator import read_generator
from captum_ib.loading.hub_tokenizer import HubTokenizer
from captum_ib.loading.hubs import SIZES, from_disk_or_hub, of_texts, wrapped
from captum_ib.loading.loaded import FolderError, LoadedModel, Options, Resize, Triple, triple
from captum_ib.loading.processing import VOCABULARIES, image_processor, tokenizer
from captum_ib.loading.sounds import hearing
from captum_ib.loading.weights import Weights, detach, find_weights, judged
from captum_ib.models.text_classifier import by_name
from captum_ib.rgb import as_rgb

_FILES = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "modules.json",
    "*_Pooling/config.json",
    "sentence_bert_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    *VOCABULARIES,
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
)
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*-of-*.bin")


def folder_of(name: str, options: Options) -> Path:
    """Where a model lies, by hub id or folder; one on the hub is fetched first.

    Raises:
        ModelUnavailableError: it is not on disk, and not to be had from the hub.
    """
    if Path(name).is_dir():
        return Path(name)
    return from_disk_or_hub(f"hf:{name}", lambda on_disk: _fetched(name, options, on_disk))


def _fetched(name: str, options: Options, on_disk: bool) -> Path:
    """Where the files of a hub model lie; fetched unless they must be on disk.

    Raises:
        OSError: they can't be had, or are not all on disk.
    """
    from huggingface_hub import snapshot_download

    files = [*_FILES, *(_PICKLED if options.allow_pickle else ())]
    if not options.pretrained:
        files = [file for file in files if not file.startswith("model")]
    folder = Path(
        snapshot_download(
            name, revision=options.revision, allow_patterns=files, local_files_only=on_disk
        )
    )
    if on_disk:
        _require_all(folder, options)
    return folder


def _require_all(folder: Path, options: Options) -> None:
    """See that a snapshot is complete; another program may have fetched parts of it.

    Raises:
        FileNotFoundError: a part is missing.
    """
    if not has(folder, "config.json"):
        raise FileNotFoundError(f"{folder} holds no config.json")
    readers = ("preprocessor_config.json", "processor_config.json", "modules.json")
    if not any(has(folder, reader) for reader in readers):
        raise FileNotFoundError(f"{folder} holds no preprocessor_config.json")
    if options.pretrained:
        try:
            find_weights(folder, options)
        except FolderError as error:
            raise FileNotFoundError(one_line(error)) from error


def read_transformers(folder: Path, name: str, options: Options) -> LoadedModel:
    """The model in a folder; errors as in :func:`captum_ib.load`."""
    where = str(folder / "config.json")
    with refusing(folder):
        given = read_json(folder, "config.json")
        weights = find_weights(folder, options) if options.pretrained else None
        kind, modalities = model_class(given, where)
        config = configuration(given, where)
        check_size(lambda: kind(config), None if weights is None else weights.size, where)
        if given["model_type"] in GENERATORS:
            model, left = (kind(config), ()) if weights is None else trained(kind, config, weights)
            return read_generator(folder, f"hf:{name}", model, left)
        processor = image_processor(folder, config) if "image" in modalities else None
        hear = hearing(folder) if "audio" in modalities else None
        words = tokenizer(folder, config) if "text" in modalities else None
        model, left_out = (kind(config), ()) if weights is None else trained(kind, config, weights)
        if hear is not None:
            reader = HubTokenizer(words, None, model.config.text_config.vocab_size)
            return of_texts(f"hf:{name}", model, "dual", reader, left_out=left_out, hear=hear)
        if processor is None:
            return classifier_of_texts(f"hf:{name}", model, words, left_out)
        return wrap_transformers(f"hf:{name}", model, processor, words, left_out)


def trained(
    kind: Any, config: Any, weights: Weights, unused: str = ""
) -> tuple[Any, tuple[str, ...]]:
    """A model with its weights, all of them, and the names of those that it does not use.

    transformers renames tensors that older versions wrote, and fills what is missing with random
    numbers; so it is asked what it did, and given no folder in which to look for more.

    Args:
        kind: the class.
        config: its configuration.
        weights: of the folder.
        unused: what the names of tensors begin with that the model's use here does not need; they
            may be missing.
    """
    tensors = weights.read()
    with refusing(f"{weights.shown} does not fit config.json beside it"), _silent():
        model, report = kind.from_pretrained(
            None,
            config=config,
            state_dict=dict(tensors),
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    detach(model, tensors)
    misshaped = [
        f"{name} {tuple(given)} for {tuple(wanted)}"
        for name, given, wanted in report["mismatched_keys"]
    ]
    missing = [key for key in report["missing_keys"] if not (unused and key.startswith(unused))]
    others = OTHER_HEADS.get(getattr(config, "model_type", ""), "")
    return model, judged(weights.shown, missing, report["unexpected_keys"], misshaped, others)


def wrap_transformers(
    name: str,
    model: Any,
    processor: Any,
    tokenizer: Any | None = None,
    left_out: tuple[str, ...] = (),
) -> LoadedModel:
    """A transformers model with its image processor and, for a dual encoder, its tokenizer."""

    family = getattr(model.config, "model_type", "")
    normalised = getattr(processor, "do_normalize", True)
    mean = triple(processor.image_mean if normalised else [0.0] * 3, "mean")
    std = triple(processor.image_std if normalised else [1.0] * 3, "std")
    preprocess = _preprocess(model, processor, mean, std)
    size = preprocess(Image.new("RGB", SIZES[0])).shape
    words = None
    if tokenizer is not None:
        # SigLIP was trained on texts padded to full length, with no mask.
        text = model.config.text_config
        full = text.max_position_embeddings if "siglip" in family else None
        words = HubTokenizer(tokenizer, full, text.vocab_size)
    return wrapped(
        name,
        model,
        preprocess,
        (size[-2], size[-1]),
        mean,
        std,
        labels=_labels(model.config) if words is None else None,
        words=words,
        left_out=left_out,
    )


def classifier_of_texts(
    name: str, model: Any, words: Any, left_out: tuple[str, ...] = ()
) -> LoadedModel:
    """A classifier of texts with its tokenizer.

    Args:
        name: what to call it.
        model: a ``…ForSequenceClassification``.
        words: its tokenizer.
        left_out: names of tensors of its weights that it does not use.
    """
    config = model.config
    if config.problem_type == "regression":
        raise FolderError(
            f"{name} is a regression and has no classes, so there is no probability to explain; "
            "call a method's attribute() on the model, with target=None or the output's index"
        )
    if config.pad_token_id is None:  # decoders read the last token that is no padding
        config.pad_token_id = NO_PADDING if words.pad_token_id is None else words.pad_token_id
    words.padding_side = "right"
    words.model_max_length = min(words.model_max_length, longest_text(config))
    reader = HubTokenizer(words, None, config.vocab_size)
    module = by_name(model)
    return of_texts(name, module, "classifier", reader, labels=_labels(config), left_out=left_out)


def longest_text(config: Any) -> int:
    """Tokens of the longest text that the table of positions allows."""
    positions = int(config.max_position_embeddings)
    if "roberta" in config.model_type or config.model_type in PADDED_POSITIONS:
        positions -= 2  # they count from behind the padding's index
    return positions


NO_PADDING = -1
"""An id that no token has: then the last token of a text is read, as of one text alone."""
PADDED_POSITIONS = ("camembert", "data2vec-text", "mpnet")


def _labels(config: Any) -> list[str] | None:
    names = getattr(config, "id2label", None)
    return [str(names[i]) for i in sorted(names)] if names else None


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


@contextmanager
def _silent() -> Iterator[None]:
    """No progress bar and no report of transformers: what does not fit is an error of ours."""
    from transformers.utils import logging

    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
