"""Other programs, asked with a time limit."""

import os
import subprocess
import sys
from pathlib import Path

from facegan.core.errors import FaceganError

TIMEOUT = 45.0  # seconds; on a busy machine, DVC takes 15 to start
NO_REASON = "no reason given"


def output(*command: str) -> tuple[int, str]:
    """Run a command.

    Returns:
        Its exit status, and its output or, if it failed, the first line of its error.
    Raises:
        FileNotFoundError: if there is no such program.
        FaceganError: if it does not end in time.
    """
    scripts = Path(sys.executable).parent  # has `dvc`, even if the venv is not activated
    environment = {
        **os.environ,
        "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "GIT_TERMINAL_PROMPT": "0",
        "DVC_NO_ANALYTICS": "1",
        "LC_ALL": "C",
    }
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        advice = "see whether its server or disk hangs"
        raise FaceganError(f"{' '.join(command)}: not done in {TIMEOUT:g} s; {advice}") from None
    if done.returncode == 0:
        return 0, done.stdout.strip()
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return done.returncode, (lines or [NO_REASON])[0].removeprefix("ERROR: ")
