"""The `facegan` command, run as a user runs it, or in this process."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

from facegan.cli.main import main

COLUMNS = {"COLUMNS": "200"}


def facegan(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("facegan")), *map(str, arguments)]
    environment = os.environ | COLUMNS
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def invoke(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """As `facegan`, but without the half to three seconds of a process's imports."""
    command = ["facegan", *map(str, arguments)]
    stdout, stderr, code = io.StringIO(), io.StringIO(), 0
    with (
        contextlib.chdir(cwd),
        mock.patch.dict(os.environ, COLUMNS),
        mock.patch.object(sys, "argv", command),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        try:
            main()
        except SystemExit as error:
            code = int(error.code or 0)
    return subprocess.CompletedProcess(command, code, stdout.getvalue(), stderr.getvalue())


def error_lines(result: subprocess.CompletedProcess[str]) -> list[str]:
    """Check that a command ended with a user error, and return the lines on stderr."""
    assert result.returncode == 1, result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if not line.startswith("preprocess: ")]
    assert lines
    assert all(line.startswith("facegan: ") for line in lines)
    return [line.removeprefix("facegan: ") for line in lines]
