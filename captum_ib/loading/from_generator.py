"""Load vision-language models that answer: folders of transformers with processor and template."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from captum_ib.extras import need
from captum_ib.loading.families import GENERATORS
from captum_ib.loading.files import has, read_json, read_text
from captum_ib.loading.hub_tokenizer import HubTokenizer
from captum_ib.loading.loaded import FolderError, LoadedModel, Triple, no_pictures, triple
from captum_ib.loading.processing import (
    ANSWERING,
    generator_settings,
    image_processor,
    tokenizer,
)
from captum_ib.models.generator_inputs import PACKED, image_token, inputs_of
from captum_ib.rgb import as_rgb

MAX_TEMPLATE = 100_000
"""Letters of the longest template; real ones have up to 15,000."""
# By captum_ib.models.generator_inputs, for prompt and answer.
_MADE = frozenset(
    "input_ids attention_mask pixel_values labels token_type_ids mm_token_type_ids".split()
)
_SIDE = 448  # of the picture that figures show, pixels


@dataclass(frozen=True)
class Asked:
    """A picture and a question as a vision-language model reads them.

    Attributes:
        pixel_values: one sample, as :class:`captum_ib.models.AnswerLogProbability` takes it.
        prompt_ids: ``(P,)``, placeholders of the picture included.
        extra: further arguments of the model for this sample.
        picture: ``(3, H, W)`` in [0, 1], what of the picture the model's tokens cover.
        tiles: rows and columns of the tiles that were cut, where there is more than one.
    """

    pixel_values: Tensor
    prompt_ids: Tensor
    extra: dict[str, Any]
    picture: Tensor
    tiles: tuple[int, int] | None = None


@dataclass(frozen=True)
class Asking:
    """From a picture and a question to a model's inputs, by its own processor and template.

    Args:
        processor: of transformers.
        model: a ``…ForConditionalGeneration``.
        mean, std: of the normalisation.
    """

    processor: Any
    model: Any
    mean: Triple
    std: Triple

    def __call__(self, picture: Image.Image, question: str) -> Asked:
        """A picture and a question, as the template puts them.

        Raises:
            ValueError: the processor does not take them.
        """
        family, picture = self.model.config.model_type, as_rgb(picture)
        given = self.processor(text=self.prompt(question), images=picture, return_tensors="pt")
        pixels, taken = given["pixel_values"], inspect.signature(self.model.forward).parameters
        extra = {name: given[name] for name in given if name in taken and name not in _MADE}
        if family in PACKED or (pixels.ndim == 4 and len(pixels) > 1):
            pixels = pixels[None]  # patches or tiles, without an axis of samples
        whole = family in PACKED or pixels.ndim == 5
        shown = _small(picture) if whole else self._denormalised(pixels[0])
        return Asked(pixels, given["input_ids"][0], extra, shown, self._tiles(picture, pixels))

    def prompt(self, question: str) -> str:
        """The question with its picture, as the model's template puts them."""
        if self.processor.chat_template is None:  # PaliGemma
            return self.processor.image_token + question
        content = [{"type": "image"}, {"type": "text", "text": question}]
        return self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )

    def generate(self, asked: Asked, most: int) -> Tensor:
        """The model's own answer, ``(A,)``, the likeliest token each time, without an end token.

        Args:
            asked: what is asked.
            most: longest answer, tokens.

        Raises:
            ValueError: the answer is empty.
        """
        words, ids = self.processor.tokenizer, asked.prompt_ids[None].to(self.model.device)
        pixels = asked.pixel_values.to(self.model.device, self.model.dtype)
        found = self.model.generate(
            **inputs_of(self.model, pixels, ids, ids.shape[1], asked.extra),
            do_sample=False,
            suppress_tokens=[image_token(self.model)],  # no picture stands behind it
            max_new_tokens=most,
            eos_token_id=words.eos_token_id,
            pad_token_id=words.pad_token_id,
        )[0, ids.shape[1] :]
        ended = (found == words.eos_token_id).nonzero()
        answer = found[: int(ended[0])] if len(ended) else found
        if not len(answer):
            raise ValueError(
                "the model answers nothing: its likeliest first token ends the text; ask "
                "otherwise, or say which answer is to be explained (answer=, --answer)"
            )
        return answer

    def _denormalised(self, pixels: Tensor) -> Tensor:
        mean, std = torch.tensor(self.mean).view(3, 1, 1), torch.tensor(self.std).view(3, 1, 1)
        return (pixels.float() * std + mean).clamp(0, 1)

    def _tiles(self, picture: Image.Image, pixels: Tensor) -> tuple[int, int] | None:
        """Rows and columns that a picture was cut into, of families that give each its tokens."""
        images, family = self.processor.image_processor, self.model.config.model_type
        if pixels.ndim != 5 or pixels.shape[1] == 1:
            return None
        if family in ("idefics3", "smolvlm"):
            found = images(picture, return_row_col_info=True)
            return int(found["rows"][0][0]), int(found["cols"][0][0])
        if family == "internvl":
            from transformers.models.got_ocr2 import image_processing_got_ocr2 as tiled

            size, side = (picture.height, picture.width), tuple(pixels.shape[-2:])
            columns, rows = tiled.get_optimal_tiled_canvas(
                size, side, images.min_patches, images.max_patches
            )
            return (rows, columns) if rows * columns + 1 == pixels.shape[1] else None
        return None


