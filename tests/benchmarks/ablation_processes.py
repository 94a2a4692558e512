"""The `facegan` processes of an ablation: side by side, each for a limited time."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from facegan.core.errors import FaceganError

POLL = 0.1  # seconds
# Seconds from SIGTERM to SIGKILL. A checkpoint, or a score that cannot be interrupted, comes first.
GRACE = 120.0
# These change which training a command continues, or delete it afterwards.
IGNORED = ("FACEGAN_RESUME", "FACEGAN_FINISH", "FACEGAN_CHECKPOINTS_BUDGET")


class Stopped(Exception):
    """The ablation itself received a signal."""


class Processes:
    """Runs `facegan` commands, from any thread.

    Args:
        environment: variables besides this process's.
    Attributes:
        stopped: whether to end all of them; a plain flag, because signal handlers set it.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        inherited = {name: value for name, value in os.environ.items() if name not in IGNORED}
        self.environment = {**inherited, **environment}
        self.stopped = False

    def stop(self, *_: object) -> None:
        """End all commands; a signal handler."""
        self.stopped = True

    def run(self, arguments: list[str | Path], log: Path, seconds: float | None = None) -> bool:
        """Run a command to its end, with its output in `log`.

        Args:
            seconds: after which it gets SIGTERM; None: never.
        Returns:
            Whether it came to its own end.
        Raises:
            Stopped: if the ablation is to stop.
            FaceganError: if the command fails, with its last line.
        """
        if self.stopped:
            raise Stopped
        command = [sys.executable, "-m", "facegan", *map(str, arguments)]
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            file.write(f"$ {shlex.join(command[1:])}\n".encode())
            file.flush()
            begin = file.tell()
            # A group of its own: Ctrl-C would be a second signal, after which no checkpoint is
            # written.
            process = subprocess.Popen(
                command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        timed_out = self._wait(process, seconds)
        if self.stopped:
            raise Stopped
        if process.returncode == 0:
            return True
        if timed_out:
            return False
        raise FaceganError(_reason(log, begin, process.returncode))

    def _wait(self, process: subprocess.Popen[bytes], seconds: float | None) -> bool:
        """Wait for the end; whether the process was asked to stop, because its time is up."""
        began, asked = time.monotonic(), None
        while process.poll() is None:
            now = time.monotonic()
            if asked is None and (self.stopped or (seconds is not None and now > began + seconds)):
                asked = now
                _signal(process, signal.SIGTERM)
            elif asked is not None and now > asked + GRACE:
                _signal(process, signal.SIGKILL)
            time.sleep(POLL)
        return asked is not None


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _reason(log: Path, begin: int, status: int) -> str:
    """The last error in a log from byte `begin` on."""
    lines = log.read_bytes()[begin:].decode("utf-8", "replace").splitlines()
    own = [line.removeprefix("facegan: ") for line in lines if line.startswith("facegan: ")]
    last = [line.strip() for line in lines if line.strip()]
    ended = f"signal {-status}" if status < 0 else f"status {status}"
    return (own or last or [f"ended with {ended}"])[-1]
