"""Runs that are killed: each in a child of this process, which has loaded everything once.

Reads lines from stdin and prints a line for each: ``killed``, or ``done`` when the run came to its
end. A line is ``step N`` (SIGKILL at the N-th time that something is opened, synced or renamed in
the folder, before it happens), ``timer S`` (SIGKILL after S seconds), or ``none``, with another
folder behind it where one is wanted.
"""

from __future__ import annotations

import builtins
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from captum_ib.benchmark import store
from captum_ib.benchmark.config import RunConfig
from captum_ib.benchmark.run import run
from captum_ib.benchmark.worker import Worker

CHUNK = 0.1
"""Seconds that a chunk takes at least in a run with a timer."""

STEPS = 15
"""Steps of writing per chunk of two methods: five for each file (the first's, samples, rows)."""


def kill_at(step: int) -> None:
    """Let this process kill itself at a step of its writing."""
    count = 0

    def stepping(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            if original is not open or ".tmp-" in str(args[0]):
                count += 1
                if count == step:
                    os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        return call

    builtins_open = builtins.open
    store.open = stepping(builtins_open)  # type: ignore[attr-defined]
    os.fsync, os.replace = stepping(os.fsync), stepping(os.replace)
    store.pq.write_table = stepping(store.pq.write_table)


def slow_down() -> None:
    """Let every chunk take a tenth of a second more, so that a timer strikes before the end."""
    write = store.RunFolder.write

    def slowly(*args: Any) -> None:
        time.sleep(CHUNK)
        write(*args)

    store.RunFolder.write = slowly  # type: ignore[method-assign]


def child(config: RunConfig, out: str, how: str, value: float) -> None:
    """Run in a child process."""
    if how == "step":
        kill_at(int(value))
    elif how == "timer":
        slow_down()
    run(config, out, show_progress=False)
    os._exit(0)


def main() -> None:
    """See the module."""
    torch.set_num_threads(1)  # a fork takes no threads along
    config, out = RunConfig.from_dict(json.loads(sys.argv[1])), sys.argv[2]
    Worker(config)  # imports all that a child would
    for line in sys.stdin:
        how, _, value = line.strip().partition(" ")
        where = (value or out) if how == "none" else out
        number = 0.0 if how == "none" else float(value)
        process = os.fork()
        if process == 0:
            try:
                child(config, where, how, number)
            finally:
                os._exit(1)
        if how == "timer":
            time.sleep(number)
            os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            print("killed", flush=True)
        else:
            print("done" if os.WEXITSTATUS(status) == 0 else "failed", flush=True)


if __name__ == "__main__":
    main()
