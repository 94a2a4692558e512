"""`python -m pipelines.training`, with real processes and a real server."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows import DVC_YAML, TRAIN, WAITING, Api, Copy, Environment, Run, ran, run, running

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def first(environment: Environment, copy: Copy) -> tuple[Path, Run]:
    """The first run of all stages, on Prefect's temporary server."""
    root = copy()
    return root, run(environment, "pipelines.training", "--repository", root)


def test_first_run_executes_every_stage_in_topological_order(first: tuple[Path, Run]) -> None:
    root, result = first
    assert result.returncode == 0, result.stderr
    assert ran(root)[:4] == ["preprocess", "train", "evaluate", "register"]
    assert "Task run 'data.dvc' - Finished in state Unchanged" in result.stderr
    assert "Task run 'train' - > cp dataset trained" in result.stderr  # streamed into the log
    assert "Task run 'train' - Finished in state Completed()" in result.stderr


def test_lock_and_outputs_are_identical_to_those_of_dvc_repro(
    first: tuple[Path, Run], copy: Copy, environment: Environment
) -> None:
    plain = copy()
    command = [sys.executable, "-m", "dvc", "repro", "-q"]
    subprocess.run(command, cwd=plain, env=environment, check=True, stdout=subprocess.DEVNULL)
    for name in ("dvc.lock", "data.dvc", "dataset", "trained", "evaluated", ".gitignore"):
        assert (first[0] / name).read_bytes() == (plain / name).read_bytes(), name


def test_second_run_executes_register_alone_and_restores_a_lost_output(
    first: tuple[Path, Run], served: Environment, api: Api
) -> None:
    root, before_report = first
    assert "no report: cat: report.md: No such file or directory" in before_report.stderr
    report = (
        "# The result\n\n[model](http://127.0.0.1:5000) · [run](http://127.0.0.1:5000/runs/1)\n"
    )
    (root / "report.md").write_text(report)
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
    identifier = {"any_": [api.flow_run(result.stderr)["id"]]}
    found = api.post("artifacts/filter", artifacts={"flow_run_id": identifier})
    assert {artifact["key"]: artifact["data"] for artifact in found} == {
        "register-report": report,
        "register-run": "[run](http://127.0.0.1:5000/runs/1)",
    }


@pytest.mark.faults
def test_half_a_result_of_an_interrupted_dvc_stops_no_later_run(
    first: tuple[Path, Run], served: Environment, tmp_path: Path
) -> None:
    root = tmp_path / "repository"
    shutil.copytree(first[0], root)
    for whole in list(root.glob(".dvc/cache/runs/*/*/*")):
        half = whole.rename(whole.with_name(".half.tmp"))
        half.write_text("cmd: half\n")
        os.utime(half, (0, 0))
        os.utime(half.parent, (0, 0))
    (root / "dvc.lock").unlink()
    result = run(served, "pipelines.training", "--repository", root, "--allow-uncommitted")
    assert result.returncode == 0, result.stderr
    assert ran(root)[-4:] == ["preprocess", "train", "evaluate", "register"]


def test_uncommitted_changes_end_the_run_unless_allowed(copy: Copy, served: Environment) -> None:
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
    first: tuple[Path, Run], served: Environment, tmp_path_factory: pytest.TempPathFactory
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


def test_sigterm_ends_the_stage_and_its_progress_stays_on_record(
    copy: Copy, served: Environment, api: Api
) -> None:
    steps = "for i in $(seq 200); do echo train: $i/200  0:00:01 left; done"
    root = copy(json.dumps(f"{steps}; {WAITING}"))
    with running(served, root) as flow:
        flow.wait_for("train: 200/200")  # or the signal may interrupt the artifact's update
        flow.process.terminate()
        flow.process.wait(60)
    assert flow.process.returncode == 1
    assert (root / "saved").exists()
    assert "Task run 'train' - saved" in flow.log
    assert flow.log.splitlines()[-1] == "interrupted"
    assert ran(root) == ["preprocess"]
    lines = [line for line in flow.log.splitlines() if "/200 0:00:01 left" in line]
    assert 15 < len(lines) < 25
    identifier = {"any_": [api.flow_run(flow.log)["id"]]}
    found = api.post("artifacts/filter", artifacts={"flow_run_id": identifier})
    # A server that answers late has the first one twice.
    assert {(item["type"], item["key"]) for item in found} == {("progress", "train-progress")}
    assert 100.0 in [item["data"] for item in found]


@pytest.mark.parametrize(
    "url", ["http://me:secret@127.0.0.1:9/api", "http://me:secret@[::1/api", "nonsense"]
)
def test_a_stale_server_address_is_one_line(environment: Environment, url: str) -> None:
    result = run(environment | {"PREFECT_API_URL": url}, "pipelines.training")
    assert result.returncode == 1
    assert result.stderr.startswith("error: no Prefect server at ")
    assert len(result.stderr.splitlines()) == 1
    assert "unset PREFECT_API_URL" in result.stderr
    assert "secret" not in result.stderr


def test_directory_without_stages_is_one_clear_line(served: Environment, tmp_path: Path) -> None:
    result = run(served, "pipelines.training", "--repository", tmp_path)
    assert result.returncode == 1
    text = f"error: {tmp_path}: no dvc.yaml; name a project: --repository FOLDER"
    assert text in result.stderr.splitlines()
    assert "Traceback" not in result.stderr
