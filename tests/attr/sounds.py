"""A toy audio–text dual encoder of which the truth is known: no weights, no training."""

import torch
from torch import nn

from captum_ib import DualEncoder, TokenLayout
from captum_ib.models.tower import Tower


class Audio(nn.Module):
    """A tower for spectrograms of 4 x 6 patches, each of 8 values; the mean of its tokens."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(8, 16)
        self.blocks = nn.ModuleList(Mixer() for _ in range(4))

    def forward(self, x):
        patches = x.unflatten(1, (4, 2)).unflatten(3, (6, 4)).transpose(2, 3).flatten(3)
        hidden = self.embed(patches.flatten(1, 2))
        for block in self.blocks:
            hidden = block(hidden)
        return hidden


class Mixer(nn.Module):
    """A block whose tokens hardly mix, so that the truth about them is known."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 16), nn.GELU())

    def forward(self, x):
        return x + 0.1 * self.inner(x)


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 16)
        self.blocks = nn.ModuleList(Mixer() for _ in range(4))

    def forward(self, ids):
        hidden = self.embed(ids)
        for block in self.blocks:
            hidden = block(hidden)
        return hidden


def sounds():
    """A model in which word k means the sound with pattern k, and three scenes of two sounds.

    The scene of row i has its named sound at patch (1, i), another one at patch (2, 4), and noise.
    """
    torch.manual_seed(0)
    model = nn.ModuleDict({"audio": Audio(), "text": Words()}).eval()
    patterns = nn.functional.normalize(torch.randn(10, 8), dim=-1) * 3
    with torch.no_grad():
        model["audio"].embed.bias.zero_()
        model["text"].embed.weight.copy_(patterns @ model["audio"].embed.weight.T)
        model["text"].embed.weight[:3] *= 0.05  # begin, end and filler mean nothing
    dual = DualEncoder(
        model,
        [
            Tower(
                "audio", model["audio"],
                lambda x, mask: model["audio"](x).mean(dim=1), lambda x, mask: model["audio"](x),
                [(f"audio.blocks.{i}", b) for i, b in enumerate(model["audio"].blocks)],
                infer_layout=lambda *_: TokenLayout("tokens", grid=(4, 6)),
            ),
            Tower(
                "text", model["text"],
                lambda x, mask: model["text"](x).mean(dim=1), lambda x, mask: model["text"](x),
                [(f"text.blocks.{i}", b) for i, b in enumerate(model["text"].blocks)],
                infer_layout=lambda *_: TokenLayout("sequence"),
            ),
        ],
    )  # fmt: skip
    named = torch.tensor([5, 7, 9])
    sound = 0.05 * torch.randn(3, 4, 6, 8)
    for row in range(3):
        sound[row, 1, row] = patterns[named[row]]
        sound[row, 2, 4] = patterns[3 + row]
    spectrogram = sound.unflatten(3, (2, 4)).permute(0, 1, 3, 2, 4).reshape(3, 8, 24)
    ids = torch.stack([torch.zeros(3).long(), torch.full((3,), 2), named, torch.ones(3).long()], 1)
    return dual, spectrogram, ids
