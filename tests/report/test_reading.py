"""Run folders: finished, under way, broken, empty, and read without filling the memory."""

from __future__ import annotations

import json
import shutil

import pytest

from captum_ib.benchmark.arrow import pa, pq
from captum_ib.report import read_tables, reading, summary
from captum_ib.report.layout import notes
from captum_ib.report.reading import find_runs, open_run
from tests.report.folders import Folder


def only_table(*paths):
    (table,) = read_tables(paths)
    return table


def test_a_run_describes_itself(tmp_path):
    run = open_run(Folder().write(tmp_path))
    assert (run.config["title"], run.finished, run.missing, run.chunks) == (
        "vit-scenes", True, 0, 2,
    )  # fmt: skip
    assert list(run.methods) == ["CoIBA", "NIB"] and list(run.metrics) == ["insertion", "deletion"]
    assert run.methods["NIB"].signed and run.methods["CoIBA"].unit == "bits"
    assert run.metrics["insertion"].arrow == "↑" and run.metrics["deletion"].arrow == "↓"


@pytest.mark.parametrize(
    "changes",
    [
        {"metrics": [1]},
        {"metrics": {"insertion": 5}},
        {"metrics": {"insertion": {"scale": "x"}}},
        {"metrics": {"insertion": {"title": 5}}},
        {"metrics": {"insertion": {"title": "\x1b[2J"}}},
        {"metrics": {"a\nb": {}}},
        {"methods": {"NIB": {"signed": "no"}}},
        {"methods": {"NIB": {"unit": ["bits"]}}},
        {"methods": [5]},
    ],
    ids=str,
)
def test_a_header_that_describes_what_no_run_does(tmp_path, changes):
    folder = Folder().write(tmp_path)
    table = pq.read_table(folder / "results.parquet")
    facts = {**json.loads(table.schema.metadata[b"captum_ib"]), **changes}
    header = {b"captum_ib": json.dumps(facts).encode()}
    pq.write_table(table.replace_schema_metadata(header), folder / "results.parquet")
    with pytest.raises(
        ValueError, match="describes its methods or metrics as no run does"
    ) as error:
        open_run(folder)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("methods", [5, [5], [{"label": [1]}], [{}]], ids=str)
def test_a_record_that_describes_what_no_run_does(tmp_path, methods):
    file = Folder().write(tmp_path) / "run.json"
    record = json.loads(file.read_text())
    record["config"]["methods"] = methods
    file.write_text(json.dumps(record))
    with pytest.raises(ValueError, match="describes its methods or metrics as no run does"):
        open_run(tmp_path)


def test_folder_of_runs_stands_for_all_and_each_counts_once(tmp_path):
    Folder().write(tmp_path / "a")
    Folder(config={"seeds": [1]}).write(tmp_path / "b")
    found = find_runs([tmp_path, tmp_path / "a", tmp_path / "b" / ".." / "a"])
    assert [run.folder.name for run in found] == ["a", "b"]


@pytest.mark.parametrize("part", ["results", "samples"])
def test_joined_file_and_chunks_give_the_same_rows(tmp_path, part):
    joined = open_run(Folder().write(tmp_path / "joined"))
    chunks = open_run(Folder().write(tmp_path / "chunks", join=False))
    rows = [run.read(part).to_pylist() for run in (joined, chunks)]
    assert rows[0] == rows[1] and len(rows[0]) == (16 if part == "results" else 8)


def test_row_groups_may_cut_a_sample_in_two(tmp_path):
    folder = Folder(config={"seeds": [0, 1]}).write(tmp_path)
    whole = pq.read_table(folder / "results.parquet")
    pq.write_table(whole, folder / "results.parquet", row_group_size=3)
    assert open_run(folder).read("results").select(whole.column_names).equals(whole)
    assert open_run(folder).read("results", ["seed"], [1])["seed"].to_pylist() == [0, 1, 0, 1]
    assert only_table(folder).lines[0].cells["insertion"].mean == 3.5


def test_only_wanted_samples_are_read(tmp_path):
    run = open_run(Folder().write(tmp_path))
    table = run.read("results", ["index", "method"], only=[1, 6])
    assert table["index"].to_pylist() == [1, 1, 6, 6]
    assert table.column_names == ["index", "method"]


def test_unfinished_run_says_how_many_chunks_are_missing(tmp_path):
    folder = Folder(config={"samples": 20}).write(tmp_path, chunks=[0, 3])
    table = only_table(folder)
    assert table.group.index.tolist() == [0, 1, 2, 3, 12, 13, 14, 15]
    assert notes(table) == (f"Unfinished: in {folder}, 3 of 5 chunks are missing.",)
    # insertion is the index: (0 + 1 + 2 + 3 + 12 + 13 + 14 + 15) / 8
    assert table.lines[0].cells["insertion"].mean == 7.5


def test_what_the_run_found_counts_more_than_what_was_asked_for(tmp_path):
    folder = Folder(config={"samples": 20}).write(tmp_path, chunks=[0])
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "data": {"samples": 6}}))
    assert notes(only_table(folder)) == (f"Unfinished: in {folder}, 1 of 2 chunks is missing.",)


def test_all_chunks_there_but_not_joined(tmp_path):
    folder = Folder().write(tmp_path, join=False)
    assert notes(only_table(folder)) == (
        f"Unfinished: in {folder}, all chunks are there, but not joined yet.",
    )


