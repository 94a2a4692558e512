"""Child processes of a flow, which end with it."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from prefect import get_run_logger
from prefect.runtime import flow_run

from pipelines import guard

TIMEOUT = 300  # seconds; MLflow may be far away
GUARD = [sys.executable, "-P", guard.__file__]


def environment() -> dict[str, str]:
    """The environment of a flow's child processes."""
    scripts = Path(sys.executable).parent  # has `facegan`, even if the venv is not activated
    return {
        **os.environ,
        "PATH": f"{scripts}:{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",
        "PREFECT__FLOW_RUN_ID": flow_run.id or "",  # a tag of the MLflow run
    }


def output(command: list[str], directory: Path, lacking: str, content: str = "") -> str:
    """Run a process on whose output no result depends, and return what it prints.

    Args:
        lacking: what there is not after a failure, which is a warning; the output is then empty.
        content: of its standard input.
    """
    try:
        return subprocess.run(
            command,
            input=content,
            cwd=directory,
            env=environment(),
            capture_output=True,
            encoding="utf-8",
            timeout=TIMEOUT,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        last = str(getattr(error, "stderr", "") or error).strip().rpartition("\n")[2]
        get_run_logger().warning("%s: %s", lacking, last)
        return ""


def run(
    command: list[str], directory: Path, held: Sequence[int], read: Callable[[str], None]
) -> int:
    """Run a process, and return its exit status.

    After an exception such as Ctrl-C, and if this process is killed, it ends within GRACE seconds,
    and so do its children.

    Args:
        held: file descriptors that stay open until the last of them has ended.
        read: takes each line that they print.
    """
    child = subprocess.Popen(
        [*GUARD, *command],
        cwd=directory,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
        pass_fds=held,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        for line in child.stdout:
            read(line.rstrip())
    finally:
        with suppress(BrokenPipeError):
            child.stdin.close()
        for line in child.stdout:  # it may say what it saved
            read(line.rstrip())
        child.stdout.close()
        status = child.wait()
    return status
