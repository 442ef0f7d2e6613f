"""Tables of image paths: three formats that read the same, and rows that can't be read."""

from __future__ import annotations

import gc
import json
import sys
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from captum_ib import extras
from captum_ib.benchmark import DataConfig, UnreadableSampleError, open_data
from captum_ib.benchmark.data import table
from captum_ib.benchmark.data.rows import Held, open_table
from tests.benchmark.data_models import model

ROWS = [
    {"image": "a.png", "caption": 'a "red", round\nthing', "label": "dog", "mask": "m.png"},
    {"image": "b.png", "caption": "größer – 猫", "label": "2", "mask": "m.png"},
    {"image": "a.png", "caption": "again", "label": "Ape", "mask": "m.png"},
]
FORMATS = ["csv", "tsv", "jsonl", "parquet"]


@pytest.fixture
def home(tmp_path):
    for number, name in enumerate(("a", "b")):
        Image.fromarray(np.full((2, 3, 3), number, dtype=np.uint8)).save(tmp_path / f"{name}.png")
    Image.fromarray(np.eye(2, 3, dtype=np.uint8)).save(tmp_path / "m.png")
    return tmp_path


def write(home, ending, rows=ROWS):
    path = home / f"table.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)
    elif ending == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n", encoding="utf-8")
    else:
        separator = "\t" if ending == "tsv" else ","
        lines = [list(rows[0]), *(list(row.values()) for row in rows)]
        quoted = [['"' + cell.replace('"', '""') + '"' for cell in line] for line in lines]
        text = "\r\n".join(separator.join(line) for line in quoted) + "\r\n\r\n"
        path.write_text(text, encoding="utf-8", newline="")
    return path


def read(path, loaded=None, **options):
    return open_data(DataConfig("table", str(path), options), loaded or model())


@pytest.mark.parametrize("ending", FORMATS)
def test_every_format_says_the_same(home, ending):
    data = read(write(home, ending))
    samples = [data.read(index) for index in range(len(data))]
    assert [sample.id for sample in samples] == ["row-0", "row-1", "row-2"]
    assert [sample.label for sample in samples] == [1, 2, 2]
    assert [sample.caption for sample in samples] == [row["caption"] for row in ROWS]
    assert [int(np.asarray(sample.image).max()) for sample in samples] == [0, 1, 0]
    assert all(np.array_equal(sample.mask, np.eye(2, 3) > 0) for sample in samples)
    assert data.read(1).caption == ROWS[1]["caption"]  # in any order


@pytest.mark.parametrize("ending", FORMATS)
def test_other_names_of_columns(home, ending):
    rows = [
        {"file": row["image"], "text": row["caption"], "key": str(n)} for n, row in enumerate(ROWS)
    ]
    data = read(write(home, ending, rows), model("dual"), image="file", caption="text", id="key")
    assert [data.id(index) for index in range(3)] == ["0", "1", "2"]
    sample = data.read(1)
    assert (sample.id, sample.caption, sample.label, sample.mask) == (
        "1",
        "größer – 猫",
        None,
        None,
    )


@pytest.mark.parametrize("ending", FORMATS)
def test_missing_columns(home, ending):
    path = write(home, ending)
    with pytest.raises(ValueError, match="no column 'img'; did you mean 'image'?"):
        read(path, image="img")
    with pytest.raises(ValueError, match="no column 'text'; known: image, caption, label, mask"):
        read(path, caption="text")
    path = write(home, ending, [{"picture": "a.png"}])
    with pytest.raises(
        ValueError, match="'image'; known: picture, or name another with the option image"
    ):
        read(path)
    with pytest.raises(
        ValueError, match="compares images with captions, and .* no column 'caption'"
    ):
        read(path, model("dual"), image="picture")


@pytest.mark.parametrize("ending", FORMATS)
def test_ids_that_are_there_twice(home, ending):
    rows = [{**row, "key": key} for row, key in zip(ROWS, ("x", "y", "x"), strict=True)]
    path = write(home, ending, rows)
    with pytest.raises(
        ValueError, match="rows 0 and 2 have the same id, 'x'; without the option id"
    ):
        read(path, id="key")
    assert len(read(path)) == 3


def test_ids_whose_hashes_agree_only(home, monkeypatch):
    monkeypatch.setattr(table, "hash", lambda name: 7, raising=False)
    rows = [{**row, "key": key} for row, key in zip(ROWS, "xyz", strict=True)]
    assert read(write(home, "csv", rows), id="key").id(2) == "z"


