"""MLflow's UI on this machine, and the addresses of a project's pages in it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from types import FrameType
from typing import IO
from urllib.parse import quote, urlencode, urlsplit

from mlflow import MlflowClient

from facegan.core.errors import FaceganError
from facegan.tracking import connection, store, views
from facegan.tracking.errors import redact

HOST, PORT = "127.0.0.1", 5000
# MLflow 3 opens its pages in a view for language models unless the address says otherwise.
VIEW = {"workflowType": "machine_learning"}
SERVER_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Seven more processes, for jobs of language models.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STARTUP, SHUTDOWN = 120.0, 10.0  # seconds


def pages(address: str, name: str, run: str | None = None) -> list[tuple[str, str]]:
    """Titles and addresses of a project's pages.

    Those of runs and of the model are left out as long as there are none. The runs' columns and
    charts are those of `views`, if the experiment has scores.

    Args:
        address: of MLflow's server.
        name: of the experiment and the registered model.
        run: the id of a run with a page of its own.
    Raises:
        FaceganError: if MLflow cannot be reached.
    """
    all_experiments = [("experiments", f"{address}/#/experiments?{urlencode(VIEW)}")]
    if not connection.has_store():
        return all_experiments
    client = connection.connect()
    with connection.translate_errors():
        found = client.get_experiment_by_name(name)
        if found is None:
            return all_experiments
        experiment = str(found.experiment_id)
        runs = client.search_runs([experiment], max_results=2, order_by=["start_time DESC"])
        last = [run.info.run_id for run in reversed(runs)]
        query = VIEW | ({"viewStateShareKey": views.KEY} if views.TAG in found.tags else {})
        table = f"{address}/#/experiments/{experiment}/runs?{urlencode(query)}"
        found_pages = [("runs", table), ("charts", f"{table}&compareRunsMode=CHART")]
        if run:
            page = f"{address}/#/experiments/{experiment}/runs/{run}?{urlencode(VIEW)}"
            found_pages.append(("run", page))
        if len(last) == 2:
            query = {"runs": _json(last), "experiments": _json([experiment]), **VIEW}
            found_pages.append(("comparison", f"{address}/#/compare-runs?{urlencode(query)}"))
        if _has_model(client, name):
            model = f"{address}/#/models/{quote(name, safe='')}?{urlencode(VIEW)}"
            found_pages.append(("model", model))
    return found_pages


def _json(values: list[str]) -> str:
    return json.dumps(values, separators=(",", ":"))


def _has_model(client: MlflowClient, name: str) -> bool:
    return bool(client.search_registered_models(connection.named(name), max_results=1))


@contextmanager
def server(port: int | None) -> Iterator[tuple[str, subprocess.Popen[bytes] | None]]:
    """MLflow's server on the loopback interface, for the length of the block.

    Args:
        port: by default 5000, or a free one where that is taken.
    Yields:
        Its address and process; the address of `MLFLOW_TRACKING_URI` and None if that is a server.
    Raises:
        FaceganError: if the port is taken, or the server does not start.
    """
    connection.connect()  # creates a store under its lock
    uri = connection.tracking_uri()
    if uri.startswith(("http://", "https://")):
        yield remote_address(uri), None
        return
    address = f"http://{HOST}:{_free(port)}"
    with TemporaryFile() as log, _process(uri, address, log) as process:
        _wait_until_ready(process, address, log)
        yield address, process


def remote_address(uri: str) -> str:
    """A server's address without credentials; that of `facegan ui` for another store."""
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https"):
        return f"http://{HOST}:{PORT}"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


def _free(port: int | None) -> int:
    for candidate in (PORT, 0) if port is None else (port,):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                probe.bind((HOST, candidate))
                return int(probe.getsockname()[1])
    raise FaceganError(f"port {port} is taken; choose another --port")


@contextmanager
def _process(uri: str, address: str, log: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    path = store.database(uri)
    artifacts = (path.parent if path else Path()) / store.ARTIFACTS
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
    command += ["--host", HOST, "--port", address.rpartition(":")[2]]
    command += ["--default-artifact-root", str(artifacts.absolute())]
    # By environment, so that no password is in the list of processes.
    environment = os.environ | SERVER_SETTINGS | {"MLFLOW_BACKEND_STORE_URI": uri}
    environment.pop("MLFLOW_TRACKING_URI", None)
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,  # ends as a group, with the server's own children
    )
    previous = {number: signal.signal(number, _interrupt) for number in STOP_SIGNALS}
    try:
        yield process
    except KeyboardInterrupt:
        pass
    finally:
        for number in STOP_SIGNALS:  # a second Ctrl-C must not leave a process behind
            signal.signal(number, signal.SIG_IGN)
        _end(process)
        for number, handler in previous.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server and its children; none is left."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(SHUTDOWN)


def _wait_until_ready(process: subprocess.Popen[bytes], address: str, log: IO[bytes]) -> None:
    end = time.monotonic() + STARTUP
    while time.monotonic() < end and process.poll() is None:
        with suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=5):
            return
        time.sleep(0.1)
    log.seek(0)
    lines = log.read().decode("utf-8", "replace").strip().splitlines() or ["no answer"]
    raise FaceganError(redact(f"MLflow's server at {address} did not start: {lines[-1]}"))


def wait(process: subprocess.Popen[bytes]) -> None:
    """Wait until the server ends, or Ctrl-C.

    Raises:
        FaceganError: if the server ended by itself.
    """
    raise FaceganError(f"MLflow's server ended with status {process.wait()}")
