"""Markdown, CSV, LaTeX and plain text; the files of a report; the command."""

from __future__ import annotations

import csv
import importlib.util
import io
import re
import sys

import pytest

from captum_ib.cli import main
from captum_ib.report import make_report, read_tables, tables
from tests.report.folders import Folder

CLIP = {
    "model": "zoo:clip-scenes",
    "title": "clip-scenes",
    "methods": ["m2ib", "nib"],
    "metrics": ["drop_image", "drop_text"],
}


def score(index, method, seed, label):
    """CoIBA inserts best, NIB deletes best; only CoIBA's scores depend on the seed."""
    base = {"insertion": 50.0, "deletion": 20.0}[label]
    return base + index + (2.0 + seed if method == "CoIBA" else 0.0)


@pytest.fixture
def found(tmp_path):
    folder = Folder(config={"seeds": [0, 1, 2]}, score=score)
    return read_tables([folder.write(tmp_path / "run")])


def test_markdown(found):
    """53.5 + 3 ± 1/√3 against 53.5 ± √(6/8), marked as an error over samples."""
    lines = tables.markdown(found).splitlines()
    assert lines[0] == "## vit-scenes"
    assert lines[2] == (
        "**Table 1.** vit-scenes: zoo:vit-scenes on scenes (seed 7), 8 samples, float32. Mean ± "
        "standard error over 3 seeds of the means over samples. †: the same scores with every "
        "seed; ± over samples. Best bold, second underlined. n: samples with a map. Time and peak "
        "memory of the maps alone, on cpu."
    )
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[4:]]
    assert rows[0] == ["Method", "n", "Insertion ↑", "Deletion ↓", "samples/s ↑", "peak MB ↓"]
    assert rows[2] == ["CoIBA", "8", "**56.50** ± 0.58", "<ins>26.50</ins> ± 0.58", "2", "8.0"]
    assert rows[3] == ["NIB", "8", "<ins>53.50</ins> ± 0.87†", "**23.50** ± 0.87†", "2", "8.0"]
    assert len({len(line) for line in lines[4:8]}) == 1  # the source is aligned too


def test_one_seed_says_so(tmp_path):
    text = tables.markdown(read_tables([Folder().write(tmp_path)]))
    assert "Mean ± standard error over samples (one seed, 0)." in text and "†" not in text


def test_paired_table(found):
    """CoIBA is 2 + seed above NIB on every sample: 3 ± 0."""
    assert "Paired" not in tables.text(found)
    block = tables.text(found, paired=True).split("\n\n")[-1]
    assert [re.split(r"\s{2,}", line) for line in block.splitlines()] == [
        ["method", "Insertion ↑", "Deletion ↓"],
        ["CoIBA", "best*", "+3.00 ± 0.00"],
        ["NIB", "−3.00 ± 0.00", "best*"],
    ]


def test_csv_holds_every_number_unrounded(found):
    rows = list(csv.DictReader(io.StringIO(tables.comma_separated(found))))
    first = {key: rows[0][key] for key in ("method", "metric", "direction", "error_over", "n")}
    assert first == {
        "method": "CoIBA", "metric": "insertion", "direction": "up",
        "error_over": "seeds", "n": "8",
    }  # fmt: skip
    assert float(rows[0]["mean"]) == 56.5
    assert float(rows[0]["standard_error"]) == pytest.approx(3**-0.5, rel=1e-12)
    assert float(rows[0]["standard_error_over_samples"]) == pytest.approx(0.75**0.5, rel=1e-12)
    assert [row["metric"] for row in rows[:4]] == [
        "insertion", "deletion", "samples_per_second", "peak_bytes",
    ]  # fmt: skip
    assert rows[2]["mean"] == "2.0" and rows[3]["mean"] == "8000000"


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("=cmd|' /C calc'!A1", "'=cmd|' /C calc'!A1"), ("+1+1", "'+1+1"), ("-1+1", "'-1+1"),
        ("@SUM(A1)", "'@SUM(A1)"), ("\t=1+1", "'\t=1+1"), ("\r=1+1", "'\r=1+1"),
        ("\n=1+1", "'\n=1+1"), ("a=1", "a=1"), ("−1", "−1"), ("", ""), (-1.5, -1.5), (-3, -3),
    ],
)  # fmt: skip
def test_text_that_a_spreadsheet_would_compute(given, written):
    assert tables.escape_csv(given) == written


