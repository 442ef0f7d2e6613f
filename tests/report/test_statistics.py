"""Means, standard errors, ranks, counts and rates, against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from captum_ib.report import read_tables
from captum_ib.report.aggregate import Cell, paired_cell, ranks, seed_cell, whole_cell
from captum_ib.report.layout import decimals, notes
from captum_ib.report.reading import find_runs
from captum_ib.report.scores import group_runs
from tests.report.folders import Folder

NAN = float("nan")


def table_of(*folders):
    (table,) = read_tables(folders)
    return table


def lines(table):
    return {line.method.label: line for line in table.lines}


def test_error_over_seeds(tmp_path):
    """Scores i + 10·seed: seed means 3.5, 13.5, 33.5; their s is √(700/3), over √3."""
    folder = Folder(
        config={"seeds": [0, 1, 3]}, score=lambda index, method, seed, label: index + 10.0 * seed
    ).write(tmp_path)
    cell = lines(table_of(folder))["CoIBA"].cells["insertion"]
    assert cell.mean == pytest.approx((3.5 + 13.5 + 33.5) / 3, rel=1e-12)
    assert cell.error == pytest.approx(math.sqrt(700 / 3 / 3), rel=1e-12)
    assert (cell.over, cell.n) == ("seeds", 8)
    # over samples: 0 … 7 have the variance 8·9/12 = 6
    assert cell.sample_error == pytest.approx(math.sqrt(6 / 8), rel=1e-12)


def test_error_over_samples_with_one_seed(tmp_path):
    cell = lines(table_of(Folder().write(tmp_path)))["NIB"].cells["deletion"]
    assert (cell.mean, cell.over, cell.n) == (3.5, "samples", 8)
    assert cell.error == pytest.approx(math.sqrt(6 / 8), rel=1e-12)


def test_same_scores_with_every_seed_have_an_error_over_samples(tmp_path):
    def score(index, method, seed, label):
        return index + (10.0 * seed if method == "CoIBA" else 0.0)

    table = table_of(Folder(config={"seeds": [0, 1]}, score=score).write(tmp_path))
    assert lines(table)["CoIBA"].cells["insertion"].over == "seeds"
    still = lines(table)["NIB"].cells["insertion"]
    assert (still.over, still.error) == ("samples", pytest.approx(math.sqrt(6 / 8)))


def test_undefined_and_failed_samples_are_left_out_and_counted(tmp_path):
    def score(index, method, seed, label):
        return None if (method, label, index) == ("CoIBA", "insertion", 7) else float(index)

    folder = Folder(score=score, fails=[(0, "NIB"), (1, "NIB")], skipped={4: "truncated file"})
    table = table_of(folder.write(tmp_path))
    coiba, nib = lines(table)["CoIBA"], lines(table)["NIB"]
    assert (coiba.samples, coiba.failed, nib.samples, nib.failed) == (7, 0, 5, 2)
    assert coiba.cells["insertion"].n == 6
    assert coiba.cells["insertion"].mean == pytest.approx((0 + 1 + 2 + 3 + 5 + 6) / 6)
    assert nib.cells["insertion"].mean == pytest.approx((2 + 3 + 5 + 6 + 7) / 5)
    assert notes(table) == (
        "1 sample was skipped as unreadable, e.g. scene-4: truncated file.",
        "Samples on which a method failed, left out of its means: NIB 2.",
        "Samples without Insertion: CoIBA 1.",
    )


def test_rate_and_peak(tmp_path):
    """Half a second per sample; the peak is that of the last sample, 8 MB."""
    line = lines(table_of(Folder().write(tmp_path)))["CoIBA"]
    assert (line.rate, line.peak) == (2.0, 8_000_000)


def test_scale_of_the_metric_applies(tmp_path):
    """ROAD is stored as a share and shown in percent."""
    folder = Folder(config={"metrics": ["road"]}, score=lambda index, *_: index / 8)
    cell = lines(table_of(folder.write(tmp_path)))["CoIBA"].cells["road"]
    assert cell.mean == pytest.approx(100 * 3.5 / 8)
    assert cell.error == pytest.approx(100 * math.sqrt(6 / 8) / 8)


def test_scores_over_the_whole_set(tmp_path):
    """Values 1, 2, 6: mean 3, error √(7/3); equal values have no error."""
    rows = [("CoIBA", seed, "roar_plus", value) for seed, value in enumerate((1.0, 2.0, 6.0))]
    rows += [("NIB", seed, "roar_plus", -2.0) for seed in range(3)]
    config = {"seeds": [0, 1, 2], "metrics": ["insertion", "roar_plus"]}
    table = table_of(Folder(config=config, whole=rows).write(tmp_path))
    assert [metric.title for metric in table.whole] == ["ROAR+"]
    cell = lines(table)["CoIBA"].cells["roar_plus"]
    assert (cell.mean, cell.over) == (3.0, "seeds")
    assert cell.error == pytest.approx(math.sqrt(7 / 3))
    still = lines(table)["NIB"].cells["roar_plus"]
    assert still.mean == -2.0 and math.isnan(still.error)


def test_parts_of_a_metric_over_the_whole_set(tmp_path):
    """FunnyBirds: its protocols are columns, its total and threshold are none of their own."""
    names = ("roar_plus", "roar_plus:csdc", "roar_plus:background_independence")
    names += ("roar_plus:total", "roar_plus:threshold")
    rows = [("CoIBA", 0, name, 1.0) for name in names]
    config = {"metrics": ["insertion", "roar_plus"]}
    table = table_of(Folder(config=config, whole=rows).write(tmp_path))
    titles = [metric.title for metric in table.whole]
    assert titles == ["ROAR+", "CSDC", "Background independence"]


def test_paired_differences_use_the_samples_that_both_have():
    """Differences 1, 3 and an undefined one; the spread of the scores themselves is larger."""
    one = np.array([[1.0, 100.0, NAN], [3.0, 100.0, NAN]])
    best = np.array([[1.0, 97.0, 5.0]])
    cell = paired_cell(one, best)
    assert (cell.mean, cell.error, cell.n) == (2.0, 1.0, 2)
    assert paired_cell(one, np.full((1, 3), NAN)).n == 0


def test_cells_without_scores():
    empty = seed_cell(np.full((2, 3), NAN))
    assert math.isnan(empty.mean) and math.isnan(empty.error) and empty.n == 0
    assert math.isnan(whole_cell(np.array([NAN])).mean)
    single = seed_cell(np.array([[4.0]]))
    assert single.mean == 4.0 and math.isnan(single.error) and single.over == ""


def test_seed_that_failed_throughout_counts_for_nothing():
    cell = seed_cell(np.array([[1.0, 3.0], [NAN, NAN], [3.0, 5.0]]))
    assert (cell.mean, cell.error, cell.over) == (3.0, 1.0, "seeds")


@pytest.mark.parametrize(
    ("means", "up", "expected"),
    [
        ((3.0, 1.0, 2.0), True, [1, 0, 2]),
        ((3.0, 1.0, 2.0), False, [0, 1, 2]),
        ((1.001, 1.0, 0.5), True, [1, 1, 2]),  # equal as shown, with two decimals
        ((NAN, 1.0, NAN), True, [0, 1, 0]),
        ((NAN, NAN), False, [0, 0]),
        ((-0.001, 0.001), True, [1, 1]),
    ],
)
def test_ranks(means, up, expected):
    assert ranks([Cell(mean, 0.0, "", 1) for mean in means], up, 2) == expected


@pytest.mark.parametrize(
    ("top", "digits"), [(12345.0, 0), (123.4, 1), (12.3, 2), (1.0, 2), (0.5, 3), (0.001, 4), (0, 3)]
)
def test_decimals(top, digits):
    assert decimals([Cell(-top, 0.0, "", 1), Cell(NAN, NAN, "", 0)]) == digits


# ---- several runs


def test_methods_of_two_runs_share_a_table(tmp_path):
    one = Folder(config={"methods": ["coiba"]}).write(tmp_path / "a")
    two = Folder(config={"methods": ["nib"]}, score=lambda index, *_: 2.0 * index)
    table = table_of(one, two.write(tmp_path / "b"))
    found = {label: line.cells["insertion"].mean for label, line in lines(table).items()}
    assert found == {"CoIBA": 3.5, "NIB": 7.0} and notes(table) == ()


def test_seeds_of_two_runs_are_put_together(tmp_path):
    def score(index, method, seed, label):
        return float(seed)

    one = Folder(config={"seeds": [0, 4]}, score=score).write(tmp_path / "a")
    two = Folder(config={"seeds": [2]}, score=score).write(tmp_path / "b")
    cell = lines(table_of(one, two))["CoIBA"].cells["insertion"]
    assert (cell.mean, cell.over) == (2.0, "seeds")
    assert cell.error == pytest.approx(2 / math.sqrt(3))


def test_the_same_seed_twice_counts_once_and_is_told(tmp_path):
    one = Folder(config={"methods": ["coiba"]}).write(tmp_path / "a")
    two = Folder(config={"methods": ["coiba", "nib"]}, score=lambda *_: 99.0).write(tmp_path / "b")
    table = table_of(one, two)
    assert lines(table)["CoIBA"].cells["insertion"].mean == 3.5
    assert notes(table) == ("CoIBA: seed(s) [0] are in several runs; the first counts.",)


def test_only_samples_that_all_runs_have_reached(tmp_path):
    one = Folder(config={"methods": ["coiba"]}).write(tmp_path / "a")
    two = Folder(config={"methods": ["nib"]}).write(tmp_path / "b", chunks=[1])
    table = table_of(one, two)
    assert {line.cells["insertion"].mean for line in table.lines} == {5.5}  # 4, 5, 6, 7
    assert notes(table) == (
        f"Unfinished: in {two}, 1 of 2 chunks is missing.",
        "Over the 4 samples that all runs have reached (of 8).",
    )


def test_runs_without_a_common_sample(tmp_path):
    one = Folder(config={"methods": ["coiba"]}).write(tmp_path / "a", chunks=[0])
    two = Folder(config={"methods": ["nib"]}).write(tmp_path / "b", chunks=[1])
    with pytest.raises(ValueError, match="no sample has been judged in all of"):
        read_tables([one, two])


@pytest.mark.parametrize(
    "other",
    [
        {"model": "zoo:other"},
        {"data": {"kind": "scenes", "options": {"seed": 8}}},
        {"samples": 4},
        {"dtype": "bfloat16"},
    ],
)
def test_what_is_not_comparable_gets_a_table_of_its_own(tmp_path, other):
    Folder().write(tmp_path / "a")
    Folder(config=other).write(tmp_path / "b")
    assert [len(group) for group in group_runs(find_runs([tmp_path]))] == [1, 1]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (
            {"methods": [{"method": "iba", "label": "IBA", "settings": {"layer": "blocks.2"}}]},
            {"methods": [{"method": "iba", "label": "IBA", "settings": {"layer": "blocks.3"}}]},
        ),
        (
            {"metrics": [{"metric": "insertion", "settings": {"steps": 14}}]},
            {"metrics": ["insertion"]},
        ),
    ],
)
def test_one_label_for_two_things_is_refused(tmp_path, first, second):
    Folder(config=first).write(tmp_path / "a")
    Folder(config=second).write(tmp_path / "b")
    with pytest.raises(ValueError, match="means two things: .* report the runs one by one"):
        read_tables([tmp_path])


def test_different_versions_are_told(tmp_path):
    one = Folder(config={"methods": ["coiba"]}).write(tmp_path / "a")
    two = Folder(config={"methods": ["nib"]}, versions={"torch": "2.1"}).write(tmp_path / "b")
    assert notes(table_of(one, two)) == ("The runs were made with different versions of torch.",)
