"""Other programs, asked with a time limit."""

import os
import subprocess
import sys
from pathlib import Path

TIMEOUT = 15.0  # seconds; less than a check may take
NO_REASON = "no reason given"


def output(*command: str) -> tuple[int, str]:
    """Run a command.

    Returns:
        Its exit status, and its output or, if it failed, the first line of its error.
    Raises:
        FileNotFoundError: if there is no such program.
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
        return 124, f"no answer within {TIMEOUT:g} s"
    if done.returncode == 0:
        return 0, done.stdout.strip()
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return done.returncode, (lines or [NO_REASON])[0].removeprefix("ERROR: ")
