"""Two processes of distributed work, without the three imports of torch that torchrun takes."""

import multiprocessing
import os
import sys
from pathlib import Path

import torch

from servers import free_port

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["facegan.features.frechet"])


def run_distributed(program: str, *arguments: Path) -> None:
    """Run a program's text in two processes, with the variables that torchrun sets."""
    port = free_port()
    processes = [
        CONTEXT.Process(target=_run, args=(program, list(map(str, arguments)), rank, port))
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0, 0]


def _run(program: str, arguments: list[str], rank: int, port: int) -> None:
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "TORCHELASTIC_RUN_ID": "none",
    }
    torch.set_num_threads(1)
    sys.argv = ["program", *arguments]
    exec(program, {"__name__": "__main__"})