def test_csv_holds_no_formula(tmp_path):
    """An apostrophe makes text of it in any spreadsheet; numbers below 0 stay numbers."""
    config = {"methods": [{"method": "nib", "label": "=1+1"}, "coiba"], "title": "-2 - 2"}
    folder = Folder(config=config, score=lambda index, *_: -2.5)
    found = tables.comma_separated(read_tables([folder.write(tmp_path)]))
    rows = list(csv.DictReader(io.StringIO(found)))
    assert [row["method"] for row in rows[::4]] == ["'=1+1", "CoIBA"]
    assert {row["title"] for row in rows} == {"'-2 - 2"}
    assert rows[0]["mean"] == "-2.5" and rows[0]["standard_error"] == "0.0"


def test_latex(found):
    text = tables.latex(found)
    assert r"CoIBA & 8 & \textbf{56.50} {\scriptsize $\pm$ 0.58} & \underline{26.50}" in text
    assert r"$\pm$ 0.87}$\dagger$ & 2 & 8.0 \\" in text
    assert r"Insertion $\uparrow$ & Deletion $\downarrow$" in text
    assert r"\label{tab:vit-scenes-1}" in text
    for opening, closing in (("{", "}"), (r"\begin{table*}", r"\end{table*}")):
        bare = text.replace(r"\{", "").replace(r"\}", "")
        assert bare.count(opening) == bare.count(closing) > 0
    # every row has as many cells as the head
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {row.count("&") for row in rows} == {5}


def test_latex_groups_what_the_metrics_judge(tmp_path):
    text = tables.latex(read_tables([Folder(config=CLIP).write(tmp_path)]))
    assert r"\multicolumn{1}{c}{Image} & \multicolumn{1}{c}{Text}" in text
    assert r"\cmidrule(lr){3-3} \cmidrule(lr){4-4}" in text


def test_wide_latex_is_scaled_to_the_text(tmp_path):
    metrics = ["insertion", "deletion", "insdel", "road", "sparseness", "iou"]
    folder = Folder(config={"metrics": metrics})
    text = tables.latex(read_tables([folder.write(tmp_path)]))
    assert r"\resizebox{\textwidth}{!}{%" in text and r"\end{tabular}}" in text


HOSTILE = r"50%_of $x$ & {#1} \ ~^ <b> | `c` *d* [e]"


def test_labels_are_escaped(tmp_path):
    config = {"methods": [{"method": "nib", "label": HOSTILE}], "title": "a_b & c"}
    found = read_tables([Folder(config=config).write(tmp_path)])
    latex = tables.latex(found)
    assert (
        r"50\%\_of \$x\$ \& \{\#1\} \textbackslash{} \textasciitilde{}\textasciicircum{} "
        r"\textless{}b\textgreater{} \textbar{} `c` *d* [e] & 8" in latex
    )
    assert r"\caption{a\_b \& c: " in latex and r"\label{tab:a-b-c-1}" in latex
    line = next(line for line in tables.markdown(found).splitlines() if "50%" in line)
    assert r"50%\_of $x$ &amp; {#1} \\ \~^ &lt;b&gt; \| \`c\` \*d\* \[e\]" in line
    rows = list(csv.DictReader(io.StringIO(tables.comma_separated(found))))
    assert rows[0]["method"] == HOSTILE and rows[0]["title"] == "a_b & c"


def test_missing_score_is_a_dash(tmp_path):
    def some(index, method, seed, label):
        return None if (method, label) == ("NIB", "deletion") else 1.0

    table = tables.text(read_tables([Folder(score=some).write(tmp_path)]))
    row = next(line for line in table.splitlines() if line.startswith("NIB"))
    assert re.split(r"\s{2,}", row)[3] == "–"


