"""NIB's convergence delta by block and spacing of the points, on held-out pairs of clip-scenes.

    python -m benchmarks.completeness

Prints the largest |Σ A − (F(z) − F(b))| of 8 pairs; F is a cosine. No randomness.
"""

from __future__ import annotations

from importlib.metadata import version

from captum_ib import NIB, DualEncoder, zoo
from captum_ib.zoo.evaluate import HELD_OUT_SEED


def main() -> None:
    """Print the table."""
    loaded = zoo.load("clip-scenes")
    dual = DualEncoder.from_model(loaded.model)
    scenes = zoo.scenes.captioned(8, seed=HELD_OUT_SEED, size=loaded.image_size[0])
    ids, mask = loaded.tokenizer(scenes.captions)
    pair = (loaded.normalize(scenes.images), ids)
    print(f"torch {version('torch')}, 8 pairs of clip-scenes, seed {HELD_OUT_SEED}\n")
    print("| block (image / text) | points | image | text |\n|---|---|---|---|")
    for image, text in ((0, 0), (2, 2), (6, 4)):
        layers = [dual.tower("image").blocks[image][1], dual.tower("text").blocks[text][1]]
        for name, options in (
            ("10 right Riemann (the paper)", {}),
            ("300 Gauss–Legendre", {"n_steps": 300, "method": "gausslegendre"}),
            ("300 Gauss–Legendre, power 4",
             {"n_steps": 300, "method": "gausslegendre", "power": 4.0}),
        ):  # fmt: skip
            _, deltas = NIB(dual, layers).attribute(
                pair, additional_forward_args=mask, return_convergence_delta=True, **options
            )
            one, other = (delta.abs().max().item() for delta in deltas)
            print(f"| {image} / {text} | {name} | {one:.1e} | {other:.1e} |", flush=True)


if __name__ == "__main__":
    main()
