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
    given, labels = evaluate.probabilities(zoo.load("vit-relations"), 400)
    sure, answer = given.max(1)
    # Rounding may change an answer where two classes are level.
    assert (answer == labels).sum().item() == pytest.approx(354, abs=2)
    assert sure.mean().item() == pytest.approx(0.8576, abs=1e-3)
    true = torch.histc(given[range(400), labels], 20, 0, 1)
    assert (true >= 4).sum() >= 15  # 16 bins with 1 % of the scenes; 4 are in one of them
    assert true[-1].item() == pytest.approx(157, abs=2)  # of vit-scenes, 99 in 100 are


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


def test_the_histogram_counts_by_the_class_and_by_the_answer():
    given = torch.tensor([[0.82, 0.18], [0.62, 0.38], [0.38, 0.62], [1.0, 0.0]])
    lines = evaluate.histogram(given, torch.tensor([0, 0, 0, 0])).splitlines()
    filled = {line.split()[0]: line.split()[1:] for line in lines[1:]}
    assert lines[0].split() == ["probability", "class", "answer", "accuracy"] and len(filled) == 20
    assert filled["0.35-0.40"] == ["0.2500", "0.0000", "-"]
    assert filled["0.60-0.65"] == ["0.2500", "0.5000", "0.500"]
    assert filled["0.80-0.85"] == ["0.2500", "0.2500", "1.000"]
    assert filled["0.95-1.00"] == ["0.2500", "0.2500", "1.000"]
    assert sum(float(row[0]) for row in filled.values()) == 1


def test_the_command_line_tells_how_sure_a_classifier_is(capsys):
    evaluate.main(["vit-relations", "-n", "20", "--confidence"])
    model = zoo.load("vit-relations")
    table = evaluate.histogram(*evaluate.probabilities(model, 20))
    first, rest = capsys.readouterr().out.split("\n", 1)
    count = int(evaluate.correct(model, 20).sum())
    assert first == f"vit-relations: accuracy {count / 20:.4f} ({count} of 20), seed 1000003"
    assert rest == table + "\n"


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
