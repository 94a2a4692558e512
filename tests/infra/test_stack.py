"""`make stack`, as its users use it: photographs in S3, a run from Prefect, a model by stage."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from flows import Api
from project import ROOT, Project
from servers import free_port, wait
from stack import PARAMS, check_result, fetch, wait_for_progress

pytestmark = pytest.mark.faults


STACK = (sys.executable, "-m", "infra.stack")


class Stack:
    """`python -m infra.stack` in a project, with what it prints.

    Args:
        folder: which PostgreSQL's account can reach.
    """

    def __init__(self, project: Project, folder: Path) -> None:
        self.folder, self.log = folder, folder.with_name("stack.log")
        options = ["--folder", str(folder)]
        for server in ("s3", "mlflow", "prefect"):
            options += [f"--{server}-port", str(free_port())]
        self.options = options
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*STACK, *options],
                cwd=project.folder,
                env=project.environment,
                stdout=log,
                stderr=log,
            )
        wait(lambda: self.process.poll() is not None or "Ctrl-C" in self.log.read_text(), 400)
        assert self.process.poll() is None, self.log.read_text()

    @property
    def environment(self) -> dict[str, str]:
        """What the file says that users source."""
        command = f". {shlex.quote(str(self.folder))}/environment && env --null"
        output = subprocess.run(["sh", "-c", command], env={}, capture_output=True, check=True)
        pairs = output.stdout.decode().rstrip("\0").split("\0")
        return {k: v for k, _, v in (pair.partition("=") for pair in pairs) if k != "PWD"}

    def lose(self, program: str) -> None:
        """End a server as a crash does, and wait until it was started again."""
        line = f"{program}: ended and was started again"
        before = self.log.read_text().count(line)
        (supervisor,) = psutil.Process(self.process.pid).children()
        command = {"s3": "rclone", "prefect": "prefect server"}.get(program, program)
        (server,) = (p for p in supervisor.children() if command in " ".join(p.cmdline()))
        for process in (server, *server.children(recursive=True)):
            process.kill()
        wait(lambda: self.log.read_text().count(line) > before)

    def interrupt(self) -> list[psutil.Process]:
        """Press Ctrl-C; return the processes that are left."""
        processes = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(120) == 0, self.log.read_text()
        return psutil.wait_procs(processes, 1)[1]


@contextmanager
def running(project: Project, folder: Path) -> Iterator[Stack]:
    stack = Stack(project, folder)
    try:
        yield stack
    finally:
        if stack.process.poll() is None:
            stack.interrupt()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="facegan stack ") as name:
        Path(name).chmod(0o711)
        yield Path(name) / "stack"


@pytest.fixture(scope="module")
def project(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("project"), digits, PARAMS)
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("pipelines", "infra"):
        shutil.copytree(ROOT / name, project.folder / name, ignore=ignore)
    return project


def test_a_run_survives_the_loss_of_each_server_and_the_stack_a_restart(
    project: Project, digits: Path, folder: Path
) -> None:
    with running(project, folder) as stack:
        environment = stack.environment
        fetch(project, digits, environment)
        lose_each_server_in_a_run(stack)
        models = check_result(project, environment)
        done = project.try_run(*STACK, "--folder", str(folder))
        assert done.returncode == 1 and f"{folder}: a stack runs here" in done.stderr
        assert not stack.interrupt()
    passwords_are_secret(folder)
    with running(project, folder) as stack:
        assert project.run("facegan", "models", **stack.environment) == models
        shutil.rmtree(project.folder / ".dvc" / "cache")
        project.run("dvc", "pull", "--force", **stack.environment)


def passwords_are_secret(folder: Path) -> None:
    for name in ("environment", "passwords.json"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600
    secrets = re.findall(r'"(\w{40})"', (folder / "passwords.json").read_text())
    logs = [path.read_text(errors="replace") for path in folder.glob("*.log")]
    assert secrets and logs and not any(secret in log for secret in secrets for log in logs)


def lose_each_server_in_a_run(stack: Stack) -> None:
    environment = stack.environment
    api = Api(environment["PREFECT_API_URL"], environment["PREFECT_API_AUTH_STRING"])
    (deployment,) = api.post("deployments/filter")
    run = api.post(
        f"deployments/{deployment['id']}/create_flow_run",
        state={"type": "SCHEDULED"},
        parameters={"push": True},
    )
    log = stack.folder / "worker.log"
    for program in ("postgres", "s3", "mlflow", "prefect"):
        wait_for_progress(log)
        stack.lose(program)
    wait(lambda: ended(api, run["id"]), 400)
    state = api.get(f"flow_runs/{run['id']}")["state_type"]
    api.client.close()
    assert state == "COMPLETED", log.read_text()


def ended(api: Api, run: str) -> bool:
    try:
        state = api.get(f"flow_runs/{run}")["state_type"]
    except httpx.HTTPError:  # it starts
        return False
    return state in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def test_a_port_that_is_taken_is_one_line_and_nothing_starts(
    project: Project, tmp_path: Path
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        done = project.try_run(*STACK, "--folder", str(tmp_path / "new"), "--mlflow-port", port)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: --mlflow-port {port}: Address already in use; name another\n"
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--s3-port", "70000"], "--s3-port 70000: valid: 1 to 65535"),
        (["--s3-port", "4200"], "--s3-port 4200: another server has it, too; name another"),
        (["--cron", "0 2 30 2 *"], "--cron '0 2 30 2 *' never fires"),
    ],
)
def test_a_wrong_option_is_one_line_and_nothing_starts(
    options: list[str], message: str, project: Project, tmp_path: Path
) -> None:
    done = project.try_run(*STACK, "--folder", str(tmp_path / "new"), *options)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {message}") and done.stderr.count("\n") == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="PostgreSQL runs as its user, unless that is root")
def test_a_folder_that_postgresqls_account_cannot_reach_is_one_line(
    project: Project, tmp_path: Path
) -> None:
    tmp_path.chmod(0o700)
    ports = [f"--{name}-port={free_port()}" for name in ("s3", "mlflow", "prefect")]
    done = project.try_run(*STACK, "--folder", str(tmp_path / "new"), *ports)
    assert (done.returncode, done.stdout) == (1, "")
    assert "nobody cannot reach it" in done.stderr and done.stderr.count("\n") == 1
