"""The child process of `Mirror`: mirrors a training to MLflow while it runs.

Reads lines of JSON from stdin, one for each score. Each line on stdout is a message for the user;
an empty one is a sign of life. When stdin ends, the training has ended, whether or not it said so:
the run gets its final state, and the process ends.
"""

import os
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from facegan.core.parsing import parse_json
from facegan.tracking import provenance, record

# Seconds that the last update may take once nobody waits for it any more.
LAST = 60
# Seconds between tries after failures: doubled each time, up to the maximum.
FIRST_DELAY, MAX_DELAY = 5.0, 300.0
SETTINGS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # it is tried again at the next score
    "AWS_MAX_ATTEMPTS": "2",
    "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "10",  # seconds
    "MLFLOW_SYSTEM_METRICS_SAMPLES_BEFORE_LOGGING": "3",
}
NICENESS = 5  # training goes first
STDIN, STDOUT = 0, 1


class Inbox:
    """The lines on stdin."""

    def __init__(self) -> None:
        self.buffer, self.is_open = b"", True

    def newest(self, timeout: float | None) -> str | None:
        """The last complete line, after at most `timeout` seconds; None if there is none."""
        ready, _, _ = select.select([STDIN], [], [], timeout)
        while ready and self.is_open:
            content = os.read(STDIN, 65_536)
            self.is_open, self.buffer = bool(content), self.buffer + content
            ready, _, _ = select.select([STDIN], [], [], 0)
        *lines, self.buffer = self.buffer.split(b"\n")
        return lines[-1].decode() if lines else None


class Follower:
    """Mirrors one training; after a failure, it waits before it tries again."""

    def __init__(self, experiment: str) -> None:
        from facegan.tracking.live import LiveRun

        self.run = LiveRun(experiment, lambda: _say(""))
        self.delay, self.retry_at = 0.0, 0.0
        self.is_behind = False

    def timeout(self) -> float | None:
        """Seconds until the next try; None if nothing is due."""
        return max(self.retry_at - time.monotonic(), 0.0) if self.is_behind else None

    def update(self, training: Path, now: bool = False) -> None:
        """Mirror, unless a failure was too short a time ago."""
        self.is_behind = True
        if not now and time.monotonic() < self.retry_at:
            return
        try:
            self.run.update(training)
            self.is_behind, self.delay = False, 0.0
        except Exception as error:
            _say(self.run.explain(error))
            self.delay = min(max(2 * self.delay, FIRST_DELAY), MAX_DELAY)
            self.retry_at = time.monotonic() + self.delay


def main() -> None:
    """Follow a training until stdin ends."""
    experiment, device = sys.argv[1:3]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICENESS)
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    tags = provenance.tags(device)
    follower = Follower(experiment)
    _say("")
    inbox, training = Inbox(), None
    while inbox.is_open:
        line = inbox.newest(follower.timeout())
        if line and training is None:
            training = Path(parse_json(line)["training"])
            _keep_provenance(training, tags)
        if training is not None and inbox.is_open:
            follower.update(training)
    if training is not None:
        signal.alarm(LAST)  # ends this process
        if not record.read_record(training).end:
            record.write_end(training, "KILLED")
        follower.update(training, now=True)
    os._exit(0)  # threads of MLflow's clients must not keep this process


def _keep_provenance(training: Path, tags: dict[str, str]) -> None:
    """Write where the training comes from, once for a training that is resumed."""
    if not record.read_record(training).run.get("tags"):
        provenance.write_files(training / record.FOLDER / record.FILES)
        record.write_tags(training, tags)


def _say(text: str) -> None:
    with suppress(BrokenPipeError):  # nobody listens any more
        os.write(STDOUT, f"{text}\n".encode())


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        _say(f"MLflow: the mirror failed ({type(error).__name__}: {error})")
        raise