@pytest.mark.parametrize("ending", FORMATS)
def test_parts_left_out(home, ending):
    sample = read(write(home, ending), mask=None, caption=None, label=None).read(0)
    assert sample.mask is sample.caption is sample.label is None


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("part", ["image", "caption", "label", "mask"])
@pytest.mark.parametrize("empty", ["", " "])
def test_empty_cells(home, ending, part, empty):
    data = read(write(home, ending, [ROWS[0], {**ROWS[1], part: empty}]))
    assert data.read(0).label == 1
    with pytest.raises(UnreadableSampleError, match=f"^row-1: the row has no {part}$"):
        data.read(1)


def test_labels_that_are_no_class(home):
    data = read(write(home, "csv", [{**ROWS[0], "label": "dogg"}, {**ROWS[0], "label": "3"}]))
    with pytest.raises(
        UnreadableSampleError, match="target 'dogg' is none of the 3 labels; nearest"
    ):
        data.read(0)
    with pytest.raises(UnreadableSampleError, match="target 3 is out of range"):
        data.read(1)


def test_labels_of_other_types(home):
    rows = [{"image": "a.png", "label": label} for label in (1, 2.0, True, 1.5, None, [1])]
    data = read(write(home, "jsonl", rows))
    assert [data.read(0).label, data.read(1).label] == [1, 2]
    for index, told in ((2, "it is a bool"), (3, "it is a float"), (4, "no label"), (5, "a list")):
        with pytest.raises(UnreadableSampleError, match=told):
            data.read(index)
    assert read(write(home, "jsonl", rows[:1]), model("dual"), caption="label").read(0).label == "1"


def test_words_of_content(home):
    rows = [
        {"image": "a.png", "words": words}
        for words in (["red", "dog"], "red  dog", "", None, 5, [None])
    ]
    data = read(write(home, "jsonl", rows))
    assert [data.read(index).words for index in range(4)] == [("red", "dog")] * 2 + [()] * 2
    assert data.read(4).words == ("5",)
    with pytest.raises(UnreadableSampleError, match="the row has no words"):
        data.read(5)
    assert read(write(home, "jsonl", rows), words=None).read(0).words is None


@pytest.mark.parametrize("ending", FORMATS)
def test_a_caption_that_is_not_utf8(home, ending):
    path = write(home, ending, [{**ROWS[0], "caption": "the BAD one"}, ROWS[1]])
    content = path.read_bytes()
    if ending == "parquet":  # a column that claims to be text
        captions = pa.array([b"the \xff\xfe\xff one", b"good"]).view(pa.string())
        pq.write_table(pa.table({"image": ["a.png", "b.png"], "caption": captions}), path)
    else:
        assert content.count(b"BAD") == 1
        path.write_bytes(content.replace(b"BAD", b"\xff\xfe\xff"))
    data = read(path, model("dual"))
    with pytest.raises(UnreadableSampleError) as caught:
        data.read(0)
    assert caught.value.id == "row-0"
    assert caught.value.reason == "the row is not UTF-8: byte 0xff"
    assert data.read(1).caption in (ROWS[1]["caption"], "good")


def test_a_half_of_a_surrogate_pair(home):
    path = home / "table.jsonl"
    path.write_text('{"image": "a.png", "caption": "x \\ud83d"}')
    with pytest.raises(UnreadableSampleError, match="the row is not UTF-8: a lone surrogate"):
        read(path, model("dual")).read(0)


def test_an_id_that_is_not_utf8_is_replaced_by_the_number(home):
    path = home / "table.csv"
    path.write_bytes(b"image,key\na.png,\xff\nb.png,b\n")
    data = read(path, id="key")
    assert [data.id(0), data.id(1)] == ["row-0", "b"]


def test_broken_rows(home):
    path = home / "table.csv"
    path.write_bytes(b'image,label\na.png,dog\na.png\na.png,dog,more\n\na.png,"do"g\nb.png,cat')
    data = read(path)
    assert [data.read(0).label, data.read(4).label] == [1, 0]
    for index, told in (
        (1, "1 cells for 2 col"),
        (2, "3 cells for 2 col"),
        (3, "can't be read: '"),
    ):
        with pytest.raises(UnreadableSampleError, match=f"^row-{index}: the row .*{told}"):
            data.read(index)
    path = home / "table.jsonl"
    path.write_bytes(b'{"image": "a.png"}\n{"image": \n[]\n{}\n{"image": 1.5}\n' + b"[" * 9000)
    data = read(path)
    assert data.read(0).image.size == (3, 2)
    tolds = ["the row is no JSON", "it is a list", "has no image", "it is a float", "is no JSON"]
    for index, told in enumerate(tolds, start=1):
        with pytest.raises(UnreadableSampleError, match=told):
            data.read(index)


