"""Load a model by one string: from the zoo, timm, the Hugging Face hub, or a folder.

Code that comes with a model is never executed, and pickled weights are refused unless allowed.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path

from captum_ib import zoo
from captum_ib.loading.folders import load_folder
from captum_ib.loading.from_albef import load_albef
from captum_ib.loading.from_imagebind import load_imagebind
from captum_ib.loading.from_open_clip import load_open_clip
from captum_ib.loading.from_openai import load_openai_clip
from captum_ib.loading.from_sentence import load_transformers
from captum_ib.loading.from_timm import load_timm
from captum_ib.loading.hubs import wrapped
from captum_ib.loading.loaded import LoadedModel, ModelUnavailableError, Options
from captum_ib.loading.packaged import load_packaged
from captum_ib.zoo.packaged import PACKAGED

__all__ = ["FORMS", "LoadedModel", "ModelUnavailableError", "load"]

FORMS = (
    "a zoo name, timm:NAME, hf:ID (hub id or folder), open_clip:NAME/TAG, openai_clip:FILE, "
    "albef:FILE, imagebind:FILE, or a folder"
)


def load(
    spec: str,
    *,
    pretrained: bool = True,
    allow_pickle: bool = False,
    revision: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> LoadedModel:
    """The model that ``spec`` names, in evaluation mode, with its preprocessing and words.

    Args:
        spec: ``"zoo:NAME"`` (or the bare name; ``"efficientnet-lite0"`` and ``"minilm"`` need the
            extra ``weights``), ``"timm:NAME"``, ``"hf:ID"``,
            ``"open_clip:NAME/TAG"`` and ``"open_clip:hf-hub:ORG/NAME"`` (extra ``openclip``),
            ``"openai_clip:FILE"`` (the state dict of OpenAI's ``clip``, as fine-tuned CLIPs are
            passed on), ``"albef:FILE"`` and ``"imagebind:FILE"`` (their published checkpoints), or
            a folder with ``config.json`` and ``model.safetensors`` as transformers or timm write
            them, or ``open_clip_config.json`` as open_clip does. A hub model that was downloaded
            before is found on disk when there is no network.
        pretrained: load weights (default); otherwise they are random, and timm needs no network.
        allow_pickle: accept weights that exist in pickled form only. Unpickling can execute code:
            do this for sources that you trust. Default: refuse.
        revision: branch, tag or commit on the hub (default: the main branch).
        mean: normalisation per channel for folders that do not state it.
        std: as ``mean``.

    Raises:
        TypeError: ``spec`` is not a string.
        ValueError: ``spec`` names nothing, or a model that can't be explained; weights are pickled;
            preprocessing is missing or does not fit the model.
        ModelUnavailableError: a hub model is not on disk, and the hub can't be reached.

    >>> load("timm:vit_tiny_patch16_224", pretrained=False).image_size
    (224, 224)
    """
    if not isinstance(spec, str):
        raise TypeError(f"spec must be a string ({FORMS}), given {type(spec).__name__}")
    options = Options(pretrained, allow_pickle, revision, mean, std)
    if Path(spec).is_dir():
        return load_folder(Path(spec), options)
    scheme, colon, name = spec.partition(":")
    if colon and name and scheme in _SOURCES:
        return _SOURCES[scheme](name, options)
    known = [*zoo.names(), *PACKAGED]
    if spec in known:
        return _from_zoo(spec, options)
    near = difflib.get_close_matches(spec, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"the zoo has {', '.join(known)}"
    raise ValueError(f"unknown model {spec!r}: expected {FORMS}; {hint}")


def _from_zoo(name: str, options: Options) -> LoadedModel:
    if not options.pretrained:
        raise ValueError(f"zoo:{name} comes trained; pretrained=False is for other models")
    if options.revision is not None:
        raise ValueError(f"zoo:{name} comes with the package; it has no revision")
    if name in PACKAGED:
        return load_packaged(name)
    found = zoo.load(name)
    return wrapped(
        f"zoo:{name}",
        found.model,
        found.preprocess,
        found.image_size,
        found.mean,
        found.std,
        labels=found.labels,
        words=found.tokenizer,
    )


_SOURCES: dict[str, Callable[[str, Options], LoadedModel]] = {
    "zoo": _from_zoo,
    "timm": load_timm,
    "hf": load_transformers,
    "open_clip": load_open_clip,
    "openai_clip": load_openai_clip,
    "albef": load_albef,
    "imagebind": load_imagebind,
}
