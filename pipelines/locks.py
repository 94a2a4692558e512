"""One flow at a time in a workspace and on a GPU, and how a flow waits."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.settings import PREFECT_HOME
from prefect.states import Crashed, Running

from facegan.core.locks import flock
from facegan.core.parsing import parse_json


@dataclass(frozen=True)
class Workspace:
    """A repository that this flow run has for itself.

    Attributes:
        locks: file descriptors that child processes keep open, so that they hold the locks as well.
    """

    repository: Path
    locks: tuple[int, ...]


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say in the log, and in the flow run's state, what the block waits for."""
    get_run_logger().info("waiting for %s", what)
    _set_state(flow_run.id, Running(name="Waiting", message=f"for {what}"))
    yield
    _set_state(flow_run.id, Running())


def _set_state(run: str | None, state: State[Any]) -> None:
    # A server that is down for a while must not end a training; a run may be on another server.
    with suppress(httpx.HTTPError, ObjectNotFound), get_client(sync_client=True) as client:
        if run:
            client.set_flow_run_state(run, state)


@contextmanager
def exclusive(repository: Path, tmp_dir: Path) -> Iterator[Workspace]:
    """Hold the lock of the workspace, whose DVC has `tmp_dir`, waiting for it if necessary."""
    with hold(tmp_dir / "flow.lock", str(repository)) as lock:
        yield Workspace(repository, (lock,))


@contextmanager
def gpu(workspace: Workspace) -> Iterator[Workspace]:
    """Hold the lock of this process's GPU, one for all flows with the same PREFECT_HOME."""
    # Not Prefect's concurrency limits: a server that is restarted never frees their slots.
    numbers = os.environ.get("CUDA_VISIBLE_DEVICES", "0").replace("/", "-").split(",")
    with ExitStack() as stack:
        # Sorted, so that two flows never wait for one another.
        names = [f"gpu-{number}" for number in sorted(set(numbers))]
        locks = [stack.enter_context(hold(PREFECT_HOME.value() / f"{n}.lock", n)) for n in names]
        yield replace(workspace, locks=(*workspace.locks, *locks))


@contextmanager
def hold(path: Path, what: str) -> Iterator[int]:
    """Hold a lock, waiting for it if necessary, and yield its file descriptor.

    The kernel releases it with the last process that has the descriptor open. A flow run that the
    file still names then has been killed, and becomes `Crashed`.
    """
    with path.open("ab+") as file:
        try:
            flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with waiting(f"{_describe(_holder(path))}, which uses {what}"):
                flock(file.fileno(), fcntl.LOCK_EX)
        if killed := _holder(path):
            message = f"process {killed['pid']} was killed; flow run '{flow_run.name}' noticed it"
            _set_state(killed["id"], Crashed(message=message))
        path.write_text(
            json.dumps({"id": flow_run.id, "name": flow_run.name, "pid": os.getpid()}), "utf-8"
        )
        try:
            yield file.fileno()
        finally:
            path.write_text("", "utf-8")


def _holder(path: Path) -> dict[str, Any]:
    try:
        holder: dict[str, Any] = parse_json(path.read_text("utf-8"))
    except ValueError:  # empty, or half-written
        return {}
    return holder


def _describe(holder: dict[str, Any]) -> str:
    return f"flow run '{holder['name']}' (PID {holder['pid']})" if holder else "another flow run"
