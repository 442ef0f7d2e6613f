"""Training: resuming, the schedule, the losses, and what the command line refuses."""

import math

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from captum_ib import zoo
from captum_ib.zoo import architectures, learners, relations, scenes
from captum_ib.zoo.captions import holds
from captum_ib.zoo.train import Run, main, train

NAMES = ["clip-scenes", "vit-scenes", "vit-relations"]


@pytest.fixture
def shallow(monkeypatch):
    """Two blocks per tower instead of six or eight."""
    full = architectures.config_of

    def config_of(name):
        config = full(name)
        if name == "clip-scenes":
            config["text_config"]["num_hidden_layers"] = 2
            config["vision_config"]["num_hidden_layers"] = 2
        else:
            config["kwargs"]["depth"] = 2
        return config

    monkeypatch.setattr(architectures, "config_of", config_of)


def quiet(run, file, **options):
    return train(run, file, show_progress=False, **options)


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_ends_with_the_same_weights(name, shallow, tmp_path):
    run = Run(name, seed=3, steps=6, batch=4)
    whole = quiet(run, tmp_path / "whole.safetensors").state_dict()
    quiet(run, tmp_path / "part.safetensors", stop_after=4, save_every=3)
    torch.rand(1)  # the state of the global generator plays no part
    resumed = quiet(run, tmp_path / "part.safetensors").state_dict()
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())
    first, second = (load_file(tmp_path / f"{part}.safetensors") for part in ("whole", "part"))
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert not list(tmp_path.glob("*.part"))


def test_training_moves_every_weight_and_seeds_differ(shallow, tmp_path):
    def weights(seed, steps):
        file = tmp_path / f"{seed}-{steps}"
        return dict(quiet(Run("vit-scenes", seed, steps, batch=4), file).named_parameters())

    one, two, other = weights(0, 1), weights(0, 2), weights(1, 1)
    assert all(not torch.equal(value, two[key]) for key, value in one.items())
    assert not torch.equal(one["what.weight"], other["what.weight"])


def test_an_interrupted_write_leaves_the_old_checkpoint(shallow, tmp_path, monkeypatch):
    run, file = Run("vit-scenes", steps=3, batch=4), tmp_path / "state.safetensors"
    quiet(run, file, stop_after=1)
    before = file.read_bytes()

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("captum_ib.zoo.checkpoint.os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        quiet(run, file)
    assert file.read_bytes() == before


def test_a_checkpoint_of_another_run_is_refused(shallow, tmp_path):
    file = tmp_path / "state.safetensors"
    quiet(Run("vit-scenes", steps=3, batch=4), file, stop_after=1)
    with pytest.raises(ValueError, match=r"another run .*seed: 0 there, 1 here"):
        quiet(Run("vit-scenes", seed=1, steps=3, batch=4), file)


def test_a_file_that_is_no_checkpoint_is_refused(shallow, tmp_path):
    file = tmp_path / "state.safetensors"
    file.write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=r"state.safetensors is no checkpoint \(.*\); remove it"):
        quiet(Run("vit-scenes", steps=3, batch=4), file)


def test_a_loss_that_is_not_finite_stops_the_training(shallow, tmp_path, monkeypatch):
    monkeypatch.setattr(
        learners.VitLearner,
        "forward",
        lambda self, data: (torch.tensor(torch.nan), torch.tensor(0.0)),
    )
    with pytest.raises(RuntimeError, match="the loss is nan at step 0"):
        quiet(Run("vit-scenes", steps=3, batch=4), tmp_path / "state.safetensors")


def test_the_rate_rises_and_falls_as_a_half_cosine():
    run = Run("vit-scenes", steps=100, warmup=0.1)
    assert run.rate(9) == 1.0 and run.rate(10) == 1.0
    assert run.rate(4) == pytest.approx(0.5)
    assert run.rate(55) == pytest.approx(0.5)
    assert run.rate(99) == pytest.approx((1 + math.cos(math.pi * 89 / 90)) / 2)


def test_the_curriculum_ends_with_four_objects():
    shares = [0.0, 0.08, 0.09, 0.18, 0.2, 0.3, 0.31, 1.0]
    assert [learners.most_objects(share) for share in shares] == [1, 1, 2, 2, 3, 3, 4, 4]
    own = learners.RelationsLearner.curriculum
    assert [learners.most_objects(share, own) for share in shares] == [2, 2, 4, 7, 7, 7, 7, 7]


def test_patch_targets_against_the_boxes():
    data = scenes.labelled(40, seed=1)
    colour, shape = learners.patch_targets(data, 8)
    assert colour.shape == shape.shape == (40, 64)
    assert torch.equal(colour > 0, shape > 0)
    seen = data.masks.any(1).reshape(40, 8, 8, 8, 8).sum((2, 4)).flatten(1)
    assert not shape[seen == 0].any() and (shape[seen >= 32] > 0).all()
    only = data.present.sum(1) == 1
    for row in only.nonzero()[:, 0].tolist():
        assert set(shape[row].tolist()) <= {0, int(data.labels[row]) + 1}


def test_patch_pixels_put_together_are_the_mask():
    data = scenes.labelled(3, seed=2)
    pixels = learners.patch_pixels(data, 8)
    assert pixels.shape == (3, 64, 64)
    folded = torch.nn.functional.fold(pixels.transpose(1, 2), (64, 64), 8, stride=8)
    assert torch.equal(folded[:, 0] > 0, data.masks.any(1))


