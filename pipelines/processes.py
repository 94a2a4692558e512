"""Child processes of a flow, which end with it."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from prefect.runtime import flow_run

from pipelines import guard

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
