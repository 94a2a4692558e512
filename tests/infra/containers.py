"""`infra/compose.yaml` in containers: `make test-stack`. Slow; needs podman, root and packages.

PostgreSQL's and rclone's images are built from packages, so that no registry of images is needed
but for BASE_IMAGE.
"""

import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from conftest import make_params
from project import ROOT, Project
from servers import free_port, wait
from stack import LOAD, TRAIN, check_result, fetch, wait_for_progress


@dataclass(frozen=True)
class Stack:
    """A running stack. `environment` is what its users set."""

    env_file: Path
    environment: dict[str, str]

    @property
    def compose(self) -> list[str]:
        return [sys.executable, "-m", "podman_compose", "--env-file", str(self.env_file)]

    def __call__(self, *command: str) -> str:
        file = str(ROOT / "infra" / "compose.yaml")
        done = subprocess.run(
            [*self.compose, "--file", file, *command], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def script(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `infra/backup` or `infra/restore`."""
        environment = os.environ | {"COMPOSE": " ".join(self.compose)}
        command = [str(ROOT / "infra" / name), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    def status(self, path: str, login: str = "") -> int:
        """HTTP status of MLflow's or Prefect's page; 0 if there is none."""
        auth = httpx.BasicAuth(*login.split(":")) if login else None
        try:
            return httpx.get(path, auth=auth, timeout=10).status_code
        except httpx.HTTPError:
            return 0

    def wait_until_healthy(self) -> None:
        pages = [
            self.mlflow + "/health",
            self.prefect + "/health",
            self.environment["AWS_ENDPOINT_URL"],
        ]
        wait(lambda: all(self.status(page) in (200, 400) for page in pages), 300)

    @property
    def mlflow(self) -> str:
        return self.environment["MLFLOW_TRACKING_URI"]

    @property
    def prefect(self) -> str:
        return self.environment["PREFECT_API_URL"]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    if shutil.which("podman") is None:
        pytest.skip("needs podman")
    folder = tmp_path_factory.mktemp("stack")
    example = (ROOT / "infra" / "env.example").read_text()
    values = {name: secrets.token_hex(16) for name in re.findall(r"(?m)^(\w+)=$", example)}
    values |= {f"{name}_PORT": str(free_port()) for name in ("S3", "MLFLOW", "PREFECT")}
    values |= {f"{n.upper()}_IMAGE": f"localhost/facegan-{n}" for n in ("postgres", "s3", "server")}
    base = os.environ.get("BASE_IMAGE", "docker.io/library/debian:bookworm-slim")
    lines = re.sub(
        r"(?m)^(\w+)=.*$", lambda m: f"{m[1]}={values.get(m[1], m[0].partition('=')[2])}", example
    )
    (folder / "env").write_text(lines)
    build(base)
    stack = Stack(folder / "env", {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{values['S3_PORT']}",
        "AWS_ACCESS_KEY_ID": values["S3_ACCESS_KEY"],
        "AWS_SECRET_ACCESS_KEY": values["S3_SECRET_KEY"],
        "AWS_DEFAULT_REGION": "us-east-1",
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{values['MLFLOW_PORT']}",
        "MLFLOW_TRACKING_USERNAME": values["MLFLOW_USER"],
        "MLFLOW_TRACKING_PASSWORD": values["MLFLOW_PASSWORD"],
        "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
        "PREFECT_API_URL": f"http://127.0.0.1:{values['PREFECT_PORT']}/api",
        "PREFECT_API_AUTH_STRING": f"{values['PREFECT_USER']}:{values['PREFECT_PASSWORD']}",
    })  # fmt: skip
    try:
        stack("up", "--detach", "--no-build")
        stack.wait_until_healthy()
        yield stack
    finally:
        print(stack("logs", "--tail", "30"))
        stack("down", "--volumes")


def build(base: str) -> None:
    images = ROOT / "tests" / "infra" / "images"
    podman = ["podman", "build", "--network", "host", "--build-arg", f"BASE={base}"]
    for name in ("postgres", "s3"):
        file = ["--file", str(images / f"{name}.Dockerfile"), str(images)]
        subprocess.run([*podman, "--tag", f"localhost/facegan-{name}", *file], check=True)
    target = ["--target", "server", "--file", str(ROOT / "infra" / "Dockerfile"), str(ROOT)]
    subprocess.run([*podman, "--tag", "localhost/facegan-server", *target], check=True)


@pytest.fixture(scope="module")
def project(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    params = make_params(train=TRAIN | {"epochs": 24})  # while four containers stop and start
    return Project(tmp_path_factory.mktemp("project"), digits, params)


def test_nobody_gets_in_without_a_password(stack: Stack) -> None:
    mlflow = f"{stack.mlflow}/api/2.0/mlflow/experiments/get?experiment_id=0"
    prefect = f"{stack.prefect}/admin/version"
    assert stack.status(mlflow) == stack.status(mlflow, "admin:password1234") == 401
    assert stack.status(prefect) == stack.status(prefect, "admin:pass") == 401
    assert stack.status(prefect, stack.environment["PREFECT_API_AUTH_STRING"]) == 200


def test_a_run_survives_a_stop_of_each_server(
    stack: Stack, project: Project, digits: Path, tmp_path: Path
) -> None:
    fetch(project, digits, stack.environment)
    command = (sys.executable, "-m", "pipelines.training", "--repository", str(project.folder))
    log = tmp_path / "log"
    with log.open("w") as file:
        flow = subprocess.Popen(
            [*command, "--push"],
            cwd=project.folder,
            env=project.environment | stack.environment,
            stdout=file,
            stderr=file,
        )
    try:
        for service in ("postgres", "s3", "mlflow", "prefect"):
            wait_for_progress(log)
            stack("stop", service)
            time.sleep(10)
            stack("start", service)
        assert flow.wait(900) == 0, log.read_text()
    finally:
        flow.kill()
        flow.wait()
    stack.wait_until_healthy()
    assert "Production" in check_result(project, stack.environment)


def test_a_backup_brings_everything_back(stack: Stack, project: Project, tmp_path: Path) -> None:
    before = project.run("facegan", "models", **stack.environment)
    assert "Production" in before
    done = stack.script("backup", str(tmp_path / "backup"))
    assert done.returncode == 0, done.stdout + done.stderr
    again = stack.script("backup", str(tmp_path / "backup"))
    assert again.returncode == 1 and "exists" in again.stderr
    stack("down", "--volumes")
    stack("up", "--detach", "--no-build")
    stack.wait_until_healthy()
    assert "Production" not in project.try_run("facegan", "models", **stack.environment).stdout
    done = stack.script("restore", str(tmp_path / "backup"))
    assert done.returncode == 0, done.stdout + done.stderr
    stack.wait_until_healthy()
    assert project.run("facegan", "models", **stack.environment) == before
    project.run(sys.executable, "-c", LOAD, **stack.environment)
    shutil.rmtree(project.folder / ".dvc" / "cache")
    project.run("dvc", "pull", "--force", **stack.environment)


def test_a_damaged_backup_changes_nothing(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  s3.tar\n")
    (tmp_path / "s3.tar").touch()
    done = stack.script("restore", str(tmp_path))
    assert done.returncode == 1 and "nothing was changed" in done.stderr
