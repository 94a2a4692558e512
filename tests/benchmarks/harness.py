"""Side-by-side benchmarks: two alternatives in turn, several rounds, medians and their ratio."""

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any
from unittest import mock

VERSIONS = ("mlflow", "numpy", "pillow", "sqlalchemy", "torch", "torchvision")
MODULES = {"pillow": "PIL"}
SHARED_FACES = Path(__file__).parents[3] / "shared" / "faces" / "celeba-10k.zip"


class Skipped(Exception):
    """A benchmark cannot run on this machine; the message says why."""


@dataclass(frozen=True)
class Line:
    """One line of the table: what was measured, our value, the baseline's, and the requirement."""

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
    """Yield the seconds of each call of these methods or functions, by name.

    Args:
        watched: owner and attribute name of each.
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
            result.cpu()  # synchronises
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
    """Speedup over the baseline.

    Both run in turn, and the median of the rounds' ratios counts, because the load varies.
    """
    pairs = [(seconds(ours), seconds(baseline)) for _ in range(rounds)]
    ours_s, baseline_s = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratios = [baseline_s / ours_s for ours_s, baseline_s in pairs]
    ratio = statistics.median(ratios)
    rounds_text = " ".join(f"{value:.2f}" for value in ratios)
    return Line(
        name,
        f"{ours_s:.2f} s",
        f"{baseline_s:.2f} s",
        f"{ratio:.2f}x ({rounds_text})",
        f">= {at_least:g}x",
        ratio >= at_least,
    )


@contextmanager
def served(program: str) -> Iterator[Callable[[], None]]:
    """A function that triggers a Python program's `serve` once per call.

    In a separate process, because `keep_freed_memory` tunes malloc, also for the baseline.
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
    """Signal readiness, then run `work` and answer for each line on stdin."""
    print(flush=True)
    for _ in sys.stdin:
        work()
        print(flush=True)


def cpu_flags() -> set[str]:
    """The flags of /proc/cpuinfo; empty where there is none."""
    return set(_processor().get("flags", "").split())


def _processor() -> dict[str, str]:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    fields = (line.split(":", 1) for line in lines if ":" in line)
    return {name.strip(): value.strip() for name, value in fields}


def machine() -> str:
    """Hardware and versions, for the heading of the table."""
    import torch  # as in __main__

    cpu = _processor().get("model name", platform.processor() or platform.machine())
    flags = " ".join(f for f in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if f in cpu_flags())
    found = (name for name in VERSIONS if util.find_spec(MODULES.get(name, name)))
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in found)
    gpu = f"{torch.cuda.get_device_name()}, " if torch.cuda.is_available() else ""
    return (
        f"{gpu}{os.cpu_count()} cores, {cpu} [{flags}], "
        f"Python {platform.python_version()}, {versions}"
    )
