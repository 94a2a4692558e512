"""Other programs, asked with a time limit: git, DVC, nvidia-smi."""

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
    try:
        done = _run(*command)
    except subprocess.TimeoutExpired:
        advice = "see whether its server or disk hangs"
        raise FaceganError(f"{' '.join(command)}: not done in {TIMEOUT:g} s; {advice}") from None
    if done.returncode == 0:
        return 0, _text(done.stdout)
    lines = [line for line in _text(done.stderr).splitlines() if line.strip()]
    return done.returncode, (lines or [NO_REASON])[0].removeprefix("ERROR: ")


def answer(*command: str, status: int = 0) -> str:
    """Output of a command that ends with `status`; empty if it ends with another, or not in time,
    or is not installed."""
    try:
        done = _run(*command)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return _text(done.stdout) if done.returncode == status else ""


def _text(stream: bytes) -> str:
    return stream.decode("utf-8", "replace").strip()


def _run(*command: str) -> subprocess.CompletedProcess[bytes]:
    scripts = Path(sys.executable).parent  # has `dvc`, even if the venv is not activated
    environment = {
        **os.environ,
        "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "GIT_TERMINAL_PROMPT": "0",
        "DVC_NO_ANALYTICS": "1",
        "LC_ALL": "C",
    }
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TIMEOUT,
        env=environment,
    )
