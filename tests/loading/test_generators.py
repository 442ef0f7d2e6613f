"""Vision-language models from folders: processor, template, weights, and one call to explain."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import captum_ib
from captum_ib.cli import main
from captum_ib.explaining.question import make_subject
from captum_ib.explaining.running import explain_subject
from captum_ib.loading import load
from captum_ib.methods import get
from captum_ib.models import AnswerLogProbability
from captum_ib.models.picture_tokens import over_picture
from tests.loading.generator_folders import KINDS, processor, write

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:transformers")
QUESTION = "what colour is the circle ?"
FEW = {"steps": 3, "samples": 2}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder per family, written when it is first asked for."""
    home, made = tmp_path_factory.mktemp("generators"), {}

    def folder(name: str) -> Path:
        if name == "SmolVLM":
            pytest.importorskip("num2words")
        if name not in made:
            made[name] = write(name, home / name.replace(" ", "_"))
        return made[name]

    return folder


@pytest.fixture(scope="module")
def picture():
    return Image.radial_gradient("L").resize((60, 40)).convert("RGB")


def changed(folder: Path, target: Path, file: str, **entries: object) -> Path:
    """A copy with other entries in a file; ``None`` takes one out."""
    shutil.copytree(folder, target)
    values = {**json.loads((target / file).read_text()), **entries}
    values = {key: value for key, value in values.items() if value is not None}
    (target / file).write_text(json.dumps(values))
    return target


@pytest.mark.parametrize("name", KINDS)
def test_the_inputs_are_those_of_the_models_own_processor(folders, picture, name):
    loaded = load(f"hf:{folders(name)}")
    assert loaded.kind == "generator" and loaded.left_out == ()
    asked, own = loaded.ask(picture, QUESTION), processor(name)
    text = own.image_token + QUESTION
    if own.chat_template is not None:
        content = [{"type": "image"}, {"type": "text", "text": QUESTION}]
        turns = [{"role": "user", "content": content}]
        text = own.apply_chat_template(turns, add_generation_prompt=True)
    expected = own(text=text, images=picture, return_tensors="pt")
    assert torch.equal(asked.prompt_ids, expected["input_ids"][0])
    torch.testing.assert_close(
        asked.pixel_values.flatten(), expected["pixel_values"].flatten(), rtol=0, atol=0
    )
    for key, value in asked.extra.items():
        assert torch.equal(value, expected[key])


@pytest.mark.parametrize("name", KINDS)
def test_its_own_answer_is_the_likeliest_token_each_time(folders, picture, name):
    loaded = load(f"hf:{folders(name)}")
    asked = loaded.ask(picture, QUESTION)
    answer = loaded.ask.generate(asked, 3)
    words = range(39)  # the last stands for a picture
    for place in range(len(answer)):
        with torch.no_grad():
            said = [
                AnswerLogProbability(
                    loaded.model,
                    asked.prompt_ids,
                    torch.cat([answer[:place], torch.tensor([word])]),
                    asked.extra,
                    [place],
                )(asked.pixel_values)
                for word in words
            ]
        assert words[int(torch.stack(said).argmax())] == int(answer[place])


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("method", ["iba", "coiba", "nib", "layergradcam"])
def test_one_call_explains_it(folders, picture, name, method):
    settings = FEW if method in ("iba", "coiba") else {"steps": 2} if method == "nib" else {}
    found = captum_ib.explain(
        f"hf:{folders(name)}", (picture, QUESTION, "red circle"), method=method, **settings
    )
    image, question, answer = found.maps
    assert image.ndim == 4 and image.std() > 0
    assert question.shape == (len(found.tokens[0]),)
    assert found.tokens[1] == ("red", "circle") and answer.shape == (2,)
    with torch.no_grad():
        loaded = load(f"hf:{folders(name)}")
        asked = loaded.ask(picture, QUESTION)
        ids = torch.tensor([9, 8])
        model = AnswerLogProbability(loaded.model, asked.prompt_ids, ids, asked.extra)
        expected = float(model(asked.pixel_values).exp())
    assert found.prediction.probability == pytest.approx(expected, rel=1e-4)
    if found.unit == "bits":
        assert set(found.bits_per_part) == {"image", "question", "answer"}
        assert found.bits == pytest.approx(sum(float(one.sum()) for one in found.maps), rel=1e-5)


