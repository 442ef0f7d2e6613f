"""The pictures of docs/methods/ca_m2ib.md and com2ib.md.

python -m benchmarks.figures_pairs --out docs/images
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from captum_ib import CAM2IB, M2IB, CoM2IB, DualEncoder, zoo
from captum_ib.visualization import Panel, attention, compare, grid, save
from captum_ib.zoo.evaluate import HELD_OUT_SEED
from tests.attr.sounds import sounds

SPECIAL = ("<bos>", "<eos>", "<pad>")


def picture(spectrogram: Tensor) -> Tensor:
    """A spectrogram as a grey picture in [0, 1]."""
    low, high = spectrogram.min(), spectrogram.max()
    return ((spectrogram - low) / (high - low)).expand(3, -1, -1)


def words_of(loaded, ids: Tensor) -> list[str]:
    return [word for word in loaded.tokens(ids) if word != "<pad>"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    out = parser.parse_args().out
    loaded = zoo.load("clip-scenes")
    dual = DualEncoder.from_model(loaded.model)
    scenes = zoo.scenes.captioned(3, seed=HELD_OUT_SEED, start=1000, objects=(3, 4))
    ids, mask = loaded.tokenizer(scenes.captions)
    pair = (loaded.normalize(scenes.images), ids)
    options = {"additional_forward_args": mask, "seed": 0}
    guided, (_, read) = CAM2IB(dual).attribute(pair, return_attention=True, **options)
    words = words_of(loaded, ids[0])
    figure = attention(
        scenes.images[0], read.over_keys()[0], words, skip=SPECIAL, title=scenes.captions[0]
    )
    save(figure, out / "ca-m2ib-attention.png", dpi=80)
    found = {
        "M2IB": M2IB(dual).attribute(pair, **options),
        "CA-M2IB": guided,
        "CoM2IB": CoM2IB(dual).attribute(pair, **options),
    }
    rows = []
    for row in range(len(ids)):
        words = words_of(loaded, ids[row])
        panels = [
            Panel(name, image[row], "bits", False, words, text[row, : len(words)])
            for name, (image, text) in found.items()
        ]
        rows.append(panels)
    save(grid(list(scenes.images), rows), out / "pairs-methods.png", dpi=80)
    toy, spectrogram, caption = sounds()
    audio, text = CAM2IB(toy).attribute((spectrogram, caption), seed=0)
    plain = M2IB(toy).attribute((spectrogram, caption), seed=0)
    panels = [
        Panel(name, a[0], "bits", False, ["begin", "filler", "sound-5", "end"], t[0])
        for name, (a, t) in (("M2IB", plain), ("CA-M2IB", (audio, text)))
    ]
    save(
        compare(picture(spectrogram[0]), panels, title="toy spectrogram"),
        out / "ca-m2ib-audio.png",
        dpi=80,
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
