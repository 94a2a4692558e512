"""The `facegan` command, run as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path


def facegan(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("facegan")), *map(str, arguments)]
    environment = os.environ | {"COLUMNS": "200"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def error_lines(result: subprocess.CompletedProcess[str]) -> list[str]:
    """Check that a command ended with a user error, and return the lines on stderr."""
    assert result.returncode == 1, result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if not line.startswith("preprocess: ")]
    assert lines
    assert all(line.startswith("facegan: ") for line in lines)
    return [line.removeprefix("facegan: ") for line in lines]