def test_each_token_of_an_answer(folders, picture):
    given = (f"hf:{folders('LLaVA')}", (picture, QUESTION, "red circle"))
    found = captum_ib.explain(*given, samples=2)
    first, second = found.per_token()
    assert float(first.maps[2].max()) < 0.1  # it reads nothing of the answer
    assert float(second.maps[2][1]) < 0.1
    both = first.prediction.probability * second.prediction.probability
    assert both == pytest.approx(found.prediction.probability, rel=1e-4)
    assert first.record()["answer"] == "[red] circle"
    found = captum_ib.explain(*given, method="nib", steps=4)
    for whole, *each in zip(found.maps, *(one.maps for one in found.per_token()), strict=True):
        torch.testing.assert_close(sum(each), whole, rtol=1e-3, atol=1e-5)
    with pytest.raises(TypeError, match="only what a model answers has a map for each token"):
        captum_ib.explain("vit-scenes", picture, method="nib").per_token()


@pytest.mark.parametrize("name", ["LLaVA", "Idefics3"])
def test_a_certificate_of_an_answer(folders, picture, name):
    """Cut at more bits than there are, nothing is left; at next to none, all of it."""
    found = captum_ib.explain(f"hf:{folders(name)}", (picture, QUESTION, "red"), **FEW)
    kept, lost = found.certify(1e-9, n_draws=4), found.certify(1e9, n_draws=4)
    assert float(kept.replaced) == 0 and float(lost.replaced) == 1
    assert float(kept.change) == pytest.approx(0, abs=1e-4) and float(lost.change) > 1e-3


def test_pieces_of_a_picture_keep_their_sums():
    generator = torch.Generator().manual_seed(0)
    tiles = [torch.rand(2, 1, 2, 3, generator=generator) for _ in range(6)]
    small = torch.rand(2, 1, 3, 5, generator=generator)
    found = over_picture([*tiles, small], (2, 3))
    assert found.shape == (2, 1, 4, 9)
    assert found.sum() == pytest.approx(float(sum(map(torch.sum, tiles)) + small.sum()), rel=1e-5)
    without = over_picture([*tiles, torch.zeros_like(small)], (2, 3))
    torch.testing.assert_close(without[:, :, 2:, 3:6], tiles[4])
    corner = over_picture([*map(torch.zeros_like, tiles), small], (2, 3))[:, 0, 0, 0]
    torch.testing.assert_close(corner, small[:, 0, 0, 0] * (3 / 4) * (5 / 9))
    assert over_picture([small, torch.rand(2, 15)]) is None


@pytest.mark.parametrize("name", ["InternVL", "Idefics3"])
def test_tiles_lie_where_they_were_cut(folders, name):
    """Put together as their maps are, the tiles' own pixels are the picture's."""
    x, y = np.meshgrid(np.linspace(0, 1, 90), np.linspace(0, 1, 30))
    ramps = np.stack([x, y, 1 - x * y], axis=2)
    picture = Image.fromarray((255 * ramps).astype(np.uint8))
    asked = load(f"hf:{folders(name)}").ask(picture, QUESTION)
    rows, columns = asked.tiles
    assert rows * columns > 1 and rows != columns
    pixels = asked.pixel_values[0, : rows * columns].mean(dim=1, keepdim=True)[:, None]
    found = over_picture(list(pixels), asked.tiles)
    wanted = torch.tensor(ramps).permute(2, 0, 1).mean(dim=0)[None, None].float()
    wanted = torch.nn.functional.interpolate(wanted, found.shape[2:], mode="bilinear")
    both = torch.stack([found.flatten(), wanted.flatten()])
    assert float(torch.corrcoef(both)[0, 1]) > 0.99


