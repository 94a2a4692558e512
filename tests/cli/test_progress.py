import os
import pty
import re
import subprocess
import sys

PROGRAM = """
from facegan.core.events import Message, Metrics, Progress
from facegan.cli.progress import Reporter

with Reporter("train") as report:
    report(Message("going on from [bold]5[/bold] of 1,500 images seen"))
    for done in range(500, 2000, 500):
        report(Metrics({"quick FID": 12.3456, "images/s": 98765.4321}))
        report(Progress(done, 1500))
"""
MESSAGE = "train: going on from [bold]5[/bold] of 1,500 images seen"


def run_plain(program: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment())


def environment(**more: str) -> dict[str, str]:
    # What would make rich believe in another terminal.
    hidden = ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "TERM", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
    return {k: v for k, v in os.environ.items() if k not in hidden} | more


def run_on_terminal(program: str) -> str:
    """All that the program writes to its terminal."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=environment(TERM="xterm", COLUMNS="120"),
    )
    os.close(terminal)
    content = b""
    try:
        while chunk := os.read(controller, 65536):
            content += chunk
    except OSError:
        pass  # Linux says so that the other end is closed
    finally:
        os.close(controller)
    assert process.wait() == 0
    return content.decode()


def test_without_a_terminal_there_are_plain_lines_on_stderr() -> None:
    result = run_plain(PROGRAM)
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        MESSAGE,
        "train: 1,500/1,500  quick FID 12.35  images/s 9.877e+04",
    ]


def test_on_a_terminal_there_is_a_bar_with_the_figures_beside_it() -> None:
    shown = run_on_terminal(PROGRAM)
    assert "\x1b[" in shown
    assert "━" in shown
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert MESSAGE in text
    assert "1500/1500" in text
    assert "quick FID 12.35" in text


def test_a_terminals_cursor_comes_back_when_the_step_fails() -> None:
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


def test_the_end_is_told_once_and_little_before_it() -> None:
    program = """
from facegan.core.events import Progress
from facegan.cli.progress import Reporter

with Reporter("preprocess") as report:
    for done in range(1, 2001):
        report(Progress(done, 2000))
    report(Progress(2000, 2000))
"""
    assert run_plain(program).stderr == "preprocess: 2,000/2,000\n"


def test_a_long_step_tells_how_long_it_will_take() -> None:
    program = """
from facegan.core.events import Progress
from facegan.cli import progress

progress.PLAIN_INTERVAL = -1.0
with progress.Reporter("fetch") as report:
    for done in (0, 1, 2):
        report(Progress(done, 2))
"""
    lines = run_plain(program).stderr.splitlines()
    assert [re.sub(r"\d+ s", "N s", line) for line in lines] == [
        "fetch: 0/2",
        "fetch: 1/2  N s left",
        "fetch: 2/2",
    ]


def test_the_time_left_counts_from_where_a_resumed_step_went_on() -> None:
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
    left = re.fullmatch(r"train: 910/1,000  (\d+) s left", line)
    # 0.1 s for 10 of them; 0 or 310 s if the start or the first 900 counted.
    assert left is not None and 1 <= int(left[1]) <= 10


def test_other_events_are_passed_over() -> None:
    program = """
from pathlib import Path
from facegan.core.events import Scored
from facegan.cli.progress import Reporter

with Reporter("train") as report:
    report(Scored(Path("somewhere"), 100, 1.0))
"""
    assert run_plain(program).stderr == ""
