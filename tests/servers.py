"""Local servers that tests start: a free port, waiting until a server answers, MLflow's server."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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


@contextmanager
def mlflow_ui(folder: Path) -> Iterator[str]:
    """Start MLflow's UI in `folder`, as the README does, and yield its URL."""
    port = free_port()
    options = ("--backend-store-uri", "sqlite:///mlflow.db", "--port", str(port))
    command = [str(Path(sys.executable).with_name("mlflow")), "ui", *options]
    # 7 s of CPU time instead of 16, and no processes for jobs of language models.
    environment = os.environ | {
        "MLFLOW_WORKERS": "1",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with (folder.parent / "ui.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait(lambda: answers(url), 120)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


class MlflowServer:
    """A real `mlflow server`, with artifacts through it, that can be hung, killed and restarted.

    Args:
        folder: of its log, and of its store unless `options` name another.
        options: of `mlflow server`, for another store.
        environment: beside this process's.
    """

    def __init__(
        self,
        folder: Path,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.options = options or (
            *("--artifacts-destination", f"{folder}/artifacts"),
            *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
        )
        self.environment = environment or {}
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host"]
        command += ["127.0.0.1", "--port", str(self.port), *self.options]
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
            environment.pop(name, None)
        log = self.folder / "server.log"
        with log.open("a") as output:
            self.process = subprocess.Popen(
                command,
                env={**environment, **self.environment},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        wait(lambda: self.process.poll() is not None or answers(f"{self.url}/health"), 400)
        assert self.process.poll() is None, log.read_text()

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