def test_absolute_and_relative_paths(home, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    path = write(elsewhere, "csv", [{"image": "a.png"}, {"image": str(home / "b.png")}])
    data = read(path)
    with pytest.raises(UnreadableSampleError, match="image .*elsewhere.*a.png is missing"):
        data.read(0)
    assert np.asarray(data.read(1).image).max() == 1
    assert read(path, root=str(home)).read(0).image.size == (3, 2)


def test_broken_images_and_masks(home):
    path = write(home, "csv")
    (home / "b.png").write_bytes((home / "b.png").read_bytes()[:-30])
    data = read(path)
    assert data.read(0).label == 1
    with pytest.raises(UnreadableSampleError, match="^row-1: image b.png can't be read"):
        data.read(1)
    Image.fromarray(np.eye(3, dtype=np.uint8)).save(home / "m.png")
    with pytest.raises(
        UnreadableSampleError, match="mask m.png .* 3 x 3 pixels large, the image 3 x 2"
    ):
        data.read(0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "a.csv is empty"),
        ("a.csv", b"image\n", "a.csv has no rows"),
        ("a.csv", b"image,image\na,b\n", "columns image, image are not all different"),
        ("a.csv", b"\xff\xfei\0m\0\n", "the header can't be read: not UTF-8: byte 0xff"),
        (
            "a.csv",
            b'image\n"a.png\nb.png\n',
            r'a.csv:2: a quote \("\) opens here and is never closed',
        ),
        ("a.csv", b"image\n" + b"x" * 2**20, "a.csv:2: the line is longer than 1 MiB"),
        ("a.csv", b'image\n"' + b"x\n" * 2**20 + b'"', "a.csv:2: a quote .* never closed"),
        ("a.jsonl", b"\n \n", "a.jsonl is empty"),
        ("a.jsonl", b"[1]\n", "the first row can't be read: the row must be a JSON object"),
        ("a.jsonl", b"x\n", "the first row can't be read: the row is no JSON"),
        ("a.parquet", b"PAR1 and no more", "a.parquet can't be read"),
        ("a.parquet", b"", "a.parquet can't be read"),
        ("a.xlsx", b"", "must end in one of .csv, .tsv, .jsonl, .parquet"),
    ],
)
def test_files_that_are_no_table(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / name)


def test_tables_that_are_not_there(tmp_path):
    for path in (tmp_path / "a.csv", tmp_path):
        with pytest.raises(FileNotFoundError, match="is not there, or no file"):
            read(path)


def test_an_empty_parquet_file(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": pa.array([], pa.string())}), path)
    with pytest.raises(ValueError, match="a.parquet has no rows"):
        read(path)


def test_a_truncated_parquet_file(home):
    path = write(home, "parquet")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="can't be read"):
        read(path)


def test_a_parquet_file_with_a_broken_page(home):
    path = home / "table.parquet"
    rows = {"image": ["a.png", "b.png"], "caption": ["x" * 500, "y" * 500]}
    pq.write_table(pa.table(rows), path, row_group_size=1, compression="gzip", use_dictionary=False)
    content = bytearray(path.read_bytes())
    content[60:160] = bytes(100)  # within the first row group
    path.write_bytes(content)
    data = read(path, model("dual"))
    with pytest.raises(UnreadableSampleError, match="^row-0: row group 0 can't be read"):
        data.read(0)
    assert data.read(1).caption == "y" * 500


def test_columns_of_parquet_that_nobody_asked_for_are_not_read(home):
    path = home / "table.parquet"
    words = pa.array(["a.png", "b.png", "a.png"]).dictionary_encode()
    rows = {
        "image": words,
        "large": [b"x" * 1000] * 3,
        "label": pa.array(["1", "2", "0"], pa.large_string()),
    }
    pq.write_table(pa.table(rows), path, row_group_size=2)
    columns, read_rows = open_table(path)
    assert columns == ["image", "large", "label"]
    rows = Held(read_rows(["image", "label"]))
    assert len(rows) == 3
    assert rows[2] == {"image": "a.png", "label": "0"}
    assert [read(path).read(index).label for index in range(3)] == [1, 2, 0]


