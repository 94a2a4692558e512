"""Whether the servers of `make stack` run and answer."""

import subprocess
import time
import xmlrpc.client
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from facegan.core.errors import FaceganError
from pipelines.deployment import place

ROOT = Path(__file__).parents[1]
ORDER = (("postgres", "s3"), ("mlflow", "prefect"), ("worker",))
TIMEOUT = 300  # seconds within which all have to be healthy


class Supervisor:
    """A supervisord that was just started, and its interface."""

    def __init__(
        self, process: subprocess.Popen[bytes], environment: Mapping[str, str], folder: Path
    ) -> None:
        self.process, self.environment, self.folder = process, environment, folder
        login = f"stack:{environment['STACK_PASSWORD']}"
        url = f"http://{login}@127.0.0.1:{environment['STACK_PORT']}/RPC2"
        self.interface: Any = xmlrpc.client.ServerProxy(url).supervisor

    def processes(self) -> dict[str, tuple[str, int]]:
        """State and process id by program. Empty until supervisord answers.

        Raises:
            FaceganError: if supervisord ended, or a program does not start in several attempts.
        """
        try:
            found = self.interface.getAllProcessInfo()
        except (OSError, xmlrpc.client.Error):  # Error: it shuts down
            if self.process.poll() is not None:
                raise self.failed("supervisord") from None
            return {}
        states = {each["name"]: (each["statename"], each["pid"]) for each in found}
        for name, (state, _) in states.items():
            if state == "FATAL":
                raise self.failed(name)
        return states

    def failed(self, name: str) -> FaceganError:
        """With the last line of the program's log."""
        log = self.folder / f"{name}.log"
        lines = log.read_text(errors="replace").split("\n") if log.exists() else []
        last = next((line.strip() for line in reversed(lines) if line.strip()), "no output")
        return FaceganError(f"{name} does not run ({last}); see {log}")


def start(supervisor: Supervisor, clients: Mapping[str, str], programs: Path) -> None:
    """Start the servers, each after those that it needs, and print a line once one answers.

    Args:
        clients: the environment of those who use the servers.
        programs: PostgreSQL's.

    Raises:
        FaceganError: if one of them ended, or does not answer in time.
    """
    begun, started = time.monotonic(), datetime.now(UTC)
    checks = {
        "postgres": lambda: postgres_answers(programs, supervisor.environment),
        "s3": lambda: status(clients["AWS_ENDPOINT_URL"]) != 0,  # 400: it wants a key
        "mlflow": lambda: status(f"{clients['MLFLOW_TRACKING_URI']}/health") == 200,
        "prefect": lambda: status(f"{clients['PREFECT_API_URL']}/health") == 200,
        "worker": lambda: worker_polls(clients, started),
    }
    while not supervisor.processes():
        time.sleep(0.1)
    for names in ORDER:
        waiting = list(names)
        for name in names:
            supervisor.interface.startProcess(name, False)
        while waiting:
            supervisor.processes()
            for name in [each for each in waiting if checks[each]()]:
                waiting.remove(name)
                print(f"{name}: healthy after {time.monotonic() - begun:.0f} s", flush=True)
            if waiting and time.monotonic() - begun > TIMEOUT:
                raise supervisor.failed(waiting[0])
            time.sleep(0.5)


def watch(supervisor: Supervisor) -> None:
    """Print a line whenever supervisord has started a server again. Ends with an exception.

    Raises:
        FaceganError: if supervisord ended, or a server does not start any more.
    """
    known = supervisor.processes()
    while True:
        time.sleep(1)
        for name, (state, pid) in supervisor.processes().items():
            if state == "RUNNING" and pid != known[name][1]:
                log = supervisor.folder / f"{name}.log"
                print(f"{name}: ended and was started again; see {log}", flush=True)
                known[name] = state, pid


def postgres_answers(programs: Path, environment: Mapping[str, str]) -> bool:
    command = [str(programs / "pg_isready"), "--quiet"]  # PGHOST, PGPORT and PGUSER say where
    return subprocess.run(command, env=dict(environment)).returncode == 0


def status(url: str) -> int:
    """HTTP status of a GET request; 0 if there is no answer."""
    try:
        return httpx.get(url, timeout=5).status_code
    except httpx.HTTPError:
        return 0


def worker_polls(clients: Mapping[str, str], started: datetime) -> bool:
    """Whether this project's schedule has asked the server for runs since `started`."""
    user, _, password = clients["PREFECT_API_AUTH_STRING"].partition(":")
    try:
        answer = httpx.post(
            f"{clients['PREFECT_API_URL']}/deployments/filter",
            json={"deployments": {"tags": {"all_": [place(ROOT)]}}},
            auth=(user, password),
            timeout=5,
        ).raise_for_status()
    except httpx.HTTPError:
        return False
    polled = [each["last_polled"] for each in answer.json() if each["last_polled"]]
    return any(datetime.fromisoformat(each) > started for each in polled)