def test_pieces_of_unknown_place_are_not_added_up(folders, picture):
    """Tiles each show a part of the picture: without their rows and columns there is no map."""
    loaded = load(f"hf:{folders('InternVL')}")
    subject = make_subject(loaded, picture, QUESTION, torch.device("cpu"), torch.float32, "red")
    lost = replace(subject, answering=replace(subject.answering, tiles=None))
    with pytest.raises(ValueError, match="where the picture's tokens lie .* can't be told"):
        explain_subject(lost, get("nib"), (), {"n_steps": 2})


def test_shell(folders, picture, tmp_path, capsys):
    picture.save(tmp_path / "circle.png")
    given = ["explain", "--model", f"hf:{folders('Idefics3')}", "--out", str(tmp_path / "out")]
    given += ["--image", str(tmp_path / "circle.png"), "--steps", "2", "--samples", "2"]
    assert main([*given, "--question", QUESTION, "--answer", "red"]) == 0
    said = capsys.readouterr().out
    assert f"“{QUESTION}” → “red”, probability" in said and "with a grey picture" in said
    record = json.loads((tmp_path / "out/circle-iba.json").read_text())
    assert (record["question"], record["answer"], record["generated"]) == (QUESTION, "red", False)
    arrays = np.load(tmp_path / "out/circle-iba.npz")
    assert arrays["image_attribution"].shape == (1, 1, 4, 4)
    assert list(arrays["answer_tokens"]) == ["red"]
    assert main([*given, "--question", QUESTION]) == 0
    assert "(its own answer)" in capsys.readouterr().out
    assert main([*given, "--question", QUESTION, "--answer", "red circle", "--per-token"]) == 0
    said = capsys.readouterr()
    assert f"“{QUESTION}” → “red [circle]”, probability" in said.out and "[3/3]" in said.err
    assert (tmp_path / "out/circle-token-2-iba.png").exists()
    assert main([*given, "--text", "red"]) == 2
    assert "pass --image and --question, maybe --answer" in capsys.readouterr().err
    classifier = ["vit-scenes" if "hf:" in one else one for one in given]
    assert main([*classifier, "--question", QUESTION]) == 2
    assert "answers nothing: pass no --question" in capsys.readouterr().err
    assert main([*classifier, "--per-token"]) == 2
    assert "answers nothing: pass no --per-token" in capsys.readouterr().err
    assert main(["layers", "--model", f"hf:{folders('Idefics3')}"]) == 0
    assert "iba, auto: model.model.text_model.layers.1" in capsys.readouterr().out
    bench = [
        "benchmark",
        "--model",
        f"hf:{folders('Idefics3')}",
        "--method",
        "iba",
        "--samples",
        "2",
    ]
    assert main([*bench, "--out", str(tmp_path / "b")]) == 2
    assert "answers questions; the benchmark is for" in capsys.readouterr().err


def test_what_a_person_may_get_wrong(folders, picture):
    model = load(f"hf:{folders('LLaVA')}")
    wrong = [
        ("a text", TypeError, "takes .picture, question. or .picture, question, answer."),
        ((picture,), TypeError, "given a tuple of 1"),
        ((picture, 3), TypeError, "given a int as a text"),
        ((picture, " "), ValueError, "a text is empty"),
        ((torch.rand(3, 32, 32), QUESTION), TypeError, "cuts its pictures itself"),
        (("none.png", QUESTION), FileNotFoundError, "does not exist"),
        ((picture, QUESTION, "<image>"), ValueError, "holds a picture's placeholder"),
    ]
    for what, kind, message in wrong:
        with pytest.raises(kind, match=message):
            model.explain(what)
    with pytest.raises(ValueError, match="has no classes: pass"):
        model.explain((picture, QUESTION), target=3)
    with pytest.raises(ValueError, match="rise can't explain a model that answers .* use: iba"):
        model.explain((picture, QUESTION), method="rise")


