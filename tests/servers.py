"""Local servers that tests start: a free port, waiting until a server answers, MLflow's server."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


def wait(ready: Callable[[], bool], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"not ready after {seconds} s"
        time.sleep(0.1)


class MlflowServer:
    """A real `mlflow server`, with artifacts through it, that can be hung, killed and restarted."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host"]
        command += ["127.0.0.1", "--port", str(self.port), "--artifacts-destination"]
        command += [f"{self.folder}/artifacts", "--backend-store-uri"]
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        environment.pop("MLFLOW_TRACKING_URI", None)
        with (self.folder / "server.log").open("a") as log:
            self.process = subprocess.Popen(
                [*command, f"sqlite:///{self.folder}/mlflow.db"],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait(lambda: answers(f"{self.url}/health"))

    def signal(self, number: signal.Signals) -> None:
        os.killpg(self.process.pid, number)

    def hang(self) -> None:
        """Accept connections, and never answer."""
        self.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.process.wait()
