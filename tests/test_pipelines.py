"""The Prefect flows, run as users run them, on a small repository with dummy stages."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from servers import answers, free_port, wait

ROOT = Path(__file__).parents[1]
Run = subprocess.CompletedProcess[str]

# In neither alphabetical nor topological order.
DVC_YAML = """\
stages:
  register:
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
    cmd: cp dataset trained && echo train >> log
    deps: [dataset]
    outs: [trained]
"""
TRAIN = "cp dataset trained && echo train >> log"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment without a Prefect server and without the user's own settings."""
    # Without PYTHONDONTWRITEBYTECODE, Prefect is compiled once, not in every run.
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "DVC_", "PYTHON"))}
    identity = ("AUTHOR_NAME", "AUTHOR_EMAIL", "COMMITTER_NAME", "COMMITTER_EMAIL")
    kept |= {f"GIT_{name}": "a@example.com" for name in identity}
    return kept | {
        "SHELL": "/bin/sh",
        "PREFECT_HOME": str(tmp_path_factory.mktemp("home")),
        "PYTHONPATH": str(ROOT),
    }


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """A git and DVC repository in which no stage has run."""
    root = tmp_path_factory.mktemp("repository")
    (root / ".dvc").mkdir()
    (root / ".dvc" / "config").write_text("[core]\nanalytics = false\ncheck_update = false\n")
    (root / "data").mkdir()
    (root / "data" / "photograph").write_text("a face\n")
    (root / "dvc.yaml").write_text(DVC_YAML)
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "add", "-q", "data"]):
        subprocess.run(command, cwd=root, env=environment, check=True)
    return root


@pytest.fixture(scope="module")
def copy(
    repository: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Copies the repository, and commits it with another command for its training."""

    def make(train: str = TRAIN) -> Path:
        root = tmp_path_factory.mktemp("copy") / "repository"
        shutil.copytree(repository, root)
        (root / "dvc.yaml").write_text(DVC_YAML.replace(TRAIN, train))
        for command in (["git", "add", "--all"], ["git", "commit", "-qm", "all"]):
            subprocess.run(command, cwd=root, env=environment, check=True)
        return root

    return make


@contextmanager
def prefect_server(
    environment: dict[str, str], folder: Path, **settings: str
) -> Iterator[dict[str, str]]:
    """Start a real Prefect server, and yield the environment with its address."""
    port = str(free_port())
    url = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1"]
    quiet = environment | {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--port", port], env=quiet | settings, stdout=log, stderr=log
        )
    try:
        wait(lambda: answers(f"{url}/health"))
        yield environment | {"PREFECT_API_URL": url}
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="module")
def served(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """The environment with a shared Prefect server, so that runs need not start their own."""
    with prefect_server(environment, tmp_path_factory.mktemp("server")) as with_server:
        yield with_server


@contextmanager
def serving(environment: dict[str, str], root: Path) -> Iterator[Path]:
    """Run `python -m pipelines.schedule` in a repository, every minute, and yield its log."""
    shutil.copytree(
        ROOT / "pipelines", root / "pipelines", ignore=shutil.ignore_patterns("__pycache__")
    )
    log = root.parent / "schedule.log"
    command = [sys.executable, "-m", "pipelines.schedule", "--cron", "* * * * *"]
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=root, env=environment | {"PYTHONPATH": str(root)}, stdout=file, stderr=file
        )
    try:
        yield log
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def scheduled(served: dict[str, str], copy: Callable[..., Path]) -> Iterator[tuple[Path, Path]]:
    """A repository whose first scheduled run starts while other tests run, and its log."""
    root = copy()
    with serving(served, root) as log:
        yield root, log


def run(environment: dict[str, str], module: str, *arguments: str | Path) -> Run:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(
        command, env=environment, cwd="/", capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def first(environment: dict[str, str], copy: Callable[..., Path]) -> tuple[Path, Run]:
    """The first run of all stages, on Prefect's temporary server."""
    root = copy()
    return root, run(environment, "pipelines.training", "--repository", root)


def ran(root: Path) -> list[str]:
    """The stages whose command was executed, in order."""
    return (root / "log").read_text().split()


def test_first_run_executes_every_stage_in_topological_order(
    first: tuple[Path, Run], scheduled: tuple[Path, Path]
) -> None:
    root, result = first
    assert result.returncode == 0, result.stderr
    assert ran(root)[:4] == ["preprocess", "train", "evaluate", "register"]
    assert "Task run 'data.dvc' - Finished in state Unchanged" in result.stderr
    assert "Task run 'train' - > cp dataset trained" in result.stderr  # streamed into the log
    assert "Task run 'train' - Finished in state Completed()" in result.stderr


def test_lock_and_outputs_are_identical_to_those_of_dvc_repro(
    first: tuple[Path, Run], copy: Callable[..., Path], environment: dict[str, str]
) -> None:
    plain = copy()
    command = [sys.executable, "-m", "dvc", "repro", "-q"]
    subprocess.run(command, cwd=plain, env=environment, check=True, stdout=subprocess.DEVNULL)
    for name in ("dvc.lock", "data.dvc", "dataset", "trained", "evaluated", ".gitignore"):
        assert (first[0] / name).read_bytes() == (plain / name).read_bytes(), name


def test_second_run_executes_register_alone_and_restores_a_lost_output(
    first: tuple[Path, Run], served: dict[str, str]
) -> None:
    root, _ = first
    lock = (root / "dvc.lock").read_bytes()
    before = ran(root)
    (root / "trained").unlink()
    result = run(served, "pipelines.training", "--repository", root)
    assert result.returncode == 0, result.stderr
    assert ran(root) == [*before, "register"]
    assert (root / "dvc.lock").read_bytes() == lock
    for stage, state in {
        "preprocess": "Unchanged",
        "train": "Restored",
        "evaluate": "Unchanged",
    }.items():
        assert f"Task run '{stage}' - Finished in state {state}" in result.stderr


def test_uncommitted_changes_end_the_run_unless_allowed(
    copy: Callable[..., Path], served: dict[str, str]
) -> None:
    root = copy()
    (root / "data" / "photograph").write_text("another face\n")  # recorded by DVC
    (root / "dvc.yaml").write_text(DVC_YAML.replace(TRAIN, TRAIN.replace("train >>", "edited >>")))
    refused = run(served, "pipelines.training", "--repository", root)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1] == (
        "error: uncommitted changes of dvc.yaml; "
        "commit or revert them, or allow them: --allow-uncommitted"
    )
    assert not (root / "log").exists()
    result = run(served, "pipelines.training", "--repository", root, "--allow-uncommitted")
    assert "running with uncommitted changes of dvc.yaml" in result.stderr
    assert ran(root) == ["preprocess", "edited", "evaluate", "register"]


@pytest.fixture(scope="module")
def failed(
    first: tuple[Path, Run], served: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[str], Run]:
    """A forced run over finished stages whose training fails: the executed stages, the result."""
    root = tmp_path_factory.mktemp("failed") / "repository"
    shutil.copytree(first[0], root)
    (root / "log").unlink()
    (root / "dvc.yaml").write_text(DVC_YAML.replace(TRAIN, "echo no GPU found >&2; exit 3"))
    options = ("--force", "--allow-uncommitted")
    result = run(served, "pipelines.training", "--repository", root, *options)
    return ran(root), result


def test_force_executes_unchanged_stages(failed: tuple[list[str], Run]) -> None:
    assert failed[0][0] == "preprocess"


def test_failing_stage_ends_the_run_with_the_commands_last_line(
    failed: tuple[list[str], Run],
) -> None:
    executed, result = failed
    assert executed == ["preprocess"]
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: no GPU found; failed to reproduce 'train'")
    assert "Traceback" not in result.stderr


def test_sigterm_ends_the_stage(copy: Callable[..., Path], served: dict[str, str]) -> None:
    root = copy(
        "trap 'echo saved; touch saved; exit 1' TERM; touch started; while :; do sleep 0.1; done"
    )
    command = [sys.executable, "-m", "pipelines.training", "--repository", str(root)]
    with subprocess.Popen(command, env=served, stderr=subprocess.PIPE, text=True) as process:
        wait((root / "started").exists)
        process.terminate()
        _, log = process.communicate(timeout=40)
    assert process.returncode == 1
    assert (root / "saved").exists()
    assert "Task run 'train' - saved" in log
    assert log.splitlines()[-1] == "interrupted"
    assert ran(root) == ["preprocess"]


def test_directory_without_stages_is_one_clear_line(served: dict[str, str], tmp_path: Path) -> None:
    result = run(served, "pipelines.training", "--repository", tmp_path)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith(
        "error: you are not inside of a DVC repository"
    )
    assert "Traceback" not in result.stderr


def test_schedule_refuses_an_invalid_cron_expression(environment: dict[str, str]) -> None:
    result = run(environment, "pipelines.schedule", "--cron", "every night")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert "'every night' is not a cron expression" in result.stderr


@pytest.mark.parametrize("url", ["", "http://127.0.0.1:9/api"])  # port 9: nothing listens
def test_schedule_without_a_server_says_how_to_start_one(
    environment: dict[str, str], url: str
) -> None:
    result = run(
        environment | {"PREFECT_API_URL": url}, "pipelines.schedule", "--cron", "0 2 * * *"
    )
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "prefect server start" in result.stderr
    assert "PREFECT_API_URL" in result.stderr


def test_a_scheduled_run_starts_and_completes(scheduled: tuple[Path, Path]) -> None:
    root, log = scheduled
    wait(lambda: "Finished in state Completed()\n" in flow_runs(log))
    assert ran(root)[:4] == ["preprocess", "train", "evaluate", "register"]
    assert "has scheduled no run" not in log.read_text()


def flow_runs(log: Path) -> str:
    return "".join(line for line in log.read_text().splitlines(True) if "Flow run '" in line)


@pytest.mark.faults
def test_schedule_reports_a_server_that_schedules_nothing(
    environment: dict[str, str], copy: Callable[..., Path], tmp_path: Path
) -> None:
    off = {"PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false"}
    alone = environment | {"PREFECT_HOME": str(tmp_path / "home")}  # a separate database
    with (
        prefect_server(alone, tmp_path, **off) as broken,
        serving(broken, copy()) as log,
    ):
        wait(lambda: "has scheduled no run of facegan-training/schedule" in log.read_text())
