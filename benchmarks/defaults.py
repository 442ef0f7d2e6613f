"""The numbers behind captum_ib/presets.py: settings chosen on one half, reported on the other.

    python -m benchmarks.defaults run vit-scenes --half choose --out defaults-out
    python -m benchmarks.defaults run vit-scenes --half report --out defaults-out
    python -m benchmarks.defaults table vit-scenes --half report --out defaults-out

``run`` judges every row of the subject and writes one JSON file of scores per sample and row; it
goes on where it stopped, and prints the table. The halves: scenes of seed 77 to choose, of the
zoo's held-out seed to report. Nothing is chosen on FunnyBirds, the photographs and the other small
CLIP. Rows that were not chosen stay out of the report, except the papers'.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import captum
import numpy as np
import timm
import torch

from benchmarks.defaults_pairs import clip_scenes, clip_small
from benchmarks.defaults_subjects import Row, Scores, funnybirds, photographs, vit_scenes

PAPER = {  # what each method's other rows are compared with
    "coiba": Row("coiba", "paper"),
    "iba": Row("iba", "paper"),
    "nib": Row("nib", "paper"),
    "m2ib": Row("m2ib", "paper"),
    "com2ib": Row("com2ib"),
    "cam2ib": Row("cam2ib", "paper"),
}
SHORT = {"n_steps": 30, "lr": 0.5}
ELEMENTS = {"channel": "elementwise"}
ESTIMATED = {"prior": "estimated"}


_CLASSIFIER = [
    *(PAPER[name] for name in ("coiba", "iba", "nib")),
    *(Row(name, "paper", {}, references=True) for name in ("coiba", "iba")),
    *(Row("coiba", 0.0, {"beta": beta}) for beta in (0.1, 0.01)),
    *(Row("coiba", 0.0, one) for one in ({}, ELEMENTS, {"beta": 0.1} | ELEMENTS, ELEMENTS | SHORT)),
    Row("iba", 0.25),
    Row("iba", 0.25, {"beta": 1.0}),
    Row("iba", 0.0, {"beta": 1.0}),
    Row("iba", 0.25, {"beta": 1.0} | SHORT),
    Row("iba", 0.25, {"beta": 1.0, "n_samples": 4, "antithetic": True}),
    *(Row("nib", share) for share in (0.5, 0.25, 0.0)),
    Row("genericattention"),
]
_PAIRS = [
    *(PAPER[name] for name in ("com2ib", "m2ib", "nib", "cam2ib")),
    *(Row("com2ib", None, {"beta": beta}) for beta in (0.01, 0.1)),
    Row("com2ib", None, SHORT),
    Row("m2ib", 0.25),
    Row("m2ib", 0.25, ESTIMATED),
    Row("m2ib", 0.0, ESTIMATED),
    Row("m2ib", 0.0, ESTIMATED | {"beta": 0.03}),
    *(Row("nib", share) for share in (0.5, 0.0)),
    Row("cam2ib", 0.25),
    Row("genericattention"),
]
ROWS = {
    "vit-scenes": _CLASSIFIER,
    "clip-scenes": _PAIRS,
}
SUBJECTS = {
    "vit-scenes": vit_scenes,
    "funnybirds": funnybirds,
    "photographs": photographs,
    "clip-scenes": clip_scenes,
    "clip-small": clip_small,
}
_SPLIT = Row("com2ib", None, {"beta": (0.03, 0.1)})
_BOTH = [Row("coiba", 0.0, {"beta": 0.01}), Row("iba", 0.25, {"beta": 1.0})]
_LOW = [Row("m2ib", share, ESTIMATED) for share in (0.25, 0.0)]
CHOSEN = {
    "vit-scenes": [
        *(PAPER[name] for name in ("coiba", "iba", "nib")),
        *_BOTH,
        *(Row("nib", share) for share in (0.5, 0.0)),
        Row("genericattention"),
    ],
    "funnybirds": [PAPER["coiba"], PAPER["iba"], *_BOTH],
    "photographs": [
        *(PAPER[name] for name in ("iba", "coiba", "nib")),
        Row("iba", "paper", {"beta": 1.0}),
        Row("coiba", "paper", {"beta": 0.01}),
    ],
    "clip-scenes": [
        *(PAPER[name] for name in ("com2ib", "m2ib")),
        _SPLIT,
        *_LOW,
        Row("nib", 0.5),
        Row("genericattention"),
    ],
    "clip-small": [*(PAPER[name] for name in ("com2ib", "m2ib")), *_LOW],
}
COLUMNS = {  # score: its title and number of digits
    "ΔInsDel": ("ΔInsDel ↑", 1),
    "pointing": ("pointing ↑", 2),
    "IoU": ("IoU ↑", 3),
    "image drop": ("image: drop ↓", 1),
    "image increase": ("increase ↑", 0),
    "text drop": ("text: drop ↓", 1),
    "share": ("words: share ↑", 2),
    "AUC": ("words: AUC ↑", 2),
    "kept": ("confidence kept ↑", 3),
    "cut": ("below 1 bit", 2),
    "stays": ("class stays ↑", 2),
    "bits": ("median bits", 0),
    "collapsed": ("collapsed ↓", 0),
    "image bits": ("image: median bits", 0),
    "image collapsed": ("collapsed ↓", 0),
    "text bits": ("text: median bits", 0),
    "text collapsed": ("collapsed ↓", 0),
}


def file_of(out: Path, subject: str, half: str, row: Row, seed: int) -> Path:
    """Where a row's scores are kept."""
    slug = "".join(c if c.isalnum() or c == "." else "_" for c in row.label)
    return out / f"{subject}-{half}-{seed}-{slug}.json"


