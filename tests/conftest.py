"""What every test shares: no network, no display, and where the data beside the repository lies."""

from __future__ import annotations

import os
from pathlib import Path

# Before any hub library is imported: a test that would download something fails instead.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"

import pytest

SHARED = Path(os.environ.get("CAPTUM_IB_SHARED", Path(__file__).parents[2] / "shared"))


def _shared(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(
            f"{folder} is not there (set CAPTUM_IB_SHARED to the folder that holds {name}/)"
        )
    return folder


@pytest.fixture(scope="session")
def conformance() -> Path:
    """Folder with outputs of the original authors' code; the test is skipped where it is absent."""
    return _shared("conformance")


@pytest.fixture(scope="session")
def funnybirds() -> Path:
    """Folder with FunnyBirds images and part maps; the test is skipped where it is absent."""
    return _shared("funnybirds")


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory) -> Path:
    """A transformers CLIP with random weights, image processor and tokenizer, as a folder."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    folder = tmp_path_factory.mktemp("clip")
    words = ["<pad>", "<bos>", "<eos>", "<unk>", "a", "red", "circle", "blue", "square"]
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        text_config={
            **tower,
            "num_hidden_layers": 4,
            "vocab_size": len(words),
            "max_position_embeddings": 8,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
        vision_config={**tower, "num_hidden_layers": 4, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    torch.manual_seed(0)
    transformers.CLIPModel(config).save_pretrained(folder)
    transformers.CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    ).save_pretrained(folder)
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", 2)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        model_max_length=8,
        clean_up_tokenization_spaces=False,  # transformers 4.45 warns where it is not set
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def vit_folder(tmp_path_factory) -> Path:
    """A timm ViT with random weights and three labels, as a folder."""
    import json

    import torch
    from safetensors.torch import save_file
    from timm.models.vision_transformer import VisionTransformer

    folder = tmp_path_factory.mktemp("vit")
    arguments = {
        "img_size": 32,
        "patch_size": 8,
        "embed_dim": 16,
        "depth": 4,
        "num_heads": 2,
        "num_classes": 3,
    }
    torch.manual_seed(0)
    save_file(VisionTransformer(**arguments).state_dict(), folder / "model.safetensors")
    config = {
        "constructor": "timm.models.vision_transformer.VisionTransformer",
        "kwargs": arguments,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "label_names": ["cat", "dog, hound", "bird"],
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder
