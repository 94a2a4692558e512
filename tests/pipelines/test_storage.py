"""Data before a run, and what a run leaves behind, with a real remote and real git."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import pytest

from buckets import Proxy, credentials, rclone
from flows import DVC_YAML, TRAIN, Copy, Environment, Flow, ran, run
from infra.stack import DVC_FOLDERS

pytestmark = pytest.mark.faults

DVC = (sys.executable, "-m", "dvc")


def command(environment: Environment, root: Path, *arguments: str) -> str:
    done = subprocess.run(
        arguments, cwd=root, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def experiments(environment: Environment, root: Path) -> list[str]:
    refs = command(environment, root, "git", "for-each-ref", "--format", "%(refname)", "refs/exps")
    return [ref for ref in refs.split() if "/exec/" not in ref]


@pytest.fixture
def project(copy: Copy, environment: Environment) -> Path:
    """A repository with parameters and with remotes of DVC and git."""
    root = copy()
    digits = resources.files("facegan").joinpath("presets", "digits.yaml").read_text("utf-8")
    (root / "params.yaml").write_text(digits)
    preprocess = "  preprocess:\n"
    text = DVC_YAML.replace(preprocess, f"{preprocess}    params: [seed]\n")
    (root / "dvc.yaml").write_text(text)
    git_remote, dvc_remote = root.parent / "git", root.parent / "dvc"
    command(environment, root, "git", "init", "-q", "--bare", str(git_remote))
    command(environment, root, "git", "remote", "add", "origin", str(git_remote))
    command(environment, root, *DVC, "remote", "add", "-q", "-d", "store", str(dvc_remote))
    command(environment, root, "git", "add", "--all")
    command(environment, root, "git", "commit", "-qm", "project")
    return root


def test_a_run_is_kept_as_an_experiment_and_pushed_once_its_remote_is_back(
    project: Path, served: Environment
) -> None:
    remote = project.parent / "dvc"
    remote.write_text("a file is no remote")
    with Flow(served, project, "--push") as flow:
        flow.wait_for("Retry 1/3 will start 10 second(s) from now")
        remote.unlink()
    assert flow.process.returncode == 0, flow.log
    (kept,) = experiments(served, project)
    assert "train:" in command(served, project, "git", "show", f"{kept}:dvc.lock")
    assert experiments(served, project.parent / "git") == [kept]
    assert list(remote.rglob("runs/*/*/*"))  # the run cache
    # Another clone on another machine: without data, with the results in reach.
    command(served, project, "rm", "-r", "data", "dataset", ".dvc/cache")
    result = run(served, "pipelines.training", "--repository", project)
    assert result.returncode == 0, result.stderr
    assert (project / "data" / "photograph").read_text() == "a face\n"


def test_overrides_run_as_an_experiment_beside_the_workspace(
    project: Path, served: Environment
) -> None:
    before = (project / "params.yaml").read_bytes()
    options = ("--set", "seed=5", "--set", 'register.name="faces"')
    result = run(served, "pipelines.training", "--repository", project, *options)
    assert result.returncode == 0, result.stderr
    assert "> cp dataset trained" in result.stderr
    (kept,) = experiments(served, project)
    params = command(served, project, "git", "show", f"{kept}:params.yaml")
    assert "seed: 5\n" in params
    assert "name: faces" in params
    assert (project / "params.yaml").read_bytes() == before
    assert not (project / "dvc.lock").exists()


def test_a_wrong_override_or_stage_is_one_line_before_anything_runs(
    project: Path, served: Environment
) -> None:
    for options, message in (
        (("--set", "train.epochs=0"), "error: train.epochs: 0: "),
        (("--stage", "trian"), "error: stages: 'trian': unknown; valid: data.dvc, preprocess, "),
    ):
        result = run(served, "pipelines.training", "--repository", project, *options)
        assert result.returncode == 1
        assert message in result.stderr.splitlines()[-1]
    assert not (project / "log").exists()


@dataclass
class Refusing:
    """A project's S3 server that answers 503 until `end`, on the monotonic clock."""

    environment: Environment
    bucket: Path
    end: float = 0.0


@pytest.fixture
def refusing(project: Path, served: Environment, tmp_path: Path) -> Iterator[Refusing]:
    bucket = tmp_path / "s3" / "dvc"
    for name in DVC_FOLDERS:
        (bucket.parent / name).mkdir(parents=True)
    with rclone(bucket.parent) as server, Proxy(server).running() as proxy:
        # DVC reads no configuration from os.devnull.
        aws = {k: v for k, v in credentials(proxy.url).items() if v != os.devnull}
        refusing = Refusing(served | aws | {"AWS_MAX_ATTEMPTS": "1"}, bucket)

        proxy.refuses = lambda: time.monotonic() < refusing.end
        command(served, project, *DVC, "remote", "modify", "store", "url", "s3://dvc")
        command(served, project, "git", "commit", "-qam", "S3")
        command(refusing.environment, project, *DVC, "push", "-q")
        yield refusing


def test_a_remote_that_refuses_for_a_while_delays_a_run_and_loses_nothing(
    project: Path, refusing: Refusing
) -> None:
    command(refusing.environment, project, "rm", "-r", "data", ".dvc/cache")
    refusing.end = time.monotonic() + 30
    with Flow(refusing.environment, project, "--push") as flow:
        flow.wait_for("Retry 1/3 will start 10 second(s) from now")  # of the pull
        flow.wait_for("Running stage 'train'")
        refusing.end = time.monotonic() + 30
    assert flow.process.returncode == 0, flow.log
    assert "Traceback" not in flow.log
    assert flow.log.count("Retry 1/3") == 2  # of the push, too
    assert list(refusing.bucket.rglob("runs/*/*/*"))


IMPATIENT = """
from pipelines import storage, training
storage.transfer.retry_delay_seconds = [1, 1, 1]
training.main()
"""


def test_a_remote_that_refuses_for_good_fails_the_run_whose_results_the_next_one_pushes(
    project: Path, refusing: Refusing
) -> None:
    refusing.end = float("inf")
    command = [sys.executable, "-c", IMPATIENT, "--repository", str(project), "--push"]
    environment = refusing.environment
    done = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert done.stderr.count("Retry ") == 3
    before = ran(project)
    assert "train" in before and not list(refusing.bucket.rglob("runs/*/*/*"))
    refusing.end = 0.0
    with Flow(refusing.environment, project, "--push") as second:
        pass
    assert second.process.returncode == 0, second.log
    assert ran(project) == [*before, "register"]  # always runs
    assert list(refusing.bucket.rglob("runs/*/*/*"))


# A stage that finds MLflow away twice, and ends with 75 then, as facegan's commands do.
AWAY = "echo tried >> log; test `grep -c tried log` -gt 2 || exit 75; " + TRAIN
HASTY = """
from pipelines import dvc_process, training
dvc_process.BACK_OFF[:] = [1, 2, 3]
training.main()
"""


@pytest.mark.parametrize(
    ("train", "tries", "status"), [(AWAY, 3, 0), ("echo tried >> log; exit 1", 1, 1)]
)
def test_a_stage_that_finds_mlflow_away_runs_again_and_one_that_fails_does_not(
    train: str, tries: int, status: int, copy: Copy, environment: Environment
) -> None:
    root = copy(json.dumps(train))
    command = [sys.executable, "-c", HASTY, "--repository", str(root)]
    done = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    assert ran(root).count("tried") == tries
    assert done.stderr.count("trying again in") == tries - 1


# What a worker of a pool does with one stage.
PULLING = """
import sys
from pathlib import Path
from prefect import flow
from pipelines.dag import read_dag
from pipelines.locks import exclusive
from pipelines.training import run_stages

@flow
def pulling(root):
    dag = read_dag(root)
    with exclusive(root, dag.tmp_dir) as workspace:
        return run_stages(dag.choose(["train"]), workspace, False, pull=True, keep=False)

sys.exit(pulling(Path(sys.argv[1]), return_state=True).is_failed())
"""


def pulling(environment: Environment, root: Path) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", PULLING, str(root)]
    return subprocess.run(program, env=environment, cwd="/", capture_output=True, text=True)


def test_a_stage_on_a_pool_waits_for_the_remote_that_has_its_result(
    project: Path, refusing: Refusing
) -> None:
    command(refusing.environment, project, *DVC, "repro", "preprocess", "train")
    command(refusing.environment, project, *DVC, "push", "-q", "--run-cache")
    command(refusing.environment, project, "rm", "-r", "trained", "log", "dvc.lock", ".dvc/cache")
    refusing.end = time.monotonic() + 8
    done = pulling(refusing.environment, project)
    assert done.returncode == 0, done.stderr
    assert "trying again in 10 seconds" in done.stderr
    assert "Stage 'train' is cached - skipping run" in done.stderr
    assert not (project / "log").exists()


def test_a_stage_on_a_pool_that_fails_does_not_run_again(project: Path, refusing: Refusing) -> None:
    command(refusing.environment, project, *DVC, "repro", "preprocess")
    text = (project / "dvc.yaml").read_text().replace(TRAIN, "echo tried >> log; false")
    (project / "dvc.yaml").write_text(text)
    done = pulling(refusing.environment, project)
    assert done.returncode == 1 and "trying again" not in done.stderr
    assert ran(project) == ["preprocess", "tried"]
