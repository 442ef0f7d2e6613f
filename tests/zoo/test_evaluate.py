"""The measures against closed forms, and the shipped weights against the numbers in the docs."""

import math

import pytest
import torch

from captum_ib import zoo
from captum_ib.zoo import evaluate, scenes


def test_auc_of_two_normal_distributions():
    # P(x > y) for x ~ N(1, 1), y ~ N(0, 1) is Φ(1 / √2); here the quantiles stand for the samples.
    quantiles = torch.special.ndtri((torch.arange(2000, dtype=torch.float64) + 0.5) / 2000)
    scores = torch.cat([quantiles + 1, quantiles])
    positive = torch.arange(4000) < 2000
    expected = 0.5 * (1 + math.erf(0.5))
    assert evaluate.auc(scores, positive).item() == pytest.approx(expected, abs=1e-4)


def test_auc_row_by_row_ties_and_empty_classes():
    scores = torch.tensor([[3.0, 2.0, 1.0], [1.0, 1.0, 1.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    positive = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 0, 0], [1, 1, 1]]).bool()
    values = evaluate.auc(scores, positive)
    assert values[:3].tolist() == [1.0, 0.5, 0.0] and values[3].isnan()
    with pytest.raises(ValueError, match=r"same shape; got \(4, 3\) and \(4,\)"):
        evaluate.auc(scores, positive[:, 0])


def test_similarities_are_those_of_the_model():
    model = zoo.load("clip-scenes")
    data = scenes.captioned(5, seed=1)
    ids, mask = model.tokenizer(data.captions)
    with torch.no_grad():
        outputs = model.model(ids, model.normalize(data.images), attention_mask=mask)
    expected = outputs.text_embeds @ outputs.image_embeds.T
    torch.testing.assert_close(evaluate.similarities(model, data, batch=2), expected)
    with pytest.raises(TypeError, match="vit-scenes takes no captions"):
        evaluate.similarities(zoo.load("vit-scenes"), data)


def test_the_shipped_vit_reaches_what_the_docs_state():
    # The smallest margin between the two highest logits is 0.98: no rounding changes this count.
    assert evaluate.correct(zoo.load("vit-scenes"), 500).sum() == 499


def test_the_shipped_vit_of_relations_is_unsure_at_times_and_knows_it():
    model = zoo.load("vit-relations")
    sure, right = evaluate.confidences(model, 400), evaluate.correct(model, 400)
    # Rounding may change an answer where two classes are level.
    assert right.sum().item() == pytest.approx(RIGHT, abs=2)
    assert sure.mean().item() == pytest.approx(SURE, abs=1e-3)
    counts = torch.histc(sure, 20, 0, 1)
    assert (counts >= 4).sum() >= 12  # 1 % of the scenes in at least 12 of 20 bins


def test_the_shipped_clip_reaches_what_the_docs_state():
    values = evaluate.caption_aucs(zoo.load("clip-scenes"), 300)
    # Rounding may swap images whose similarities differ in the seventh digit.
    assert values.mean().item() == pytest.approx(0.999666, abs=2e-5)
    assert values.min().item() == pytest.approx(0.9833, abs=1e-3)


@pytest.mark.parametrize("batch", [7, 30])
def test_correct_does_not_depend_on_the_batch(batch):
    model = zoo.load("vit-scenes")
    whole = evaluate.correct(model, 30, batch=30)
    assert torch.equal(evaluate.correct(model, 30, batch=batch), whole)


def test_the_command_line_reports(capsys):
    evaluate.main(["vit-scenes", "-n", "20"])
    count = int(evaluate.correct(zoo.load("vit-scenes"), 20).sum())
    assert capsys.readouterr().out == (
        f"vit-scenes: accuracy {count / 20:.4f} ({count} of 20), seed 1000003\n"
    )
    evaluate.main(["clip-scenes", "-n", "40"])
    values = evaluate.caption_aucs(zoo.load("clip-scenes"), 40)
    assert f"mean AUC {values.mean():.4f} " in capsys.readouterr().out


def test_the_command_line_tells_how_sure_a_classifier_is(capsys):
    evaluate.main(["vit-relations", "-n", "40", "--confidence"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("vit-relations: accuracy 0.") and len(lines) == 22
    assert lines[1].split() == ["confidence", "share", "accuracy"]
    model = zoo.load("vit-relations")
    sure, right = evaluate.confidences(model, 40), evaluate.correct(model, 40)
    for number, line in enumerate(lines[2:]):
        low, high = number / 20, (number + 1) / 20
        inside = (sure >= low) & (sure < high)
        rate = f"{right[inside].float().mean():.3f}" if inside.any() else "-"
        share = f"{inside.sum() / 40:.4f}"
        assert line.split() == [f"{low:.2f}-{high:.2f}", share, rate]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["clip-scenes", "--confidence"], "clip-scenes has no classes; --confidence is for class"),
        (["clip-scenes", "-n", "1"], "with n=1 some caption is true of all or of no image"),
        (["vit-scenes", "--folder", "nowhere"], "config.json is missing"),
        (["vit"], "invalid choice: 'vit'"),
    ],
)
def test_the_command_line_refuses(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        evaluate.main(arguments)
    assert message in capsys.readouterr().err