@pytest.mark.parametrize("name", NAMES[:2])
def test_positions_start_as_waves_of_which_each_is_its_own(name):
    positions = learners.LEARNERS[name]().positions()[1:].detach()
    nearest = torch.cdist(positions, positions).fill_diagonal_(torch.inf)
    assert nearest.min() > 0.5
    assert positions.square().sum(1).allclose(torch.tensor(32.0))  # sin² + cos², 32 times


def test_the_classifier_of_relations_starts_from_that_of_shapes():
    torch.manual_seed(0)
    known, fresh = zoo.load("vit-scenes").model.state_dict(), learners.RelationsLearner()
    own = fresh.model.state_dict()
    taken = {key for key in own if key in known and torch.equal(own[key], known[key])}
    assert set(own) - taken == {"head.weight", "head.bias", "pos_embed"}
    # What is added to the waves of the small grid is added to those of the large one.
    learned = torch.cat([torch.full((1, 64), 0.3), learners.waves(8) + 0.125])
    fresh._start_positions()
    fresh._take_positions(learned)
    expected = torch.cat([learned[:1], learners.waves(12) + 0.125])
    torch.testing.assert_close(fresh.positions().detach(), expected)


def test_the_loss_of_relations_against_its_formula(monkeypatch):
    torch.manual_seed(0)
    learner, data = learners.RelationsLearner().eval(), relations.labelled(5, seed=1)
    monkeypatch.setattr(learner, "patch_loss", lambda patches, data: patches.mean())
    with torch.no_grad():
        tokens = learner.model.forward_features((data.images - 0.5) / 0.25)
        scores = learner.model.head(tokens[:, 0]).log_softmax(1)
        main, auxiliary = learner(data)
        away = learner.pair(tokens[:, 0]).reshape(5, 2, 2) - 4 * (data.centres - 0.5)
    assert main.item() == pytest.approx(-scores[range(5), data.labels].mean().item(), rel=1e-5)
    expected = tokens[:, 1:].mean() + 4 * away.square().mean()
    assert auxiliary.item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_heads_need_a_forward_pass():
    with pytest.raises(RuntimeError, match="needs a forward pass of the model before"):
        learners.VitLearner().patch_loss(torch.zeros(1, 64, 64), scenes.labelled(1))


def test_a_caption_that_is_true_of_another_image_is_no_negative():
    torch.manual_seed(0)
    learner = learners.ClipLearner().eval()
    data = scenes.captioned(12, seed=0, objects=(3, 4))
    main_loss, _ = learner(data)
    ids, mask = learner.tokenizer.encode(data.captions)
    outputs = learner.model(ids, learner.pixels(data.images), attention_mask=mask)
    true = holds(data.mentions, data.colours, data.shapes)
    assert true.sum() > 12  # there is something to leave out
    total = 0.0
    for logits, allowed in ((outputs.logits_per_text, ~true), (outputs.logits_per_image, ~true.T)):
        for i in range(12):
            negatives = logits[i][allowed[i]]
            total -= (logits[i, i] - torch.logaddexp(logits[i, i], negatives.logsumexp(0))).item()
    assert main_loss.item() == pytest.approx(total / 24, rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_command_line_trains_and_writes_a_folder_that_loads(name, shallow, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = [name, "--steps", "2", "--batch", "4", "--out", str(out)]
    main(arguments)
    captured = capsys.readouterr()
    assert captured.out == f"{name}: 2 steps done, written to {out}\n"
    assert "loss=" in captured.err and "2/2" in captured.err
    model = zoo.load(name, out)
    state = load_file(out / "checkpoint.safetensors")
    weights = model.model.state_dict()
    assert all(torch.equal(value, state[f"learner.model.{key}"]) for key, value in weights.items())
    with safe_open(out / "model.safetensors", "pt") as file:
        assert file.metadata()["seed"] == "0" and file.metadata()["steps"] == "2"
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "pass --resume" in capsys.readouterr().err
    main([*arguments, "--resume"])  # nothing left to do


def test_the_command_line_can_be_interrupted(shallow, tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("captum_ib.zoo.train._step", interrupted)
    with pytest.raises(SystemExit, match="130"):
        main(["vit-scenes", "--out", str(tmp_path / "out")])
    assert f"interrupted; go on with --resume --out {tmp_path / 'out'}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["clip"], "invalid choice: 'clip'"),
        (["vit-scenes", "--steps", "0"], "steps must be at least 1"),
        (["vit-scenes", "--batch", "1"], "batch at least 2; got 3000, 1"),
        (["vit-scenes", "--lr", "0"], "lr and matrix_lr must be above 0"),
        (["vit-scenes", "--save-every", "0"], "save_every must be at least 1; got 0"),
        (["vit-scenes", "--seed", "-1", "--steps", "1"], "seed must be in 0..2**64 - 1; got -1"),
        (["vit-scenes", "--resume"], "to resume from; leave out --resume"),
    ],
)
def test_the_command_line_refuses(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([*arguments, "--out", str(tmp_path / "out")])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_unknown_model_has_no_settings():
    with pytest.raises(ValueError, match=r"unknown model 'x'; the zoo has \['clip-scenes', "):
        Run("x")