def rows_of(subject: str, half: str) -> list[Row]:
    """All rows to choose from; to report those that are compared in the end.

    Raises:
        SystemExit: nothing is chosen on this subject.
    """
    if half == "choose" and subject not in ROWS:
        raise SystemExit(f"nothing is chosen on {subject}; it has the half 'report' only")
    return ROWS[subject] if half == "choose" else CHOSEN[subject]


def run(args: argparse.Namespace) -> None:
    """Judge the rows that have no file yet."""
    args.out.mkdir(parents=True, exist_ok=True)
    subject = SUBJECTS[args.subject](
        args.choose, args.report, shared=args.shared, weights=args.weights
    )
    for row in rows_of(args.subject, args.half):
        file = file_of(args.out, args.subject, args.half, row, args.seed)
        if file.exists() or (args.only and row.label not in args.only):
            continue
        started = time.process_time()
        scores = subject.judge(row, args.half, args.seed)
        seconds = time.process_time() - started
        kept = {name: np.asarray(values, float).tolist() for name, values in scores.items()}
        file.with_suffix(".part").write_text(json.dumps({"cpu_s": seconds, "scores": kept}))
        os.replace(file.with_suffix(".part"), file)
        print(f"{row.label}: {seconds:.0f} s of processor time", flush=True)


def load(args: argparse.Namespace) -> dict[str, tuple[Row, Scores]]:
    """The rows that have been judged."""
    found = {}
    for row in rows_of(args.subject, args.half):
        file = file_of(args.out, args.subject, args.half, row, args.seed)
        if file.exists():
            scores = json.loads(file.read_text())["scores"]
            found[row.label] = (row, {name: np.array(v, float) for name, v in scores.items()})
    return found


def mean_error(values: np.ndarray) -> tuple[float, float]:
    """Mean and standard error over the samples that have a score."""
    values = values[~np.isnan(values)]
    return float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5)


def cells(name: str, scores: Scores, paper: Scores | None) -> str:
    """Mean, and below the papers' row the paired difference to it."""
    if name not in scores:
        return ""
    digits = COLUMNS[name][1]
    if name.endswith("collapsed"):
        return f"{int(scores[name].sum())}"
    if name.endswith("bits"):
        return f"{np.median(scores[name]):.0f}"
    mean, _ = mean_error(scores[name])
    if paper is None or name not in paper:
        return f"{mean:.{digits}f}".replace("-", "−")
    gap, error = mean_error(scores[name] - paper[name])
    return f"{mean:.{digits}f} ({gap:+.{digits}f} ± {error:.{digits}f})".replace("-", "−")


def table(args: argparse.Namespace) -> None:
    """Print the rows, in parentheses the paired difference to the paper's setting of the method."""
    rows = load(args)
    columns = [name for name in COLUMNS if any(name in scores for _, scores in rows.values())]
    some = next(iter(rows.values()))[1]
    print(
        f"{args.subject}, half {args.half!r}, {len(some['ΔInsDel'])} samples, seed {args.seed}, "
        f"torch {torch.__version__}, captum {captum.__version__}, timm {timm.__version__}\n"
    )
    titles = [COLUMNS[name][0] for name in columns]
    print("| | " + " | ".join(titles) + " |\n|---" + "|---:" * len(columns) + "|")
    for label, (row, scores) in rows.items():
        paper = PAPER.get(row.method)
        base = rows[paper.label][1] if paper and paper.label in rows and row != paper else None
        print(f"| {label} | " + " | ".join(cells(name, scores, base) for name in columns) + " |")


def main() -> None:
    """Run, then print the table; or print it alone."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("run", "table"))
    parser.add_argument("subject", choices=list(SUBJECTS))
    parser.add_argument("--half", choices=("choose", "report"), default="report")
    parser.add_argument("--choose", type=int, default=48, help="samples to choose on")
    parser.add_argument("--report", type=int, default=128, help="samples to report")
    parser.add_argument("--seed", type=int, default=0, help="of the bottlenecks' noise")
    parser.add_argument("--out", type=Path, default=Path("defaults-out"))
    parser.add_argument("--only", nargs="*", help="labels of rows")
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="FunnyBirds, CLIP")
    parser.add_argument("--weights", type=Path, help="EfficientNet-Lite0's .pth file")
    args = parser.parse_args()
    if args.command == "run":
        run(args)
    table(args)


if __name__ == "__main__":
    main()
