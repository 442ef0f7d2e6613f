"""What opening a large table or a large file of COCO annotations costs in time and memory.

    python -m benchmarks.large_data --rows 1000000 --annotations 860000

Writes them into a temporary folder, opens each in a process of its own, and reads samples from it.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Iterator
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

from PIL import Image
from torch import nn

from captum_ib.benchmark import DataConfig, Dataset, open_data
from captum_ib.loading.loaded import LoadedModel, Resize

_HALF = (0.5, 0.5, 0.5)
CAPTION = "a picture of a thing that stands next to another thing, and behind both there is a wall"
POLYGON = [
    round(100 + 50 * turn(math.pi * corner / 15), 2)
    for corner in range(30)
    for turn in (math.cos, math.sin)
]


def write_csv(path: Path, rows: int) -> None:
    """Ids, image paths and captions of some ninety characters."""
    with path.open("w") as file:
        file.write("id,image,caption\n")
        file.writelines(f'{row},image.png,"{CAPTION}, {row}"\n' for row in range(rows))


def write_jsonl(path: Path, rows: int) -> None:
    """The same as JSON lines."""
    with path.open("w") as file:
        for row in range(rows):
            record = {"id": str(row), "image": "image.png", "caption": f"{CAPTION}, {row}"}
            file.write(json.dumps(record) + "\n")


def write_parquet(path: Path, rows: int) -> None:
    """The same in row groups of 10,000."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    numbers = [str(row) for row in range(rows)]
    captions = [f"{CAPTION}, {row}" for row in range(rows)]
    columns = {"id": numbers, "image": ["image.png"] * rows, "caption": captions}
    pq.write_table(pa.table(columns), path, row_group_size=10_000)


def write_coco(path: Path, annotations: int) -> None:
    """Seven annotations per image, as in COCO, each a polygon of thirty corners."""
    images = annotations // 7 + 1
    with path.open("w") as file:
        file.write('{"images": [')
        file.write(", ".join(_images(images)))
        file.write('], "annotations": [')
        for number in range(annotations):
            record = {
                "id": number,
                "image_id": number // 7,
                "category_id": number % 80,
                "segmentation": [POLYGON],
                "bbox": [100, 100, 50, 50],
            }
            file.write((", " if number else "") + json.dumps(record))
        categories = [{"id": number, "name": f"thing {number}"} for number in range(80)]
        file.write('], "categories": ' + json.dumps(categories) + "}")


def _images(count: int) -> Iterator[str]:
    for number in range(count):
        yield json.dumps({"id": number, "file_name": "image.png", "height": 256, "width": 256})


def model() -> LoadedModel:
    """A dual encoder as far as data look at it."""
    return LoadedModel(
        "none", nn.Identity(), "dual", Resize((8, 8), _HALF, _HALF), (8, 8), _HALF, _HALF
    )


def measure(config: DataConfig) -> tuple[int, float, float, float]:
    """Samples, CPU seconds to open, MiB that the process grew, CPU milliseconds per sample read."""
    for module in ("pyarrow.parquet", "pycocotools.mask"):  # their own size does not count
        import_module(module)

    before = peak()
    start = time.process_time()
    data: Dataset = open_data(config, model())
    opened = time.process_time() - start
    start = time.process_time()
    for step in range(200):
        data.read(step * len(data) // 200)
    read = (time.process_time() - start) / 200
    return len(data), opened, peak() - before, 1000 * read


def peak() -> float:
    """MiB that this process held at most (Linux; getrusage counts what its parent held, too)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    """Write the files, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--annotations", type=int, default=860_000)
    given = parser.parse_args()
    print(
        "| file | size | samples | opening | memory | reading a sample |\n|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        Image.new("RGB", (256, 256)).save(home / "image.png")
        for write, name in (
            (write_csv, "a.csv"),
            (write_jsonl, "a.jsonl"),
            (write_parquet, "a.parquet"),
        ):
            write(home / name, given.rows)
            _report(
                home / name, DataConfig(kind="table", path=str(home / name), options={"id": "id"})
            )
        write_coco(home / "a.json", given.annotations)
        options = {"annotations": str(home / "a.json")}
        _report(home / "a.json", DataConfig(kind="coco", path=str(home), options=options))


def _report(path: Path, config: DataConfig) -> None:
    with get_context("spawn").Pool(1) as pool:
        samples, opened, grown, read = pool.apply(measure, (config,))
    size = path.stat().st_size / 2**20
    kind = "COCO" if path.suffix == ".json" else path.suffix
    costs = f"{opened:.1f} s | {grown:.0f} MiB | {read:.2f} ms"
    print(f"| {kind} | {size:.0f} MiB | {samples:,} | {costs} |", flush=True)


if __name__ == "__main__":
    main()
