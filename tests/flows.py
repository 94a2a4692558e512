"""The Prefect flows, run as users run them, on a small repository with dummy stages."""

import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import httpx

from servers import answers, free_port, wait

ROOT = Path(__file__).parents[1]
Environment = dict[str, str]
Run = subprocess.CompletedProcess[str]
Copy = Callable[..., Path]

# In neither alphabetical nor topological order.
DVC_YAML = """\
stages:
  register:
    meta: {report: cat report.md}
    cmd: cat evaluated && echo register >> log
    deps: [evaluated]
  evaluate:
    cmd: cp trained evaluated && echo evaluate >> log
    deps: [trained]
    outs: [evaluated]
  preprocess:
    cmd: cat data/* > dataset && echo preprocess >> log
    deps: [data]
    outs: [dataset]
  train:
    meta: {gpu: true}
    cmd: cp dataset trained && echo train >> log
    deps: [dataset]
    outs: [trained]
"""
TRAIN = "cp dataset trained && echo train >> log"
# A training that waits until it may end, and saves a checkpoint if it is told to stop. Not with
# `sleep` in the foreground: the shell would report its end, to a flow that was killed.
WAITING = (
    "trap 'touch saved; echo saved; exit 1' TERM; touch started; "
    f"until test -e go; do sleep 0.1 & wait; done; {TRAIN}"
)


@contextmanager
def prefect_server(
    environment: Environment, folder: Path, port: int | None = None
) -> Iterator[str]:
    """Start a real Prefect server, and yield the address of its API."""
    port = port or free_port()
    url = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1"]
    quiet = environment | {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1",
        "PREFECT_UI_API_URL": url,  # else its page asks port 4200
    }  # fmt: skip
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--port", str(port)], env=quiet, stdout=log, stderr=log
        )
    try:
        wait(lambda: answers(f"{url}/health"), 400)
        yield url
    finally:
        server.terminate()
        server.wait(30)


@contextmanager
def serving(environment: Environment, root: Path, *arguments: str) -> Iterator[Path]:
    """Run `python -m pipelines.schedule` in a repository, and yield its log."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "pipelines", root / "pipelines", ignore=ignore, dirs_exist_ok=True)
    log = root.parent / "schedule.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.schedule", *arguments],
            cwd=root,
            env=environment | {"PYTHONPATH": f"{root}:{ROOT / 'src'}"},
            stdout=file,
            stderr=file,
        )
    try:
        yield log
    finally:
        process.terminate()
        process.wait(60)


def flow_runs(log: Path) -> str:
    """What the log says about flow runs, without their tasks."""
    return "".join(line for line in log.read_text().splitlines(True) if "Flow run '" in line)


def run(environment: Environment, module: str, *arguments: str | Path) -> Run:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(
        command, env=environment, cwd="/", capture_output=True, text=True, timeout=300, check=False
    )


class Flow:
    """`python -m pipelines.training` in a process of its own, whose log can be read meanwhile."""

    def __init__(
        self,
        environment: Environment,
        root: Path,
        *options: str,
        module: str = "pipelines.training",
    ) -> None:
        command = [sys.executable, "-m", module, "--repository", str(root), *options]
        self.process = subprocess.Popen(
            command, env=environment, cwd="/", stderr=subprocess.PIPE, text=True, errors="replace"
        )
        self.lines: list[str] = []
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                self.lines.append(line)

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def wait_for(self, text: str) -> None:
        wait(lambda: text in self.log or self.process.poll() is not None)
        assert text in self.log, self.log

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait for its end, or kill it after a failure."""
        if kind:
            self.process.kill()
        try:
            self.process.wait(120)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"it does not end:\n{self.log}") from None
        finally:
            self.reader.join(60)


@contextmanager
def running(environment: Environment, root: Path, *options: str) -> Iterator[Flow]:
    """A flow that is in the middle of its training, and ends with the block at the latest."""
    with Flow(environment, root, *options) as flow:
        wait(lambda: (root / "started").exists() or flow.process.poll() is not None)
        assert flow.process.poll() is None, flow.log
        yield flow
        flow.process.kill()


def ran(root: Path) -> list[str]:
    """The stages whose command was executed, in order."""
    return (root / "log").read_text().split()


class Api:
    """A Prefect server's REST API."""

    def __init__(self, url: str, login: str = "") -> None:
        auth = httpx.BasicAuth(*login.split(":")) if login else None
        self.client = httpx.Client(base_url=f"{url}/", timeout=60, auth=auth)

    def post(self, path: str, **body: Any) -> Any:
        for _ in range(20):  # a server that has just started may refuse
            response = self.client.post(path, json=body)
            if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            time.sleep(1)
        response.raise_for_status()
        return response.json() if response.content else None

    def get(self, path: str) -> Any:
        response = self.client.get(path)
        response.raise_for_status()
        return response.json()

    def flow_run(self, log: str) -> dict[str, Any]:
        """The flow run whose log this is."""
        found = re.search(r"[Ff]low run '([\w-]+)'", log)
        assert found, log
        (run,) = self.post("flow_runs/filter", flow_runs={"name": {"any_": [found[1]]}})
        return dict(run)

    def deployments(self) -> dict[str, dict[str, Any]]:
        """The deployments by the tag that names their folder."""
        found = self.post("deployments/filter")
        return {deployment["tags"][0]: deployment for deployment in found}
