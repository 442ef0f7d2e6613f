"""The FunnyBirds radar of CoIBA and what it is held against: CoIBA, Fig. 6."""

from __future__ import annotations

import pandas as pd

from captum_ib.benchmark.config import MethodConfig
from captum_ib.benchmark.explainers import make_explainer
from captum_ib.benchmark.whole import FromPictures
from captum_ib.metrics import FunnyBirds, evaluate_funnybirds, plot_radar
from captum_ib.metrics.funnybirds import FunnyBirdsScores, Responses
from captum_ib.studies.findings import Findings
from captum_ib.studies.material import Material

METHODS: dict[str, tuple[str, dict[str, object]]] = {
    "CoIBA": ("coiba", {}),
    "IBA": ("iba", {}),
    "IBA*": ("iba", {"layer": "coiba"}),
    "Generic attention": ("genericattention", {}),
    "Transformer attribution": ("transformerattribution", {}),
    "Beyond Intuition": ("beyondintuition", {}),
    "ViT-CX": ("vitcx", {}),
    "IIA": ("iia", {}),
    "Rollout": ("attentionrollout", {}),
    "Attention Grad-CAM": ("attentiongradcam", {}),
    "Grad-CAM": ("layergradcam", {}),
    "Integrated Gradients": ("ig", {"n_steps": 20, "internal_batch_size": None}),
    "NIB": ("nib", {}),
    "Random": ("random", {}),
}
_A_RADAR = 8


def radar(material: Material) -> Findings:
    """The protocols' scores of all methods; a radar for every seven of them, with CoIBA in each.

    Raises:
        ValueError: the data are not FunnyBirds.
    """
    if material.data.kind != "funnybirds" or material.data.path is None:
        raise ValueError(
            "Fig. 6 is drawn on FunnyBirds, whose interventions no other data have; given "
            f"{material.data.kind}: give --data funnybirds:FOLDER and a --model of its classes"
        )
    scores = _scores(material)
    rows = [{"method": label, **one.as_dict()} for label, one in scores.items()]
    table = pd.DataFrame(rows).sort_values("total", ascending=False)
    others = [label for label in scores if label != "CoIBA"]
    figures = {}
    for start in range(0, len(others), _A_RADAR - 1):
        shown = ["CoIBA", *others[start : start + _A_RADAR - 1]]
        figures[f"radar-{len(figures) + 1}"] = plot_radar({name: scores[name] for name in shown})
    order = list(table["method"])
    best, ours = scores[order[0]], scores["CoIBA"]
    said = (
        f"CoIBA is number {order.index('CoIBA') + 1} of {len(order)} by the mean of completeness, "
        f"correctness and contrastivity: {ours.total:.2f}; best {order[0]}, {best.total:.2f} "
        f"({len(material)} birds). The paper has CoIBA first: "
        f"{'this agrees' if order[0] == 'CoIBA' else 'this does not show it'}.",
        "The protocols sum over all birds before they score, so the scores have no errors per "
        "sample.",
    )
    return Findings({"funnybirds": table}, figures, said)


def _scores(material: Material) -> dict[str, FunnyBirdsScores]:
    data = FunnyBirds(str(material.data.path), str(material.data.options.get("split", "test")))
    numbers = {int(name.rpartition("/")[2]) for batch in material.batches for name in batch.ids}
    data.birds = [bird for bird in data.birds if bird.index in numbers]
    model = FromPictures(material.model, material.reader).eval()
    size = max(len(batch) for batch in material.batches)
    responses = Responses(data, model, size)
    scores = {}
    for label, (method, settings) in METHODS.items():
        explainer = make_explainer(MethodConfig(method, label, settings), material.model)
        scores[label] = evaluate_funnybirds(
            model,
            model.explained_by(explainer, material.seed),
            data,
            batch_size=size,
            responses=responses,
            device=str(material.reader.device),
        )
        material.tell(f"{label}: {scores[label].total:.3f}")
    return scores
