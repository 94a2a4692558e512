"""Mirrors a training to MLflow from a child process, so that MLflow can neither delay nor stop it.

MLflow's client and those of its artifact stores have long timeouts, raise anything, and start
threads that outlive them. A child can be killed. This module loads no MLflow.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

from facegan.core.errors import Interrupted
from facegan.core.events import Event, Message, OnEvent, Scored
from facegan.tracking import record

# Seconds at the end of a training: since the child's last sign of life, and in all. A child that
# works on a local file is slow, but never hangs.
PATIENCE, LOCAL_PATIENCE, TOTAL, KILLED_TOTAL = 5.0, 60.0, 60.0, 5.0
LISTEN_INTERVAL = 0.2  # seconds
LATER = "training continues, and `facegan sync` brings MLflow up to date later"


class Mirror:
    """Forwards a training's events, and mirrors its history to MLflow at each score.

    Whatever fails gives one message. The history on disk is complete, and `facegan sync` and
    `facegan register` mirror what is missing. At the end the run is FINISHED; after a signal
    KILLED, after an error FAILED.

    Args:
        experiment: MLflow's experiment.
        device: as a run's tag tells it.
    """

    def __init__(self, experiment: str, on_event: OnEvent, device: str = "cpu") -> None:
        self.experiment, self.on_event, self.device = experiment, on_event, device
        self.child: subprocess.Popen[bytes] | None = None
        self.last: Scored | None = None
        self.said: set[str] = set()
        self.output = b""  # of the child, an unfinished line
        self.has_ended = False  # the child, or it was never started
        self.heard = 0.0  # monotonic time of its last sign of life
        self.listen_at = 0.0  # when to look for messages

    def __enter__(self) -> Self:
        return self

    def __call__(self, event: Event) -> None:
        self.on_event(event)
        is_score, now = isinstance(event, Scored), time.monotonic()
        if not is_score and now < self.listen_at:
            return  # a step may take a millisecond
        self.listen_at = now + LISTEN_INTERVAL
        with self._tolerant():
            if self.child is None and not self.has_ended:
                self._start()  # at the first event: only one of several processes has events
            if isinstance(event, Scored):
                self._note(event)
                self._send({"training": str(event.folder.absolute())})
            self._listen()

    def _start(self) -> None:
        self.has_ended = True  # unless it starts
        command = [sys.executable, "-P", "-m", "facegan.tracking.follower"]
        self.child = subprocess.Popen(
            [*command, self.experiment, self.device],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is for the training alone
        )
        self.has_ended, self.heard = False, time.monotonic()
        for pipe in (self.child.stdin, self.child.stdout):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)

    def _note(self, event: Scored) -> None:
        if self.last is None:
            record.write_run(event.folder, self.experiment, self.device)
        self.last = event
        record.add_score(event.folder, event.images_seen, event.images_per_second)

    def _send(self, message: dict[str, str]) -> None:
        if self.child is None or self.has_ended:
            return
        assert self.child.stdin is not None
        # The child needs the newest message only: one that finds a full pipe is dropped.
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(self.child.stdin.fileno(), (json.dumps(message) + "\n").encode())

    def _listen(self) -> None:
        """Pass the child's messages on."""
        if self.child is None or self.has_ended:
            return
        assert self.child.stdout is not None
        with suppress(BlockingIOError):
            while content := os.read(self.child.stdout.fileno(), 65_536):
                *lines, self.output = (self.output + content).split(b"\n")
                for line in lines:
                    if line:
                        self._say(line.decode("utf-8", "replace"))
                    else:
                        self.heard = time.monotonic()
            self.has_ended = True  # the end of its output
            if (status := self.child.wait()) != 0:
                self._say(f"MLflow: the mirror ended with status {status}; {LATER}")

    def _say(self, text: str) -> None:
        if text not in self.said:
            self.said.add(text)
            self.on_event(Message(text))

    @contextmanager
    def _tolerant(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            self._say(f"MLflow: {reason}; {LATER}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            with self._tolerant():
                if self.last is not None:
                    record.write_end(self.last.folder, _status(kind))
                    self._send({"training": str(self.last.folder.absolute())})
                    self._finish(TOTAL if kind is None else KILLED_TOTAL)
        finally:
            if self.child is not None:
                self.child.kill()
                self.child.wait()
                for pipe in (self.child.stdin, self.child.stdout):
                    assert pipe is not None
                    pipe.close()

    def _finish(self, total: float) -> None:
        """Wait for the child's last work: for a bounded time, and while it advances."""
        if self.child is None or self.has_ended:
            return
        assert self.child.stdin is not None
        self.child.stdin.close()
        is_local = "://" not in (uri := os.environ.get("MLFLOW_TRACKING_URI", ""))
        patience = LOCAL_PATIENCE if is_local or uri.startswith("sqlite") else PATIENCE
        end = time.monotonic() + total
        self.heard = time.monotonic()
        while not self.has_ended:
            now = time.monotonic()
            if now > end or now > self.heard + patience:
                if not self.said:
                    self._say("MLflow: no answer in time; `facegan sync` mirrors what is missing")
                return
            time.sleep(0.02)
            self._listen()


def _status(kind: type[BaseException] | None) -> str:
    if kind is None:
        return "FINISHED"
    return "KILLED" if issubclass(kind, Interrupted | KeyboardInterrupt | SystemExit) else "FAILED"
