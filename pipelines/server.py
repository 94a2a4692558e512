"""The Prefect server: whether there is one, a temporary one, and what finds killed runs."""

import atexit
import os
import socket
import subprocess
import sys
import tempfile
import time
from datetime import timedelta

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.context import refresh_global_settings_context
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.settings import PREFECT_API_URL, PREFECT_HOME

from facegan.core.addresses import public, public_text
from facegan.core.atomic import is_accessible
from facegan.core.errors import FaceganError
from pipelines.processes import GUARD

START = "run `prefect server start`, and set PREFECT_API_URL=http://127.0.0.1:4200/api"
START_TIMEOUT = 300  # seconds; the first start creates the database
# Seconds without a heartbeat, of which there is one every 30 seconds (pipelines/__init__.py). A
# restart of the server takes less.
SILENCE = 180
FINAL = ("Completed", "Failed", "Cancelled", "Crashed")


def check_server(advice: str) -> None:
    """Check that the Prefect server at PREFECT_API_URL answers.

    Raises:
        FaceganError: if it does not.
    """
    url = PREFECT_API_URL.value()
    if not url:
        raise FaceganError(f"no Prefect server, because PREFECT_API_URL is not set; {advice}")
    try:
        with get_client(sync_client=True) as client:
            client.api_version()  # unlike its health, it needs the password
    except httpx.InvalidURL:  # whose text can have a part of a password
        reason = "not an address; write / ? # @ and : of a password as %2F %3F %23 %40 and %3A"
        raise FaceganError(f"no Prefect server at {public(url)} ({reason}); {advice}") from None
    except (httpx.HTTPError, ValueError) as error:  # ValueError: not an address, or not an API
        reason = public_text(str(error)).partition("\n")[0] or type(error).__name__
        raise FaceganError(f"no Prefect server at {public(url)} ({reason}); {advice}") from error


def start_temporary_server() -> None:
    """Use a server that ends with this process, even if that is killed.

    Raises:
        FaceganError: if it does not start, or has nowhere to write.
    """
    home = PREFECT_HOME.value()
    if not is_accessible(home, os.W_OK):  # which the server would say in a traceback
        raise FaceganError(
            f"{home}: Prefect cannot write there; set PREFECT_HOME to another folder"
        )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--no-ui", "--no-scheduler", "--no-late-runs"]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        server = subprocess.Popen(
            [*GUARD, *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        # Closes its standard input, and waits; after Prefect's own handlers, which send the log.
        atexit.register(server.communicate)
        deadline = time.monotonic() + START_TIMEOUT
        while not _answers(f"{url}/health"):
            if server.poll() is not None or time.monotonic() > deadline:
                log.seek(0)
                last = log.read().strip().rpartition("\n")[2]
                raise FaceganError(f"Prefect's temporary server did not start ({last})")
            time.sleep(0.2)
    os.environ["PREFECT_API_URL"] = url
    refresh_global_settings_context()  # in Prefect's threads, too


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.HTTPError:
        return False


def wait_for_server() -> bool:
    """Wait for a server that is away, such as in a restart, and return whether it is back.

    After `SILENCE`, an automation has made the run `Crashed` anyway.
    """
    deadline, reason = time.monotonic() + SILENCE, ""
    while time.monotonic() < deadline:
        try:
            with get_client(sync_client=True) as client:
                client.api_version()
            return True
        except httpx.HTTPError as error:
            if not reason:
                reason = public_text(str(error)) or type(error).__name__
                text = "the Prefect server does not answer (%s); waiting for it, %d seconds at most"
                get_run_logger().warning(text, reason, SILENCE)
            time.sleep(1)
    return False


def ensure_automation(client: SyncPrefectClient, flow_name: str) -> None:
    """Create the automation that marks killed runs as `Crashed`, unless the server has it."""
    name = f"{flow_name}: crash runs that have no heartbeat"
    if not client.read_automations_by_name(name):
        client.create_automation(crash_zombies(name, flow_name))


def crash_zombies(name: str, flow_name: str) -> AutomationCore:
    """An automation for flow runs whose process or machine is gone."""
    heartbeat = "prefect.flow-run.heartbeat"
    return AutomationCore(
        name=name,
        trigger=EventTrigger(
            after={heartbeat},
            expect={heartbeat, *(f"prefect.flow-run.{state}" for state in FINAL)},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            match_related=ResourceSpecification(
                {"prefect.resource.role": "flow", "prefect.resource.name": flow_name}
            ),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=SILENCE),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                name=None,
                message=f"no heartbeat for {SILENCE} seconds",
                force=False,
            )
        ],
    )