def test_parquet_without_pyarrow(home, monkeypatch):
    def without(name):
        raise ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow")

    path = write(home, "parquet")
    monkeypatch.setattr(extras, "import_module", without)
    with pytest.raises(ImportError, match="reading .* needs the package pyarrow: pip install"):
        read(path)
    assert sys.modules["pyarrow"] is pa


def test_shuffled_tables(home):
    rows = [{"image": "a.png", "key": f"k{number}"} for number in range(20)]
    path = write(home, "csv", rows)
    plain = [read(path, id="key").id(index) for index in range(20)]
    mixed = [read(path, id="key", shuffle=3).id(index) for index in range(20)]
    assert plain == [f"k{number}" for number in range(20)]
    assert mixed != plain and sorted(mixed) == sorted(plain)


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("index", [-1, 3])
def test_rows_that_are_not_there(home, ending, index):
    with pytest.raises(IndexError, match=f"sample {index} of 3"):
        read(write(home, ending)).read(index)


def opened(home, ending, count):
    """Bytes that a table of so many rows holds once it is open and half its rows were read."""
    rows = [{"image": "a.png", "caption": f"{number}" * 200} for number in range(count)]
    path = write(home, ending, rows)
    read(path).id(0)  # what is imported on the way does not count
    del rows
    gc.collect()
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    data = read(path)
    for number in range(0, count, 2):
        data.read(number)
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] + pa.total_allocated_bytes() - before
    tracemalloc.stop()
    assert data.read(count - 1).caption.endswith(str(count - 1))
    return held


@pytest.mark.parametrize("ending", FORMATS)
def test_memory_is_flat_over_ten_times_the_rows(home, ending, monkeypatch):
    monkeypatch.setattr(table, "read_picture", lambda *_: Image.new("RGB", (1, 1)))
    few, many = opened(home, ending, 300), opened(home, ending, 3000)
    assert many - few < 100_000  # the rows grow by 2 MB
    assert many < 400_000


def test_nothing_is_left_in_the_temporary_folder(home, tmp_path_factory, monkeypatch):
    temporary = tmp_path_factory.mktemp("temporary")
    monkeypatch.setenv("SQLITE_TMPDIR", str(temporary))
    before = sorted(home.iterdir())
    path = write(home, "csv")
    data = read(path)
    path.unlink()  # what was opened stays as it was
    assert [data.read(index).label for index in range(3)] == [1, 2, 2]
    assert not list(temporary.iterdir()) and sorted(home.iterdir()) == before
    with pytest.raises(ValueError, match="never closed"):
        path.write_text('image\na.png\n"b.png\n')
        read(path)
    assert not list(temporary.iterdir())


def test_images_whose_names_no_file_can_have(home):
    rows = [{"image": "a\0.png"}, {"image": "a" * 5000}, {"image": "a.png"}]
    data = read(write(home, "jsonl", rows))
    with pytest.raises(UnreadableSampleError, match="^row-0: image .* is missing"):
        data.read(0)
    with pytest.raises(UnreadableSampleError, match="^row-1: image .* is missing"):
        data.read(1)
    assert data.read(2).image.size == (3, 2)


def test_captions_and_urls_without_a_header(home):
    """Conceptual Captions' file: quotes mean nothing, and pictures are called by their row."""
    lines = [
        'a "very" typical station\thttp://x.org/a.jpg?imgmax=800',
        '"black friday" sale\thttp://x.org/b.jpg',
        "no picture\thttp://x.org/c.jpg",
        "no url",
        '"an open quote\thttps://x.org/d.jpg',
    ]
    path = home / "Train_GCC-training.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    root = home / "pictures"
    (root / "00000").mkdir(parents=True)
    (home / "a.png").rename(root / "0.png")
    (home / "b.png").rename(root / "000000001.png")
    (home / "m.png").rename(root / "00000" / "000000004.png")
    data = read(path, model("dual"), root=str(root))
    assert [data.read(index).caption for index in (0, 1, 4)] == [
        'a "very" typical station',
        '"black friday" sale',
        '"an open quote',
    ]
    assert [int(np.asarray(data.read(index).image).max()) for index in (0, 1)] == [0, 1]
    with pytest.raises(UnreadableSampleError) as caught:
        data.read(2)
    names = "2.jpg, 000000002.jpg, 00000/000000002.jpg (or .png, .webp)"
    assert caught.value.reason == f"its picture is not below {root}: {names}"
    with pytest.raises(UnreadableSampleError, match="^row-3: no caption and URL$"):
        data.read(3)
    assert read(path, model("dual"), root=str(root), id="url").id(1) == "http://x.org/b.jpg"
