"""DVC as a child process of a flow, its output in Prefect's log, its progress in an artifact."""

import re
import sys
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from dvc.commands.status import CmdDataStatus
from dvc.lock import LockError
from dvc.repo import Repo
from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.events import emit_event

from facegan.core.errors import Unavailable
from facegan.doctor.workspace import half_written
from pipelines import processes
from pipelines.locks import Workspace, waiting

PROGRESS = re.compile(r"([a-z]+): ([\d,]+)/([\d,]+)(?:\s|$)")  # facegan.cli.progress
PROMOTED = re.compile(r"register: promoted: (.+)")  # facegan.cli.stages
PROMOTION_EVENT = "facegan.champion.promoted"  # on the Prefect server
LOGGED = 0.05  # share of the work between two lines of the log, so that a night is readable
SHOW_INTERVAL = 5.0  # seconds between two updates of the artifact
# Another DVC process uses the same files.
BUSY = re.compile(r"ERROR: .* is busy, it is being blocked by")
PROCESS = re.compile(r"\(PID \d+\): .+")
BUSY_INTERVAL = 5  # seconds between tries
# Seconds before another try: remote storage and MLflow come back by themselves.
BACK_OFF: list[float] = [10, 60, 300]


class Output:
    """What DVC prints, line by line, and its exit status."""

    def __init__(self, stage: str, pulls: bool) -> None:
        self.stage, self.pulls = stage, pulls
        self.tail = deque([f"stage '{stage}'"], maxlen=2)  # the command's last line, then DVC's
        self.busy: list[str] = []  # DVC's error if another DVC process is at work
        self.started = False  # the stage's own command
        self.restored = False
        self.status = 0
        self.logged = -1.0  # share of the work at the last logged line
        self.artifact: UUID | None = None
        self.shown = 0.0  # when the artifact was updated

    def read(self, line: str) -> None:
        if not any(map(str.isalnum, line)):
            return  # blank, or a frame
        if self.busy or BUSY.match(line):
            self.busy.append(line)
            return
        self.started |= line == f"Running stage '{self.stage}':"
        if line == f"Stage '{self.stage}' is cached - skipping run, checking out outputs":
            self.restored = True
        if promoted := PROMOTED.fullmatch(line):
            resource = {"prefect.resource.id": "facegan.champion"}
            emit_event(PROMOTION_EVENT, resource, payload={"promotion": promoted[1]})
        if line != self.tail[-1]:  # DVC repeats the error of an experiment
            self.tail.append(line)
        if self._is_worth_a_line(line):
            get_run_logger().info("%s", line)

    def _is_worth_a_line(self, line: str) -> bool:
        found = PROGRESS.match(line)
        if not found:
            return True
        done, total = (int(number.replace(",", "")) for number in found.groups()[1:])
        share = done / max(total, 1)
        if share == 1 or time.monotonic() - self.shown > SHOW_INTERVAL:
            self.shown = time.monotonic()
            self._show(100 * share, line)
        if share < 1 and self.logged <= share < self.logged + LOGGED:
            return False
        self.logged = share
        return True

    def _show(self, percent: float, line: str) -> None:
        # A server that is down for a while must not end a training.
        with suppress(httpx.HTTPError):
            if self.artifact is None:
                key = f"{line.partition(':')[0]}-progress"
                artifact = create_progress_artifact(percent, key=key, description=line)
                assert isinstance(artifact, UUID)  # a coroutine in asynchronous flows
                self.artifact = artifact
            else:
                update_progress_artifact(self.artifact, percent, description=line)

    @property
    def blocker(self) -> str:
        """The other DVC process because of which this one has done nothing."""
        found = PROCESS.search("\n".join(self.busy))
        return f"DVC, which runs in this workspace: {found.group() if found else 'another process'}"

    @property
    def unchanged(self) -> bool:
        return bool(self.tail[-1] == CmdDataStatus.UP_TO_DATE_MSG)

    @property
    def is_transient(self) -> bool:
        """The stage's command found MLflow away, or DVC its remote. A stage that fails stays so."""
        if self.status == 0:
            return False
        is_away = self.tail[-1].endswith(f"exited with {Unavailable.STATUS}")
        return is_away or (self.pulls and not self.started)

    @property
    def failure(self) -> str:
        """One line that says why: the command's last one, and DVC's."""
        return "; ".join(line.removeprefix("ERROR: ") for line in self.tail)


def run_dvc(arguments: list[str], name: str, workspace: Workspace) -> Output:
    """Run DVC in the workspace, and log what it prints.

    After any other DVC process there; again if MLflow or DVC's remote is away.

    Args:
        name: of the stage, or of what is done.
    """
    output = _run_alone(arguments, name, workspace)
    for seconds in BACK_OFF:
        if not output.is_transient:
            break
        get_run_logger().warning("%s; trying again in %g seconds", output.failure, seconds)
        time.sleep(seconds)
        output = _run_alone(arguments, name, workspace)
    return output


def _run_alone(arguments: list[str], name: str, workspace: Workspace) -> Output:
    _wait_for_repository(workspace.repository)
    output = _run(arguments, name, workspace)
    if output.busy:
        with waiting(output.blocker):
            while output.busy:
                time.sleep(BUSY_INTERVAL)
                output = _run(arguments, name, workspace)
    return output


def _wait_for_repository(repository: Path) -> None:
    """Wait for DVC's lock of the repository, which `dvc push` and the like hold all the time.

    Deletes what an interrupted DVC left that would make the next one fail.
    """
    with Repo(repository) as repo:
        if not _is_free(repo):
            with waiting("DVC, which runs in this workspace"):
                while not _is_free(repo):
                    pass  # each try takes 3 seconds
        for path in half_written(Path(repo.cache.legacy.path)):
            with suppress(OSError):  # another project that shares the cache was as quick
                path.rmdir() if path.is_dir() else path.unlink()


def _is_free(repo: Any) -> bool:
    try:
        with repo.lock:
            return True
    except LockError:
        return False


def _run(arguments: list[str], name: str, workspace: Workspace) -> Output:
    output = Output(name, pulls="--pull" in arguments)
    # DVC takes its lock again after a training: it must wait then, not fail.
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", *arguments]
    output.status = processes.run(command, workspace.repository, workspace.locks, output.read)
    return output
