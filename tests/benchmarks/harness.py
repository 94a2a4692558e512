"""Two ways to do the same, side by side: in turn, several times, medians and their ratio."""

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any
from unittest import mock

VERSIONS = ("numpy", "pillow", "torch", "torchvision")
SHARED_FACES = Path(__file__).parents[3] / "shared" / "faces" / "celeba-10k.zip"


class Skipped(Exception):
    """A benchmark that can't run here, and why."""


@dataclass(frozen=True)
class Line:
    """One line of the table: what was measured, ours, the baseline's, and what has to hold."""

    name: str
    ours: str
    baseline: str
    figure: str
    demanded: str
    holds: bool


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


@contextmanager
def timing(*watched: tuple[Any, str]) -> Iterator[dict[str, list[float]]]:
    """Notes the seconds of every call of these methods or functions, by name.

    Args:
        watched: their owners, and their names there.
    """
    spent: dict[str, list[float]] = {name: [] for _, name in watched}
    with ExitStack() as stack:
        for owner, name in watched:
            timed = _timed(getattr(owner, name), spent[name])
            stack.enter_context(mock.patch.object(owner, name, timed))
        yield spent


def _timed(work: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        begin = time.perf_counter()
        result = work(*arguments)
        if hasattr(result, "cpu"):
            result.cpu()  # waits for the device
        spent.append(time.perf_counter() - begin)
        return result

    return call


def compare(
    name: str,
    ours: Callable[[], object],
    baseline: Callable[[], object],
    at_least: float,
    rounds: int = 5,
) -> Line:
    """How many times as fast as the baseline we are.

    In turn, and the median of the rounds' ratios, because other work on the machine comes and goes.
    """
    pairs = [(seconds(ours), seconds(baseline)) for _ in range(rounds)]
    us, them = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratios = [theirs / own for own, theirs in pairs]
    ratio = statistics.median(ratios)
    each = " ".join(f"{each:.2f}" for each in ratios)
    return Line(
        name,
        f"{us:.2f} s",
        f"{them:.2f} s",
        f"{ratio:.2f}x ({each})",
        f">= {at_least:g}x",
        ratio >= at_least,
    )


@contextmanager
def served(program: str) -> Iterator[Callable[[], None]]:
    """What a Python program `serve`s, whenever it is called: in a process of its own, because
    `keep_freed_memory` changes how a process keeps memory, for the baseline as well.
    """
    with Popen([sys.executable, "-c", program], stdin=PIPE, stdout=PIPE, text=True) as process:
        lines, answers = process.stdin, process.stdout
        assert lines and answers
        assert answers.readline()

        def work() -> None:
            print(file=lines, flush=True)
            assert answers.readline()

        yield work


def serve(work: Callable[[], object]) -> None:
    """Say that all is ready; then do `work` for each line that comes, and answer."""
    print(flush=True)
    for _ in sys.stdin:
        work()
        print(flush=True)


def cpu_flags() -> set[str]:
    """What the processor can do, in Linux's words; nothing elsewhere."""
    return set(_processor().get("flags", "").split())


def _processor() -> dict[str, str]:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    fields = (line.split(":", 1) for line in lines if ":" in line)
    return {name.strip(): value.strip() for name, value in fields}


def machine() -> str:
    """Hardware and versions, for the table's heading."""
    import torch  # as in __main__

    cpu = _processor().get("model name", platform.processor() or platform.machine())
    flags = " ".join(f for f in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if f in cpu_flags())
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in VERSIONS)
    gpu = f"{torch.cuda.get_device_name()}, " if torch.cuda.is_available() else ""
    return (
        f"{gpu}{os.cpu_count()} cores, {cpu} [{flags}], "
        f"Python {platform.python_version()}, {versions}"
    )
