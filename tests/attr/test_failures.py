"""A model that fails on what it was given: the error says what that was, and the mend."""

import copy

import pytest
import torch
from torch import nn

from captum_ib.attr import IBA, NIB, CoIBA
from tests.attr.cases import METHODS, SUBJECTS, Case
from tests.test_fuzz import bert


def vit(x, **options):
    subject = SUBJECTS["vit"]()
    return IBA(copy.deepcopy(subject.model), "blocks.1").attribute(
        x, target=1, n_steps=2, **options
    )


def text(ids):
    subject = bert()
    return IBA(subject.model, subject.layers[0]).attribute(ids, target=1, n_steps=2)


PICTURES = torch.rand(3, 3, 16, 16)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (
            torch.rand(3, 3, 17, 16),
            ValueError,
            r"^forward_func failed on \(float32 \(3, 3, 17, 16\) on cpu\): AssertionError: .*17.*"
            "takes pictures of 16 × 16, given 17 × 16: resize them",
        ),
        (
            PICTURES.double(),
            RuntimeError,
            r"float64 .*parameters are float32: .*\.to\(torch\.float32",
        ),
        ((PICTURES * 255).byte(), RuntimeError, r"uint8 .*pass pictures as inputs\.float\(\)"),
        (PICTURES > 0.5, RuntimeError, r"failed on \(bool .* pass pictures as inputs\.float\(\)"),
        (PICTURES.to("meta"), TypeError, "inputs is on the meta device and holds no values"),
        (PICTURES.to_sparse(), TypeError, r"inputs is a sparse_coo tensor.*pass \.to_dense\(\)"),
        (PICTURES.to(torch.complex64), TypeError, r"inputs is complex \(torch\.complex64\)"),
    ],
)
def test_pictures_that_the_model_can_t_take(x, error, message):
    with pytest.raises(error, match=message):
        vit(x)


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        (
            torch.tensor([[3, 30]]),
            ValueError,
            r"from 3 to 30 in a text of 2, .* 2, 12, 30 rows",
        ),
        (torch.tensor([[-1, 3]]), ValueError, r"token ids run from -1 to 3 in a text of 2"),
        (
            torch.ones(1, 13, dtype=torch.long),
            (ValueError, RuntimeError),
            r"int64 \(1, 13\) on cpu",
        ),
        (torch.ones(1, 5), RuntimeError, r"failed on \(float32 \(1, 5\) on cpu"),
    ],
)
def test_token_ids_that_the_model_can_t_take(ids, error, message):
    with pytest.raises(error, match=message):
        text(ids)


class Failing(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.layer, self.error = nn.Linear(3, 2), error

    def forward(self, x):
        self.layer(x)
        raise self.error


class OwnError(RuntimeError):
    """An error of the user's own."""


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (RuntimeError("broken"), RuntimeError),
        (TypeError("broken"), TypeError),
        (AssertionError("broken"), ValueError),
        (KeyError("broken"), ValueError),
        (NotImplementedError("broken"), ValueError),
    ],
)
def test_an_error_of_the_model_is_the_cause(raised, kind):
    model = Failing(raised)
    with pytest.raises(kind, match=r"failed on \(float32 \(2, 3\) on cpu\): .*broken") as caught:
        NIB(model, "layer").attribute(torch.rand(2, 3), target=0)
    assert caught.value.__cause__ is raised
    assert type(caught.value) is kind
    assert not model.layer._forward_hooks


@pytest.mark.parametrize("raised", [OwnError("broken"), OSError("broken"), KeyboardInterrupt()])
def test_an_error_of_the_user_s_own_passes_as_it_is(raised):
    with pytest.raises(type(raised)) as caught:
        NIB(Failing(raised), "layer").attribute(torch.rand(2, 3), target=0)
    assert caught.value is raised


def test_an_error_of_ours_passes_as_it_is():
    with pytest.raises(RuntimeError, match="^layer 0 runs more than once"):
        twice = nn.Sequential(nn.Linear(3, 3))
        twice.append(twice[0])
        NIB(twice, "0").attribute(torch.rand(2, 3), target=0)


def test_a_function_says_what_it_failed_on():
    model = Failing(RuntimeError("broken"))
    with pytest.raises(RuntimeError, match=r"on \(float32 \(2, 3\) on cpu\).*must run on these"):
        NIB(lambda x: model(x), model.layer).attribute(torch.rand(2, 3), target=0)


def test_a_pair_says_which_call_failed():
    case = Case(METHODS["M2IB"], SUBJECTS["clip"]())
    pixels, ids = case.subject.inputs
    with pytest.raises(ValueError, match=r"\(int64 \(3, 5\) on cpu.*ids run from 2 to 99"):
        case.attribute(
            case.build(), (pixels, ids.clamp(min=2).index_fill(1, torch.tensor([1]), 99))
        )


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"beta": "1"}, TypeError, "beta must be a number, given str"),
        ({"beta": None}, TypeError, "beta must be a number, given NoneType"),
        ({"lr": None}, TypeError, "lr must be a number, given NoneType"),
        ({"min_std": "s"}, TypeError, "min_std must be a number, given str"),
        (
            {"seed": 2**70},
            ValueError,
            r"seed must lie within .* given 11805916",
        ),
        ({"target": []}, TypeError, r"target must be a list of ints, .* given \[\]"),
        ({"target": [None]}, TypeError, r"target must be a list of ints, .* given \[None\]"),
        ({"target": [(0,), (1, 1), 2]}, TypeError, "tuples of as many ints each"),
    ],
)
def test_values_of_a_wrong_kind_are_named(options, error, message):
    model = copy.deepcopy(SUBJECTS["vit"]().model)
    coiba = CoIBA(model, ["blocks.1.norm1", "blocks.2.norm1"])
    with pytest.raises(error, match=message):
        coiba.attribute(PICTURES, **{"target": 1, "n_steps": 2, "seed": 0, **options})


def test_power_is_a_number():
    nib = NIB(SUBJECTS["linear"]().model, "linear0")
    with pytest.raises(TypeError, match="power must be a number, given str"):
        nib.attribute(torch.rand(2, 3), target=0, power="2")


@pytest.mark.parametrize("method", ["M2IB", "NIB-pair", "CAM2IB"])
def test_a_mask_has_a_row_for_each_pair(method):
    case = Case(METHODS[method], SUBJECTS["clip"]())
    with pytest.raises(ValueError, match=r"mask of shape \(2, 5\) .* does not fit 3 pairs"):
        case.attribute(case.build(), additional_forward_args=torch.ones(2, 5))
