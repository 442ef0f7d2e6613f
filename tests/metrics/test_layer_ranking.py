"""The ranking of layers: its criterion, its numbers, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import LayerAttribution
from torch import Tensor

from captum_ib import IBA, M2IB, NIB, CoIBA, DualEncoder
from captum_ib.metrics import InsertionMinusDeletion, LayerRanking, default_candidates, rank_layers
from tests.models.classifiers import IMAGE_CLASSIFIERS, TEXT_CLASSIFIERS
from tests.models.duals import DUAL_ENCODERS, captions
from tests.models.rows import Row, images, token_mask

BLACK = {"mean": 0.5, "std": 0.5}


def row_of(name: str, rows: tuple[Row, ...] = IMAGE_CLASSIFIERS, library: str = "timm") -> Row:
    return next(row for row in rows if row.name == name and row.library == library)


def ranking(scores: list[list[float]]) -> LayerRanking:
    names = tuple("abc"[: len(scores)])
    return LayerRanking("IBA", names, names, np.array(scores), torch.zeros(len(scores), 2, 3))


class TestRanking:
    """The numbers of a ranking, from scores given by hand."""

    def test_best_and_means_leave_out_what_has_no_score(self) -> None:
        found = ranking([[1.0, 3.0], [np.nan, 4.0], [np.nan, np.nan]])
        np.testing.assert_array_equal(found.means, [2.0, 4.0, np.nan])
        assert found.best == "b"

    def test_paired_difference_and_its_standard_error(self) -> None:
        found = ranking([[1.0, 2.0, 6.0], [0.0, 2.0, 1.0]])
        # differences 1, 0, 5: mean 2, standard deviation √7, over √3
        mean, error = found.difference("a", "b")
        assert mean == pytest.approx(2.0)
        assert error == pytest.approx((7 / 3) ** 0.5)

    def test_one_common_sample_has_no_error(self) -> None:
        mean, error = ranking([[1.0, 3.0], [np.nan, 4.0]]).difference("a", "b")
        assert mean == -1.0
        assert np.isnan(error)

    def test_an_unknown_candidate_is_refused(self) -> None:
        with pytest.raises(ValueError, match="unknown candidate 'z', expected one of"):
            ranking([[1.0, 2.0]]).difference("z", "a")

    def test_the_table(self) -> None:
        assert ranking([[1.0, 2.0, 6.0], [0.0, 2.0, 1.0]]).table("b").splitlines() == [
            "| layers | score | − b | samples won |",
            "|---|---|---|---|",
            "| a | 3.00 | +2.00 ± 1.53 | 100 % |",
            "| b | 1.00 |  | 0 % |",
        ]

    def test_the_plot_shows_means_and_standard_errors(self, tmp_path) -> None:
        figure = ranking([[1.0, 3.0], [4.0, 4.0]]).plot(tmp_path / "ranking.png", "score")
        (axes,) = figure.axes
        line, _, (bars,) = axes.containers[0].lines
        assert line.get_ydata().tolist() == [2.0, 4.0]
        low, high = bars.get_segments()[0][:, 1]
        assert (low, high) == pytest.approx((1.0, 3.0))  # √2 / √2
        assert (tmp_path / "ranking.png").stat().st_size > 0


def test_the_default_criterion_is_insertion_minus_deletion() -> None:
    row = row_of("ViT")
    model, inputs = row.model(), images(3)
    found = rank_layers(
        NIB(model),
        inputs,
        target=[1, 0, 2],
        candidates=["blocks.1", "blocks.3"],
        n_steps=3,
        **BLACK,
    )
    assert found.names == ("blocks.1", "blocks.3")
    for index, layer in enumerate(found.layers):
        attribution, delta = NIB(model, layer).attribute(
            inputs, target=[1, 0, 2], n_steps=3, return_convergence_delta=True
        )
        maps = LayerAttribution.interpolate(attribution, (32, 48), "bilinear").detach()
        torch.testing.assert_close(found.maps[index], maps)
        metric = InsertionMinusDeletion(**BLACK)
        expected = metric(model, inputs.numpy(), np.array([1, 0, 2]), maps.numpy())
        np.testing.assert_allclose(found.scores[index], expected, rtol=1e-4)
        np.testing.assert_allclose(found.deltas[index], delta.detach().numpy(), rtol=1e-4)
    assert found.agreement is not None
    assert found.agreement.ssim.shape == (2, 2)
    assert not model.training


def test_a_pair_is_judged_by_its_cosine() -> None:
    dual = DualEncoder.from_model(DUAL_ENCODERS[0].model())
    inputs = (images(2, 32, 32), captions())
    method = M2IB(dual)
    quick = {"n_steps": 2, "n_samples": 2}
    found = rank_layers(method, inputs, None, token_mask(), seed=3, **quick, **BLACK)
    assert len(found.names) == 5
    assert found.names[0] == "vision_model.encoder.layers.0, text_model.encoder.layers.0"
    maps, _ = M2IB(dual, found.layers[1]).attribute(
        inputs, additional_forward_args=token_mask(), seed=3, **quick
    )
    maps = LayerAttribution.interpolate(maps, (32, 32), "bilinear")
    expected = InsertionMinusDeletion(**BLACK)(
        dual, inputs[0].numpy(), inputs[1].numpy(), maps.numpy()
    )
    np.testing.assert_allclose(found.scores[1], expected, rtol=1e-3, atol=1e-4)


def test_candidates_of_each_method() -> None:
    plain, staged = row_of("ViT").model(), row_of("ConvNeXt").model()
    assert list(default_candidates(IBA(plain))) == [f"blocks.{i}" for i in range(4)]
    coiba = default_candidates(CoIBA(plain))
    assert list(coiba) == [f"from blocks.{i} on" for i in range(4)]
    assert [len(layers) for layers in coiba.values()] == [4, 3, 2, 1]
    assert coiba["from blocks.3 on"] == [plain.blocks[3].norm1]
    stages = default_candidates(CoIBA(staged))
    assert [len(layers) for layers in stages.values()] == [5, 4, 3, 1]


def test_texts_need_a_criterion_of_their_own() -> None:
    row = TEXT_CLASSIFIERS[0]
    model, mask = row.model(), row.additional()
    with pytest.raises(ValueError, match="are no images .*pass score="):
        rank_layers(NIB(model), row.inputs(), 1, mask)

    def last_token(maps: Tensor) -> Tensor:
        return maps[:, 3]

    found = rank_layers(NIB(model), row.inputs(), 1, mask, score=last_token, n_steps=2)
    assert found.scores.shape == (4, 2)
    assert found.agreement is None
    np.testing.assert_allclose(found.scores, found.maps[:, :, 3])


def test_what_is_refused() -> None:
    model = row_of("ViT").model()
    with pytest.raises(ValueError, match="given no candidates"):
        rank_layers(NIB(model), images(), candidates=[])
    with pytest.raises(ValueError, match=r"one number per sample, \(2,\), given \(\) for blocks.1"):
        rank_layers(
            NIB(model), images(), candidates=["blocks.1"], score=lambda maps: 1.0, n_steps=2
        )
    function = NIB(lambda pixels: model(pixels), model.blocks[1])
    with pytest.raises(ValueError, match="no blocks to choose from; pass candidates="):
        rank_layers(function, images())
