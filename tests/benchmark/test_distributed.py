"""A run on Ray gives what one process gives, also when a worker dies."""
# ruff: noqa: E402 (what may be missing comes first)

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytest.importorskip("ray.data", reason="Ray is not installed: pip install 'captum_ib[ray]'")
pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")

import torch

from captum_ib.benchmark.config import RunConfig
from captum_ib.benchmark.distributed import on_ray
from captum_ib.benchmark.run import run
from captum_ib.cli import main

# Ray Data copies its own settings, the deprecated ones too.
pytestmark = pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\.data")

CONFIG = RunConfig.from_dict(
    {
        "model": "zoo:vit-scenes",
        "data": "scenes",
        "samples": 12,
        "batch_size": 1,
        "methods": ["nib", {"method": "coiba", "settings": {"n_steps": 2}}, "random"],
        "metrics": ["iou", "deletion"],
        "seeds": [0, 1],
    }
)
MEASURED = ["seconds", "peak_bytes"]


def table(folder: Path):
    """The results without what a clock or the system says."""
    return pq.read_table(folder / "results.parquet").drop_columns(MEASURED)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The run in this process, on one thread as on Ray."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        folder = tmp_path_factory.mktemp("alone")
        run(CONFIG, folder, show_progress=False)
        return table(folder)
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def cluster():
    """A local cluster with room for two workers."""
    import ray

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
        _node_ip_address="127.0.0.1", object_store_memory=128 * 2**20,
    )  # fmt: skip
    yield ray
    ray.shutdown()


def workers() -> list[int]:
    """Process ids of the actors that hold a model."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                name = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if name.startswith(b"ray::") and b"ChunkWorker" in name:
                found.append(int(entry.name))
    return found


def test_two_workers_give_the_numbers_of_one_process(alone, cluster, tmp_path):
    summary = run(CONFIG, tmp_path, execute=on_ray(workers=2), show_progress=False)
    assert summary.computed == 12
    assert table(tmp_path).equals(alone)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="workers are found in /proc")
def test_a_worker_that_is_killed_is_replaced_and_nothing_is_lost_or_counted_twice(
    alone, cluster, tmp_path
):
    killed: list[int] = []
    execute = on_ray(workers=2)

    def execute_and_kill(config, chunks, write):
        def first_kill(result):
            if not killed:
                killed.append(workers()[0])
                os.kill(killed[0], signal.SIGKILL)
            write(result)

        execute(config, chunks, first_kill)

    run(CONFIG, tmp_path, execute=execute_and_kill, show_progress=False)
    assert len(killed) == 1, "no worker was there to kill"
    assert table(tmp_path).equals(alone)


def test_an_error_that_is_no_samples_ends_the_run_in_one_line(cluster, tmp_path):
    broken = RunConfig.from_dict({**CONFIG.to_dict(), "model": str(tmp_path / "nowhere")})
    with pytest.raises(RuntimeError, match=r"^a worker on Ray failed: .*nowhere"):
        on_ray(workers=1)(broken, [0], lambda result: None)


def test_a_run_for_a_gpu_says_that_the_cluster_has_none(cluster):
    on_gpu = RunConfig.from_dict({**CONFIG.to_dict(), "device": "cuda"})
    if cluster.cluster_resources().get("GPU"):
        pytest.skip("the cluster has a GPU")
    with pytest.raises(RuntimeError, match="the Ray cluster has no GPU"):
        on_ray()(on_gpu, [0], lambda result: None)


def test_a_device_with_a_number_is_refused():
    second = RunConfig.from_dict({**CONFIG.to_dict(), "device": "cuda:1"})
    with pytest.raises(ValueError, match="give 'cuda', not 'cuda:1'"):
        on_ray()(second, [0], lambda result: None)


def test_workers_must_be_positive():
    with pytest.raises(ValueError, match="workers must be at least 1, given 0"):
        on_ray(workers=0)


def test_a_missing_ray_is_said_with_the_command_that_installs_it(tmp_path):
    code = """
        import sys
        sys.modules["ray"] = None  # as if it were not there
        from captum_ib.benchmark.distributed import on_ray
        try:
            on_ray()
        except ImportError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "a run on Ray needs the package ray: pip install 'captum_ib[ray]'\n"


@pytest.mark.parametrize(
    ("flags", "mend"),
    [
        (["--workers", "2"], "give --ray too"),
        (["--ray", "--dry-run"], "leave one of them out"),
    ],
)
def test_flags_that_do_not_go_together(flags, mend, tmp_path, capsys):
    arguments = ["--model", "vit-scenes", "--method", "nib", *flags]
    assert main(["benchmark", *arguments, "--out", str(tmp_path / "out")]) == 2
    assert mend in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