def test_two_models_make_two_tables_and_two_galleries(tmp_path):
    Folder(config={"samples": 12}).write(tmp_path / "runs" / "vit")
    Folder(config=CLIP, whole=[("M2IB", 0, "roar_plus", 1.0)]).write(tmp_path / "runs" / "clip")
    out = tmp_path / "out"
    text, files = make_report([tmp_path / "runs"], out)
    assert {file.name for file in files} == {
        "table.md", "table.csv", "table.tex",
        *(f"clip-scenes-{name}" for name in ("agreement.png", "gallery.html", "throughput.png")),
        *(
            f"vit-scenes-{name}"
            for name in (
                "agreement.png", "curves-deletion.png", "curves-insertion.png", "difficulty.png",
                "gallery.html", "throughput.png",
            )
        ),
    }  # fmt: skip
    assert all(file.parent == out and file.stat().st_size > 0 for file in files)
    assert "**Table 3.** vit-scenes" in (out / "table.md").read_text()  # two of clip's come first
    assert text.startswith("clip-scenes: zoo:clip-scenes on scenes (seed 7), 8 samples")


def test_runs_of_one_title_keep_their_files_apart(tmp_path):
    Folder().write(tmp_path / "a")
    Folder(config={"dtype": "bfloat16"}).write(tmp_path / "b")
    _, files = make_report([tmp_path], tmp_path / "out", plots=False, formats=[])
    assert [file.name for file in files] == [
        "vit-scenes-1-gallery.html", "vit-scenes-2-gallery.html",
    ]  # fmt: skip


def test_command(tmp_path, capsys):
    run = Folder().write(tmp_path / "run")
    out = tmp_path / "out"
    arguments = ["--out", str(out), "--no-gallery", "--paired", "--format", "md", "csv"]
    assert main(["report", str(run), *arguments]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    names = sorted(file.name for file in out.iterdir())
    assert names == [
        "agreement.png", "curves-deletion.png", "curves-insertion.png", "table.csv", "table.md",
        "throughput.png",
    ]  # fmt: skip
    assert printed.out.splitlines()[-6:] == [str(out / name) for name in names]
    assert "mean difference to the best" in printed.out
    assert "Paired" not in printed.out and "**Table 2.**" in (out / "table.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no folder nowhere"),
        (["RUN", "--format", "pdf"], "format 'pdf' is not one of md, csv, latex"),
        (["RUN", "--gallery", "0"], "Invalid value for '--gallery'"),
        ([], "Missing argument"),
        (["EMPTY"], "holds no run"),
    ],
)
def test_mistakes_get_one_line(tmp_path, capsys, arguments, message):
    (tmp_path / "empty").mkdir()
    places = {"RUN": str(Folder().write(tmp_path / "run")), "EMPTY": str(tmp_path / "empty")}
    arguments = [places.get(argument, argument) for argument in arguments]
    assert main(["report", *arguments, "--out", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and len(printed.err.splitlines()) == 1
    assert printed.err.startswith("captum-ib: error: ") and message in printed.err
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_when_something_fails(tmp_path):
    folder = Folder().write(tmp_path / "run")
    # the maps can't be read, which shows only when the figures are made
    damaged = bytearray((folder / "results.parquet").read_bytes())
    from captum_ib.benchmark.arrow import pq

    about = pq.read_metadata(folder / "results.parquet")
    column = about.row_group(0).column(about.schema.to_arrow_schema().names.index("map"))
    start = column.dictionary_page_offset or column.data_page_offset
    damaged[start + column.total_compressed_size - 1] ^= 0xFF
    (folder / "results.parquet").write_bytes(bytes(damaged))
    with pytest.raises(ValueError, match=r"results\.parquet can't be read"):
        make_report([folder], tmp_path / "out")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["run"]


@pytest.mark.parametrize("package", ["jinja2", "pandas", "pyarrow", "tabulate"])
def test_a_package_that_is_missing_is_named_with_the_mend(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)  # as where it is not installed
    spec = importlib.util.find_spec("captum_ib.report.libraries")
    mend = rf"the report needs the package {package}: pip install 'captum_ib\[benchmark\]'"
    with pytest.raises(ImportError, match=mend):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
