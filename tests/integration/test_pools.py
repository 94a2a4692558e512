"""Stages on two work pools: a real server, real workers that share S3, git and checkpoints only."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow import MlflowClient
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

import pipelines.server
from buckets import credentials, rclone
from conftest import make_params
from facegan.register.registry import GENERATOR
from flows import Api, Environment, prefect_server
from infra.stack import DVC_FOLDERS
from pipelines.pools import stages_on_worker
from project import LONG_ENOUGH, ROOT, Project
from servers import MlflowServer, wait
from small_extractor import PYTHONPATH

pytestmark = pytest.mark.faults

INTERVAL = 2700  # images between checkpoints
LONG = make_params(train=LONG_ENOUGH | {"epochs": 40, "eval_interval": INTERVAL})
SILENCE = 60  # seconds without a heartbeat after which a run is lost


@dataclass
class Machine:
    """A worker of a pool, with a home and temporary files of its own."""

    worker: subprocess.Popen[bytes]
    log: Path

    def is_training(self) -> bool:
        """Whether it is in the middle of a training, and a checkpoint is there."""
        lines = re.findall(r"train: ([\d,]+)/[\d,]+ .* left ", self.log.read_text())
        return any(int(seen.replace(",", "")) > INTERVAL for seen in lines)

    def lose(self) -> None:
        """End all its processes at once, as a power failure does."""
        worker = psutil.Process(self.worker.pid)
        worker.suspend()
        processes = [*worker.children(recursive=True), worker]
        for process in processes:
            process.kill()
        psutil.wait_procs(processes, 30)


@contextmanager
def machine(folder: Path, pool: str, environment: Environment) -> Iterator[Machine]:
    for name in ("home", "tmp"):
        (folder / name).mkdir(parents=True)
    own = {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"), "PYTHONPATH": PYTHONPATH}
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--type"]
    log = folder / "log"
    with log.open("wb") as file:
        worker = subprocess.Popen(
            [*command, "process"], cwd=folder, env=environment | own, stdout=file, stderr=file
        )
    try:
        yield Machine(worker, log)
    finally:
        if worker.poll() is None:
            worker.send_signal(signal.SIGINT)
            worker.wait(60)


@dataclass
class Site:
    """What the machines share, and the project from which they clone."""

    project: Project
    environment: Environment
    api: Api
    checkpoints: Path

    def start(self) -> dict[str, Any]:
        deployment = self.api.get("deployments/name/facegan-pools/training")
        return dict(
            self.api.post(
                f"deployments/{deployment['id']}/create_flow_run", state={"type": "SCHEDULED"}
            )
        )

    def runs(self, flow: str, *states: str) -> list[dict[str, Any]]:
        body: dict[str, Any] = {"flows": {"name": {"any_": [flow]}}, "sort": "START_TIME_ASC"}
        if states:
            body["flow_runs"] = {"state": {"type": {"any_": list(states)}}}
        return list(self.api.post("flow_runs/filter", **body))

    def ended(self, run: dict[str, Any]) -> dict[str, Any]:
        final = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
        wait(lambda: self.api.get(f"flow_runs/{run['id']}")["state_type"] in final, 900)
        return dict(self.api.get(f"flow_runs/{run['id']}"))


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    server = MlflowServer(folder)
    try:
        yield server.url
    finally:
        server.signal(signal.SIGTERM)
        server.process.wait(60)


@pytest.fixture(scope="module")
def site(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    shared = tmp_path_factory.mktemp("shared")
    project = Project(tmp_path_factory.mktemp("project"), digits, LONG)
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("pipelines", "infra"):
        shutil.copytree(ROOT / name, project.folder / name, ignore=ignore)
    for name in DVC_FOLDERS:
        (shared / "s3" / name).mkdir(parents=True)
    kept = {k: v for k, v in project.environment.items() if not k.startswith("PREFECT_")}
    home = tmp_path_factory.mktemp("prefect")
    with (
        prefect_server(kept | {"PREFECT_HOME": str(home)}, home) as url,
        rclone(shared / "s3") as s3,
        mlflow_server(tmp_path_factory.mktemp("mlflow")) as mlflow,
    ):
        # DVC reads no configuration from os.devnull.
        aws = {k: v for k, v in credentials(s3).items() if v != os.devnull}
        environment = kept | aws | {
            "PREFECT_API_URL": url,
            "MLFLOW_TRACKING_URI": mlflow,
            "FACEGAN_CHECKPOINTS": str(shared / "checkpoints"),
            "FACEGAN_DEVICE": "cpu",
        }  # fmt: skip
        project.run("dvc", "remote", "add", "--default", "storage", "s3://dvc")
        project.commit("everything")
        project.run("dvc", "push", **environment)
        project.run("git", "clone", "--quiet", "--bare", ".", str(shared / "origin"))
        repository = f"file://{shared / 'origin'}"
        prefect = (sys.executable, "-m", "prefect", "--no-prompt")
        project.run(*prefect, "variable", "set", "facegan_repository", repository, **environment)
        for pool in ("facegan-cpu", "facegan-gpu"):
            project.run(*prefect, "work-pool", "create", pool, "--type", "process", **environment)
        deploy = ("deploy", "--all", "--prefect-file", "infra/prefect.yaml")
        project.run(*prefect, *deploy, **environment)
        api = Api(url)
        yield Site(project, environment, api, shared / "checkpoints")
        api.client.close()


@pytest.fixture
def impatient(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost worker is noticed sooner."""
    monkeypatch.setattr(pipelines.server, "SILENCE", SILENCE)
    settings = temporary_settings({PREFECT_API_URL: site.environment["PREFECT_API_URL"]})
    with settings, get_client(sync_client=True) as client:
        pipelines.server.ensure_automation(client, stages_on_worker.name)