def truncate(path):
    path.write_bytes(path.read_bytes()[:-20])


def damage(path):
    """Change a byte of the times; the footer stays whole, only the checksum tells."""
    about = pq.read_metadata(path)
    column = about.row_group(0).column(about.schema.names.index("seconds"))
    data = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    data[start + column.total_compressed_size - 1] ^= 0xFF
    path.write_bytes(bytes(data))


def strip(path):
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["seed"]), path)


def foreign(path):
    other = Folder(config={"seeds": [5]}).write(path.parents[2] / "other")
    shutil.copy(other / "parts" / path.name, path)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (truncate, "magic bytes"),
        (damage, ""),
        (strip, "it lacks the column(s) seed"),
        (foreign, "it belongs to another run"),
        (lambda path: path.write_bytes(b""), "size"),
    ],
)
def test_broken_chunk_is_left_out_and_named(tmp_path, harm, reason):
    folder = Folder().write(tmp_path / "run", join=False)
    harm(folder / "parts" / "000000.parquet")
    table = only_table(folder)
    assert table.group.index.tolist() == [4, 5, 6, 7]
    first, second = notes(table)
    assert first == f"Unfinished: in {folder}, 1 of 2 chunks is missing."
    assert second.startswith("Left out as unreadable: parts/000000.parquet (") and reason in second


def test_files_under_way_or_set_aside_are_no_chunks(tmp_path):
    folder = Folder().write(tmp_path, chunks=[0])
    (folder / "parts" / ".tmp-17-000001.parquet").write_bytes(b"half")
    (folder / "parts" / "000001.parquet.broken").write_bytes(b"bad")
    assert notes(only_table(folder)) == (f"Unfinished: in {folder}, 1 of 2 chunks is missing.",)


def test_broken_joined_file_with_a_good_footer_is_an_error(tmp_path):
    folder = Folder().write(tmp_path)
    damage(folder / "results.parquet")
    with pytest.raises(ValueError, match="results.parquet can't be read .* joins the chunks anew"):
        summary([folder])


def test_joined_file_without_footer_falls_back_to_the_chunks(tmp_path):
    folder = Folder().write(tmp_path)
    truncate(folder / "results.parquet")
    table = only_table(folder)
    assert len(table.group.index) == 8
    assert any("results.parquet" in note for note in notes(table))


def test_all_chunks_broken(tmp_path):
    folder = Folder().write(tmp_path, join=False)
    for file in (folder / "parts").iterdir():
        truncate(file)
    with pytest.raises(ValueError, match=r"no finished chunk yet \(2 can't be read: "):
        summary([folder])


def test_nothing_computed_yet(tmp_path):
    folder = Folder().write(tmp_path, chunks=[])
    with pytest.raises(ValueError, match="no finished chunk yet; let captum-ib benchmark go on"):
        summary([folder])


def test_every_sample_unreadable(tmp_path):
    folder = Folder(skipped=dict.fromkeys(range(8), "truncated")).write(tmp_path)
    with pytest.raises(ValueError, match="no chunk of the run in .* can be read: it is empty"):
        summary([folder])


def test_no_such_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        find_runs([tmp_path / "nowhere"])


def test_no_run_in_the_folder(tmp_path):
    with pytest.raises(
        ValueError, match="holds no run: neither it nor a folder in it has a run.json"
    ):
        find_runs([tmp_path])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"config": 1}', "\x00"])
def test_record_that_is_none(tmp_path, text):
    folder = Folder().write(tmp_path)
    (folder / "run.json").write_text(text)
    with pytest.raises(ValueError, match=r"run\.json can't be read as the record of a run"):
        find_runs([folder])


def test_parquet_file_of_something_else(tmp_path):
    folder = Folder().write(tmp_path, chunks=[])
    pq.write_table(pa.table({"index": [1]}), folder / "parts" / "000000.parquet")
    with pytest.raises(ValueError, match="has no captum_ib header"):
        summary([folder])


def test_memory_does_not_grow_with_the_samples(tmp_path):
    """What Arrow holds at its most while maps are read: ten times the samples, the same."""
    peaks = []
    for samples in (24, 240):
        folder = Folder(config={"samples": samples}, shape={"CoIBA": (64, 64)})
        run = open_run(folder.write(tmp_path / str(samples)))
        before, most = pa.total_allocated_bytes(), 0
        for table in reading._row_groups(
            run.folder / "results.parquet", "results", run.fingerprint, None, range(3, samples, 9)
        ):
            most = max(most, pa.total_allocated_bytes() - before)
            del table
        peaks.append(most)
    assert peaks[0] > 8 * 64 * 64  # the measure does measure: one chunk's maps are in it
    assert peaks[1] <= 1.1 * peaks[0]


def test_columns_that_nobody_asks_for_take_no_memory(tmp_path):
    """Scores of 240 samples: no byte of their maps of 64 by 64, which take four megabytes."""
    folder = Folder(config={"samples": 240}, shape={"CoIBA": (64, 64)}).write(tmp_path)
    before = pa.total_allocated_bytes()
    table = open_run(folder).read("results", ["index", "seconds"])
    assert len(table) == 480 and pa.total_allocated_bytes() - before < 240 * 64 * 64