def test_folders_that_are_refused(folders, tmp_path):
    plain = folders("LLaVA")
    silent = shutil.copytree(plain, tmp_path / "silent")
    (silent / "chat_template.jinja").unlink()
    with pytest.raises(ValueError, match="does not say how a question is put"):
        load(f"hf:{silent}")
    long = shutil.copytree(plain, tmp_path / "long")
    (long / "chat_template.jinja").write_text("x" * 100_001)
    with pytest.raises(ValueError, match="a text of at most 100000 letters"):
        load(f"hf:{long}")
    config = json.loads((plain / "config.json").read_text())
    inner = {**config["text_config"], "model_type": "mamba"}
    other = changed(plain, tmp_path / "other", "config.json", text_config=inner)
    with pytest.raises(ValueError, match="text_config can't be of the family 'mamba'; language"):
        load(f"hf:{other}")
    wide = {**config["vision_config"], "hidden_size": 32}
    misfit = changed(plain, tmp_path / "misfit", "config.json", vision_config=wide)
    with pytest.raises(ValueError, match="does not fit"):
        load(f"hf:{misfit}")
    wild = changed(plain, tmp_path / "wild", "processor_config.json", patch_size=10**9)
    with pytest.raises(ValueError, match="patch_size can't be"):
        load(f"hf:{wild}")


def test_a_template_calls_nothing(folders, picture, tmp_path):
    home = shutil.copytree(folders("LLaVA"), tmp_path / "hostile")
    (home / "chat_template.jinja").write_text(
        "{{ ''.__class__.__mro__[1].__subclasses__() }}<image>"
    )
    with pytest.raises(Exception, match="unsafe|not safe"):
        load(f"hf:{home}").ask(picture, QUESTION)


@pytest.mark.parametrize("place", ["chat_template.json", "tokenizer_config.json"])
def test_a_template_in_another_file(folders, picture, tmp_path, place):
    home = shutil.copytree(folders("LLaVA"), tmp_path / "moved")
    template = (home / "chat_template.jinja").read_text()
    (home / "chat_template.jinja").unlink()
    held = json.loads((home / place).read_text()) if (home / place).exists() else {}
    (home / place).write_text(json.dumps({**held, "chat_template": template}))
    own = load(f"hf:{folders('LLaVA')}").ask(picture, QUESTION)
    assert torch.equal(load(f"hf:{home}").ask(picture, QUESTION).prompt_ids, own.prompt_ids)


def test_qwens_older_folders_say_all_on_one_level(folders, picture, tmp_path):
    plain = folders("Qwen2-VL")
    config = json.loads((plain / "config.json").read_text())
    text = config.pop("text_config")
    home = changed(plain, tmp_path / "flat", "config.json", text_config=None, **{**text, **config})
    own, flat = (load(f"hf:{one}").ask(picture, QUESTION) for one in (plain, home))
    assert torch.equal(own.prompt_ids, flat.prompt_ids)


def test_a_grey_picture_tells_what_the_language_alone_says(folders, picture):
    found = captum_ib.explain(f"hf:{folders('LLaVA')}", (picture, QUESTION, "red"), **FEW)
    record, loaded = found.record(), load(f"hf:{folders('LLaVA')}")
    asked = loaded.ask(picture, QUESTION)
    model = AnswerLogProbability(loaded.model, asked.prompt_ids, torch.tensor([9]))
    with torch.no_grad():
        alone = float(model(torch.zeros(1, 3, 32, 32)).exp())
    assert record["probability_with_grey_picture"] == pytest.approx(alone, rel=1e-3)
    assert abs(record["probability"] - record["probability_with_grey_picture"]) > 1e-3
