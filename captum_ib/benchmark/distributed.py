"""A run on a Ray cluster: chunks stream through a pool of workers, one per device."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from captum_ib.benchmark.arrow import pa
from captum_ib.benchmark.config import RunConfig
from captum_ib.benchmark.run import Execute, Write
from captum_ib.benchmark.worker import Evaluated, Worker
from captum_ib.extras import need

_LOCAL: dict[str, Any] = {
    "include_dashboard": False,
    "object_store_memory": 256 * 2**20,  # results are small, and leave it when written
    "_node_ip_address": "127.0.0.1",
}


def on_ray(address: str = "local", workers: int | None = None) -> Execute:
    """How :func:`captum_ib.benchmark.run` evaluates chunks on Ray: ``run(…, execute=on_ray())``.

    Ray Data hands the chunks to a pool of actors that hold the model. It restarts a worker that
    dies and gives its chunk to another; this process alone writes, each chunk once.

    Args:
        address: ``"local"`` (a cluster of this machine that is ended after the run), ``"auto"``
            (one that runs here already) or ``host:port``. On other machines captum_ib must be
            installed, and model and data must be under the same paths. In a process that has
            called ``ray.init`` that cluster is used.
        workers: how many; default: one per GPU of the cluster for a run on CUDA, else one per CPU.
            Each takes one GPU, or one CPU and one thread.

    Raises:
        MissingExtraError: Ray is not installed.
        ValueError: ``workers`` below 1.

    The returned function raises ``RuntimeError`` when a worker meets an error that is no sample's,
    and when the cluster has no such device; ``ValueError`` for a device with a number, as Ray gives
    each worker its own; ``ConnectionError`` when there is no cluster.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, given {workers}")
    need("ray.data", "a run on Ray", "ray")

    def execute(config: RunConfig, chunks: Sequence[int], write: Write) -> None:
        kind, _, number = config.device.partition(":")
        if number:
            raise ValueError(
                f"Ray gives each worker a device of its own: give {kind!r}, not {config.device!r}"
            )
        with _cluster(address):
            size = min(workers or _devices(config), len(chunks))
            written: set[int] = set()
            for result in _stream(config, chunks, size):
                if result.chunk not in written:
                    written.add(result.chunk)
                    write(result)

    return execute


class ChunkWorker:
    """What an actor holds: a :class:`.Worker`, and the way its tables travel."""

    def __init__(self, config: RunConfig, folder: str) -> None:
        with suppress(OSError):  # another machine may not have it; absolute paths work anyway
            os.chdir(folder)
        self._worker = Worker(config)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """``{"chunk": number}`` to its tables, as bytes."""
        result = self._worker.evaluate(int(row["chunk"]))
        return {
            "chunk": result.chunk,
            "rows": _packed(result.rows),
            "samples": _packed(result.samples),
        }


@contextmanager
def _cluster(address: str) -> Iterator[None]:
    """A Ray that is connected; what was started here is ended here."""
    import ray

    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # reports go to no one
    ray.init(address=address, log_to_driver=False, **(_LOCAL if address == "local" else {}))
    try:
        yield
    finally:
        ray.shutdown()


def _devices(config: RunConfig) -> int:
    """Devices of the cluster that fit the run.

    Raises:
        RuntimeError: there is none.
    """
    import ray

    kind = "GPU" if config.device == "cuda" else "CPU"
    count = int(ray.cluster_resources().get(kind, 0))
    if count < 1:
        raise RuntimeError(
            f"the run is for device {config.device!r}, but the Ray cluster has no {kind}; give "
            "another device, or an address of a cluster that has it"
        )
    return count


def _stream(config: RunConfig, chunks: Sequence[int], size: int) -> Iterator[Evaluated]:
    """Results in the order in which they are ready."""
    import ray
    from ray.data import ActorPoolStrategy, DataContext
    from ray.exceptions import RayError

    context = DataContext.get_current()
    shown, context.enable_progress_bars = context.enable_progress_bars, False
    try:
        on_gpu = config.device == "cuda"
        rows = [{"chunk": chunk} for chunk in chunks]
        data = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            ChunkWorker,  # pyright: ignore[reportArgumentType]  # a class of callables
            fn_constructor_args=(config, os.getcwd()),
            compute=ActorPoolStrategy(size=size),
            num_gpus=1 if on_gpu else 0,
            num_cpus=0 if on_gpu else 1,
        )
        for row in data.iter_rows():
            yield Evaluated(int(row["chunk"]), _unpacked(row["rows"]), _unpacked(row["samples"]))
    except RayError as error:
        # The error in the worker is the last line of the traceback that Ray sends along.
        *_, reason = [type(error).__name__, *filter(None, map(str.strip, str(error).splitlines()))]
        raise RuntimeError(f"a worker on Ray failed: {reason}") from error
    finally:
        context.enable_progress_bars = shown


def _packed(table: pa.Table) -> bytes:
    """Arrow's own format, which holds the schema and its metadata."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()


def _unpacked(data: bytes) -> pa.Table:
    return pa.ipc.open_stream(data).read_all()
