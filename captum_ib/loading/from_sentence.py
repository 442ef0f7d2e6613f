"""Load sentence encoders: folders as sentence-transformers writes them, with their pooling.

Only what is data is read: the encoder by its ``config.json``, the pooling by its flags. A module's
``type`` is compared with a list, never imported.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from captum_ib.loading.budget import check_size
from captum_ib.loading.configurations import configuration
from captum_ib.loading.files import has, read_json, read_list, refusing
from captum_ib.loading.from_transformers import (
    folder_of,
    longest_text,
    read_transformers,
    trained,
)
from captum_ib.loading.hub_tokenizer import HubTokenizer
from captum_ib.loading.hubs import of_texts
from captum_ib.loading.loaded import FolderError, LoadedModel, Options
from captum_ib.loading.processing import tokenizer
from captum_ib.loading.values import short
from captum_ib.loading.weights import find_weights
from captum_ib.models.sentence import SentenceEncoder

ENCODERS = {
    "bert": "BertModel",
    "camembert": "CamembertModel",
    "distilbert": "DistilBertModel",
    "mpnet": "MPNetModel",
    "roberta": "RobertaModel",
    "xlm-roberta": "XLMRobertaModel",
}
"""``model_type`` → class of the text encoders that a folder may hold."""

MODULES = ("Transformer", "Pooling", "Normalize")
"""What ``modules.json`` may list, in this order; the last may be missing."""

_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_weightedmean_tokens": "weighted_mean",
    "pooling_mode_lasttoken": "last_token",
}
_NAMES = {"weightedmean": "weighted_mean", "lasttoken": "last_token"}
# sentence-transformers puts several poolings one behind the other in this order.
_ORDER = tuple(_FLAGS.values())


def load_transformers(name: str, options: Options) -> LoadedModel:
    """A model of transformers or sentence-transformers, by hub id or folder.

    Raises:
        ValueError, ModelUnavailableError: as in :func:`captum_ib.load`.
    """
    folder = folder_of(name, options)
    with refusing(folder):
        if has(folder, "modules.json"):
            return read_sentences(folder, f"hf:{name}", options)
        return read_transformers(folder, name, options)


def read_sentences(folder: Path, name: str, options: Options) -> LoadedModel:
    """The sentence encoder in a folder, for pairs of texts.

    Raises:
        FolderError: it lists other modules than an encoder, a pooling and a normalisation, or the
            encoder is of a family that is not in :data:`ENCODERS`.
    """
    import transformers

    given, where = read_json(folder, "config.json"), str(folder / "config.json")
    pooling, normalise = _modules(folder)
    family = given.get("model_type")
    if family not in ENCODERS:
        raise FolderError(
            f"{where}: a sentence encoder of the family {short(family)} can't be explained from a "
            f"name; those of {', '.join(ENCODERS)} can. Build another one yourself, as "
            "captum_ib.models.SentenceEncoder(encoder, pooling)"
        )
    config = configuration(given, where)
    kind = getattr(transformers, ENCODERS[family])
    weights = find_weights(folder, options) if options.pretrained else None
    check_size(lambda: kind(config), None if weights is None else weights.size, where)
    words = tokenizer(folder, config)
    encoder, left_out = (
        (kind(config), ()) if weights is None else trained(kind, config, weights, unused="pooler.")
    )
    words.model_max_length = min(words.model_max_length, _longest(folder, config))
    reader = HubTokenizer(words, None, config.vocab_size)
    module = SentenceEncoder(encoder, pooling, normalise)
    return of_texts(name, module, "dual", reader, left_out=left_out)


def _modules(folder: Path) -> tuple[tuple[str, ...], bool]:
    """How tokens are pooled, and whether embeddings get length 1."""
    where, entries = str(folder / "modules.json"), read_list(folder, "modules.json")
    kinds = [_kind(entry, where) for entry in entries]
    if kinds not in (list(MODULES), list(MODULES[:2])):
        raise FolderError(
            f"{where} lists {', '.join(map(short, kinds)) or 'nothing'}; an encoder, a pooling and "
            "maybe a normalisation can be explained (Transformer, Pooling, Normalize)"
        )
    if entries[0].get("path", "") != "":
        raise FolderError(f'{where}: the Transformer must lie in the folder itself (path "")')
    part = entries[1].get("path")
    if not isinstance(part, str) or not re.fullmatch(r"\w{1,64}", part):
        raise FolderError(f"{where}: {short(part)} is no name of a folder for the Pooling")
    return _pooling(read_json(folder, "config.json", part), f"{folder / part}"), len(kinds) == 3


def _kind(entry: Any, where: str) -> str:
    """The last word of a module's ``type``."""
    if not isinstance(entry, dict) or not isinstance(entry.get("type"), str):
        raise FolderError(f"{where}: every module needs a type")
    library, _, kind = str(entry["type"]).rpartition(".")
    if not re.fullmatch(r"sentence_transformers(\.\w+)*", library):
        return str(entry["type"])
    return kind


def _pooling(config: dict[str, Any], where: str) -> tuple[str, ...]:
    chosen = {word for flag, word in _FLAGS.items() if config.get(flag) is True}
    mode = config.get("pooling_mode")  # how newer versions say it
    for one in [mode] if isinstance(mode, str) else mode if isinstance(mode, list) else []:
        chosen.add(_NAMES.get(one, one) if isinstance(one, str) else short(one))
    if not chosen or not chosen <= set(_ORDER):
        raise FolderError(
            f"{where}: the pooling is {', '.join(sorted(chosen)) or 'not said'}; known are "
            f"{', '.join(_ORDER)}"
        )
    if config.get("include_prompt") is False:
        raise FolderError(
            f"{where}: a pooling that leaves the prompt out (include_prompt: false) is not known"
        )
    return tuple(word for word in _ORDER if word in chosen)


def _longest(folder: Path, config: Any) -> int:
    """Tokens of the longest text: as the folder says, and as the table of positions allows."""
    positions = longest_text(config)
    if not has(folder, "sentence_bert_config.json"):
        return positions
    said = read_json(folder, "sentence_bert_config.json").get("max_seq_length")
    return min(positions, said) if isinstance(said, int) and said > 0 else positions