def asking_of(loaded: LoadedModel) -> Asking:
    """How a model that answers is asked.

    Raises:
        TypeError: it does not answer.
    """
    if loaded.ask is None:
        raise TypeError(f"{loaded.name} answers nothing")
    return loaded.ask


def _small(picture: Image.Image) -> Tensor:
    """A picture for figures, ``(3, H, W)``."""
    copy = picture.copy()
    copy.thumbnail((_SIDE, _SIDE))
    return torch.from_numpy(np.asarray(copy).copy()).permute(2, 0, 1) / 255


def read_generator(
    folder: Path, name: str, model: Any, left_out: tuple[str, ...] = ()
) -> LoadedModel:
    """A model that answers, with what turns pictures and questions into its inputs.

    Args:
        folder: with processor, tokenizer and template.
        name: what to call it.
        model: a ``…ForConditionalGeneration``.
        left_out: names of tensors of its weights that it does not use.

    Raises:
        FolderError: a part is missing, or is not plain data.
    """
    config = model.config
    pictures, words = image_processor(folder, config, ANSWERING), tokenizer(folder, config)
    mean, std = triple(pictures.image_mean, "mean"), triple(pictures.image_std, "std")
    asking = Asking(_processor(folder, config, pictures, words), model.eval(), mean, std)
    reader = HubTokenizer(words, None, config.get_text_config().vocab_size)
    return LoadedModel(
        name,
        model,
        "generator",
        no_pictures,
        (0, 0),
        mean,
        std,
        tokenizer=reader,
        tokens=reader.tokens,
        special_tokens=reader.special_tokens,
        modalities=("image", "text"),
        ask=asking,
        left_out=left_out,
    )


def _processor(folder: Path, config: Any, pictures: Any, words: Any) -> Any:
    """The family's processor, made of checked parts."""
    import transformers

    family = config.model_type
    stem = GENERATORS[family][0].removesuffix("ForConditionalGeneration")
    kind: Any = getattr(transformers, f"{stem}Processor")
    taken = inspect.signature(kind.__init__).parameters
    settings = {k: v for k, v in generator_settings(folder).items() if k in taken}
    if "patch_size" in taken:  # older folders leave these to the model
        settings.setdefault("patch_size", config.vision_config.patch_size)
        chosen = config.vision_feature_select_strategy
        settings.setdefault("vision_feature_select_strategy", chosen)
    if "video_processor" in taken:
        if family == "smolvlm":
            need("num2words", "SmolVLM's processor", "vlm")
        videos = "Qwen2VL" if family == "qwen2_5_vl" else stem
        settings["video_processor"] = getattr(transformers, f"{videos}VideoProcessor")()
    template = _template(folder)
    if template is None and family != "paligemma":
        raise FolderError(
            f"{folder} does not say how a question is put: there is no chat_template, neither as "
            "chat_template.jinja or .json nor in processor_config.json or tokenizer_config.json"
        )
    return kind(image_processor=pictures, tokenizer=words, chat_template=template, **settings)


def _template(folder: Path) -> str | None:
    """How a question is put; transformers fills it in where it can call nothing."""
    if has(folder, "chat_template.jinja"):
        return _bounded(read_text(folder, "chat_template.jinja"), folder)
    names = ("chat_template.json", "processor_config.json", "tokenizer_config.json")
    for name in names:
        found = read_json(folder, name).get("chat_template") if has(folder, name) else None
        if found is not None:
            return _bounded(found, folder / name)
    return None


def _bounded(template: Any, where: Path) -> str:
    if not isinstance(template, str) or len(template) > MAX_TEMPLATE:
        raise FolderError(
            f"{where}: chat_template must be a text of at most {MAX_TEMPLATE} letters"
        )
    return template
