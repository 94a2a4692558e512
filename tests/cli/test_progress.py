import os
import pty
import re
import subprocess
import sys

PROGRAM = """
from facegan.core.events import Message, Metrics, Progress
from facegan.cli.progress import Reporter

with Reporter("train") as report:
    report(Message("resuming from [bold]5[/bold] of 1,500 images seen"))
    for done in range(500, 2000, 500):
        report(Metrics({"quick FID": 12.3456, "images/s": 98765.4321}))
        report(Progress(done, 1500))
"""
MESSAGE = "train: resuming from [bold]5[/bold] of 1,500 images seen"


def run_plain(program: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment())


def environment(**more: str) -> dict[str, str]:
    # Variables that make rich assume another terminal.
    hidden = ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "TERM", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
    return {k: v for k, v in os.environ.items() if k not in hidden} | more


def run_on_terminal(program: str, columns: int = 120) -> str:
    """Everything that the program writes to its terminal."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=environment(TERM="xterm", COLUMNS=str(columns)),
    )
    os.close(terminal)
    content = b""
    try:
        while chunk := os.read(controller, 65536):
            content += chunk
    except OSError:
        pass  # on Linux, the other end is closed
    finally:
        os.close(controller)
    assert process.wait() == 0
    return content.decode()


def test_without_a_terminal_progress_is_plain_lines_on_stderr() -> None:
    result = run_plain(PROGRAM)
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        MESSAGE,
        "train: 1,500/1,500  quick FID 12.35  images/s 9.877e+04",
    ]


def test_on_a_terminal_progress_is_a_bar_with_the_metrics() -> None:
    shown = run_on_terminal(PROGRAM)
    assert "\x1b[" in shown
    assert "━" in shown
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert MESSAGE in text
    assert "1500/1500" in text
    assert "quick FID 12.35" in text


def test_80_columns_show_how_far_and_how_long_before_the_metrics() -> None:
    program = """
import time
from facegan.core.events import Metrics, Progress
from facegan.cli.progress import Reporter

names = "discriminator", "generator", "quick FID", "images/s"
with Reporter("preprocess") as report:
    for done in range(0, 200_000, 50_000):
        report(Metrics(dict.fromkeys(names, -1234.5678)))
        report(Progress(done, 202_599))
        time.sleep(0.2)
"""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", run_on_terminal(program, columns=80))
    last = [line for line in re.split(r"[\r\n]+", text) if line.strip()][-1]
    pattern = r"preprocess [━╸╺]+ 150000/202599 0:00:0\d discriminator -1235 .*…"
    assert re.fullmatch(pattern, last) and len(last) <= 80


def test_the_cursor_is_restored_when_the_step_fails() -> None:
    program = """
from facegan.core.events import Progress
from facegan.cli.progress import Reporter

try:
    with Reporter("train") as report:
        report(Progress(1, 9))
        raise ValueError("ended")
except ValueError as error:
    print(error)
"""
    shown = run_on_terminal(program)
    assert "ended" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


def test_a_short_step_prints_one_line_at_its_end() -> None:
    program = """
from facegan.core.events import Progress
from facegan.cli.progress import Reporter

with Reporter("preprocess") as report:
    for done in range(1, 2001):
        report(Progress(done, 2000))
    report(Progress(2000, 2000))
"""
    assert run_plain(program).stderr == "preprocess: 2,000/2,000\n"


def test_a_long_step_estimates_the_time_left() -> None:
    program = """
from facegan.core.events import Metrics, Progress
from facegan.cli import progress

progress.PLAIN_INTERVAL = -1.0
with progress.Reporter("fetch") as report:
    report(Metrics({"MB/s": 5}))
    for done in (0, 1, 2):
        report(Progress(done, 2))
"""
    lines = run_plain(program).stderr.splitlines()
    assert lines == [
        "fetch: 0/2  MB/s 5",
        "fetch: 1/2  0:00:00 left  MB/s 5",
        "fetch: 2/2  MB/s 5",
    ]


def test_the_time_left_of_a_resumed_step_ignores_earlier_work() -> None:
    program = """
from facegan.core.events import Progress
import time
from facegan.cli import progress

progress.PLAIN_INTERVAL = -1.0
with progress.Reporter("train") as report:
    time.sleep(3)
    report(Progress(900, 1000))
    time.sleep(0.1)
    report(Progress(910, 1000))
"""
    line = run_plain(program).stderr.splitlines()[1]
    left = re.fullmatch(r"train: 910/1,000  0:00:(\d+) left", line)
    # 0.1 s for 10 images gives 1 s; counting the first 900 gives 0 s, the start 310 s.
    assert left is not None and 1 <= int(left[1]) <= 10


def test_other_events_are_ignored() -> None:
    program = """
from pathlib import Path
from facegan.core.events import Scored
from facegan.cli.progress import Reporter

with Reporter("train") as report:
    report(Scored(Path("somewhere"), 100, 1.0))
"""
    assert run_plain(program).stderr == ""


def test_a_closed_pipe_does_not_end_the_work() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", PROGRAM]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=writer, env=environment())
    os.close(writer)
    assert result.returncode == 0
