"""What a command costs, its child processes included: time, memory, bytes written."""

import os
import re
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

import psutil

from benchmarks.harness import Line

POLL = 0.3  # seconds


@dataclass
class Cost:
    """
    Attributes:
        cpu, wall: seconds, user and system together.
        own: CPU seconds of the command's first process alone.
        memory: bytes of anonymous memory of all processes at their peak. Mapped files are not in
            it: the kernel drops their pages when memory is short.
        written: bytes handed to the disk, temporary files included.
        progress: images done according to the command's own lines, with CPU and wall seconds.
        total: images to do according to these lines.
    """

    cpu: float = 0.0
    wall: float = 0.0
    own: float = 0.0
    memory: int = 0
    written: int = 0
    progress: list[tuple[int, float, float]] = field(default_factory=list)
    total: int = 0
    log: str = ""

    def per_image(self) -> tuple[float, float]:
        """CPU and wall seconds for one more image: between the first and the last line, or with the
        start of the command if there is one line."""
        first, cpu, wall = self.progress[0] if len(self.progress) > 1 else (0, 0.0, 0.0)
        last, cpu_end, wall_end = self.progress[-1]
        return (cpu_end - cpu) / (last - first), (wall_end - wall) / (last - first)


def run(
    command: Sequence[str | Path],
    log: Path,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    limit: float | None = None,
) -> Cost:
    """Run a command to its end, or stop it by SIGTERM when it has had `limit` seconds of CPU time
    since its first line of progress.

    Raises:
        CalledProcessError: if it fails within the limit.
    """
    cost, began = Cost(), time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(
            list(map(str, command)), cwd=cwd, stdout=output, stderr=output,
            env=os.environ | (environment or {}),
        )  # fmt: skip
    stopped = False
    # Not `poll`, which would reap the process: its own counters are read after its end.
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        cost.memory = max(cost.memory, _memory(process.pid))
        _note_progress(cost, process.pid, log, time.monotonic() - began)
        begun = cost.progress[0][1] if cost.progress else inf
        if limit and not stopped and _cpu(process.pid) > begun + limit:
            process.send_signal(signal.SIGTERM)
            stopped = True
        time.sleep(POLL)
    cost.wall = time.monotonic() - began
    cost.own, cost.written = _own(process.pid), _written(process.pid)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    cost.cpu, cost.log = usage.ru_utime + usage.ru_stime, log.read_text(errors="replace")
    if stopped and cost.progress:  # children that it did not wait for are not in its usage
        cost.cpu = max(cost.cpu, cost.progress[-1][1])
    if process.returncode and not stopped:
        raise subprocess.CalledProcessError(process.returncode, process.args, cost.log)
    return cost


def _family(pid: int) -> list[int]:
    with suppress(psutil.NoSuchProcess):
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    return [pid]


def _own(pid: int) -> float:
    """Also after the end, until the process is waited for."""
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")


def _memory(pid: int) -> int:
    return sum(1024 * _field(f"/proc/{each}/status", "RssAnon") for each in _family(pid))


def _written(pid: int) -> int:
    """Children that were waited for are in their parent's count."""
    return _field(f"/proc/{pid}/io", "write_bytes")


def _field(path: str, name: str) -> int:
    with suppress(OSError):
        found = re.search(rf"^{name}:\s+(\d+)", Path(path).read_text(), re.M)
        return int(found[1]) if found else 0
    return 0


def _note_progress(cost: Cost, pid: int, log: Path, wall: float) -> None:
    lines = re.findall(r"^\w+: ([\d,]+)/([\d,]+)", log.read_text(errors="replace"), re.M)
    if not lines:
        return
    done, cost.total = (int(number.replace(",", "")) for number in lines[-1])
    if not cost.progress or cost.progress[-1][0] != done:
        cost.progress.append((done, _cpu(pid), wall))


def _cpu(pid: int) -> float:
    spent = 0.0
    for each in _family(pid):
        with suppress(psutil.NoSuchProcess):
            times = psutil.Process(each).cpu_times()
            spent += times.user + times.system
            if each == pid:
                spent += times.children_user + times.children_system
    return spent


def of_call(call: Callable[[], object], warm: bool = True) -> Cost:
    """The medians of three calls, or what a single first one costs if not `warm`.

    CPU time is that of this process and of the servers that it started.

    On a busy machine, the wall time says more about the machine.
    """
    if warm:
        call()
    spent = [_once(call) for _ in range(3 if warm else 1)]
    cpu, wall = (statistics.median(times) for times in zip(*spent, strict=True))
    return Cost(cpu, wall)


def _once(call: Callable[[], object]) -> tuple[float, float]:
    family = _family(os.getpid())
    cpu, began = _exact_cpu(family), time.perf_counter()
    call()
    wall = time.perf_counter() - began
    return _exact_cpu(family) - cpu, wall


def _exact_cpu(pids: Iterable[int]) -> float:
    """Seconds, in nanoseconds' resolution; `stat` counts in 10 ms."""
    spent = 0
    for pid in pids:
        for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with suppress(OSError):
                spent += int(path.read_text().split()[0])
    return spent / 1e9


def line(name: str, cost: Cost, count: int, what: str = "image") -> Line:
    """Total, and for each of `count` files or images."""
    return Line(
        name,
        f"{cost.cpu:,.1f} s CPU, {cost.wall:,.1f} s",
        "",
        f"{1e3 * cost.cpu / count:.3g} ms, {1e3 * cost.wall / count:.3g} ms and "
        f"{cost.written / count:,.0f} B a {what}, {cost.memory / 1e6:,.0f} MB; "
        f"{1e3 * cost.own / count:.2g} ms of the first process",
        "",
        True,
    )


def of_calls(name: str, cost: Cost, count: int = 1) -> Line:
    """In milliseconds, for each of `count` calls."""
    cpu, wall = f"{1e3 * cost.cpu / count:,.0f} ms CPU", f"{1e3 * cost.wall / count:,.0f} ms"
    return Line(name, f"{cost.wall:.2f} s", "", f"{cpu}, {wall}", "", True)


def of_size(name: str, size: int) -> Line:
    """Of a database with `name`, in bytes."""
    figure = f"{size / 1e6:,.0f} MB"
    return Line(f"{name}: the database", figure, "", figure, "", True)