def promoted(registry: MlflowClient) -> str:
    (version,) = registry.search_model_versions("name='facegan-test'")
    assert version.current_stage == "Production"
    return str(version.tags[GENERATOR])


def test_cancelling_the_whole_run_ends_the_part_that_it_waits_for(
    site: Site, tmp_path: Path
) -> None:
    with (
        machine(tmp_path / "cpu", "facegan-cpu", site.environment),
        machine(tmp_path / "gpu", "facegan-gpu", site.environment) as gpu,
    ):
        run = site.start()
        wait(gpu.is_training, 300)
        state = {"type": "CANCELLING"}
        site.api.post(f"flow_runs/{run['id']}/set_state", state=state)
        assert site.ended(run)["state_type"] == "CANCELLED"
        wait(lambda: bool(site.runs("facegan-stages", "CANCELLED")), 120)
        wait(lambda: not processes_of(gpu), 30)
    assert len(site.runs("facegan-stages")) == 2
    shutil.rmtree(site.checkpoints)  # other tests train from the start


def processes_of(machine: Machine) -> list[psutil.Process]:
    """Those that train."""
    found = psutil.Process(machine.worker.pid).children(recursive=True)
    return [process for process in found if "facegan" in " ".join(process.cmdline())]


@pytest.mark.usefixtures("impatient")
def test_a_training_whose_worker_is_lost_goes_on_elsewhere_and_gives_the_same_generator(
    site: Site, tmp_path: Path
) -> None:
    with machine(tmp_path / "cpu", "facegan-cpu", site.environment):
        run = site.start()
        with machine(tmp_path / "gpu-1", "facegan-gpu", site.environment) as first:
            wait(first.is_training, 300)
            first.lose()
        assert not site.runs("facegan-stages", "CRASHED")
        with machine(tmp_path / "gpu-2", "facegan-gpu", site.environment) as second:
            assert site.ended(run)["state_type"] == "COMPLETED", json.dumps(run)
            assert re.search(r"resuming from [1-9]", second.log.read_text())
    states = [found["state_type"] for found in site.runs("facegan-stages")]
    assert states[-3:] == ["COMPLETED", "CRASHED", "COMPLETED"]
    result = promoted(MlflowClient(site.environment["MLFLOW_TRACKING_URI"]))
    site.project.run("dvc", "repro")  # here, undisturbed
    assert promoted(site.project.registry) == result
    refs = site.project.run(
        "git", "ls-remote", str(site.checkpoints.with_name("origin")), "refs/exps/*"
    )
    assert len(refs.splitlines()) == 1  # of the run that went to the end


def test_a_second_run_finds_everything_done_and_hands_on_nothing_new(
    site: Site, tmp_path: Path
) -> None:
    with (
        machine(tmp_path / "cpu", "facegan-cpu", site.environment) as cpu,
        machine(tmp_path / "gpu", "facegan-gpu", site.environment) as gpu,
    ):
        assert site.ended(site.start())["state_type"] == "COMPLETED"
        logs = cpu.log.read_text() + gpu.log.read_text()
    # From the run cache in DVC's remote: no commit has the results. It lacks metrics.json, which
    # git is to have, so that evaluate ran again.
    for stage in ("preprocess", "reference", "train"):
        assert f"Stage '{stage}' is cached - skipping run" in logs
    promoted(MlflowClient(site.environment["MLFLOW_TRACKING_URI"]))
