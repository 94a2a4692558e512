"""`python -m pipelines.sweep`, with real processes, real DVC and a real server."""

import json
import shutil
import signal
import subprocess
from importlib import resources
from pathlib import Path

import pytest

from flows import Api, Environment, Flow, Run, run
from servers import wait

pytestmark = pytest.mark.faults

DVC_YAML = """\
stages:
  train:
    cmd: python train.py
    deps: [train.py]
    params: [seed, train]
    outs: [trained]
  evaluate:
    cmd: python evaluate.py
    deps: [trained, evaluate.py]
    metrics:
      - metrics.json: {cache: false}
  register:
    cmd: echo register $DVC_EXP_NAME >> $LOG
    deps: [metrics.json]
"""
# Fails with a rate of 0.5. With one of 0.25, it waits, and saves a checkpoint if it is told to
# stop. The quick FID is lower after more epochs.
TRAIN = """\
import json, os, pathlib, signal, sys, time, yaml
log = pathlib.Path(os.environ["LOG"])
train = yaml.safe_load(pathlib.Path("params.yaml").read_text())["train"]
lr, epochs = train["lr"], train["epochs"]
with log.open("a") as file:
    file.write(f"train {lr} {epochs}\\n")
if lr == 0.5:
    sys.exit("weights became NaN")
checkpoint = log.with_name("checkpoint")
if checkpoint.exists():
    print("resuming", flush=True)
def stop(*_):
    checkpoint.touch()
    sys.exit(1)
signal.signal(signal.SIGTERM, stop)
while lr == 0.25 and not log.with_name("go").exists():
    time.sleep(0.1)
folder = pathlib.Path("trained")
folder.mkdir(exist_ok=True)
events = [{"event": "start", "quick_fid": "quick_fid2"}]
events += [{"event": "score", "images_seen": 1, "quick_fid": 10 * lr / epochs}]
(folder / "history.jsonl").write_text("".join(json.dumps(event) + "\\n" for event in events))
"""
EVALUATE = """\
import json, pathlib
lines = pathlib.Path("trained/history.jsonl").read_text().splitlines()
scores = {"fid2": json.loads(lines[-1])["quick_fid"], "protocol": {"name": "fid2"}}
pathlib.Path("metrics.json").write_text(json.dumps(scores))
"""


@pytest.fixture(scope="module")
def project(
    repository: Path, environment: Environment, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A committed project whose trainings take no time."""
    root = tmp_path_factory.mktemp("sweep") / "a project"
    shutil.copytree(repository, root)
    digits = resources.files("facegan").joinpath("presets", "digits.yaml").read_text("utf-8")
    files = {"params.yaml": digits, "train.py": TRAIN, "evaluate.py": EVALUATE}
    for name, text in {**files, "dvc.yaml": DVC_YAML}.items():
        (root / name).write_text(text)
    for command in (["git", "add", "--all"], ["git", "commit", "-qm", "all"]):
        subprocess.run(command, cwd=root, env=environment, check=True)
    return root


@pytest.fixture
def logged(served: Environment, tmp_path: Path) -> tuple[Environment, Path]:
    """An environment whose stages write a line each to the file."""
    return served | {"LOG": str(tmp_path / "log")}, tmp_path / "log"


def sweep(environment: Environment, project: Path, *options: str) -> Run:
    return run(environment, "pipelines.sweep", "--repository", project, *options)


def table(api: Api, log: str) -> list[dict[str, str]]:
    """The newest table in Prefect of the sweep whose log this is."""
    run = api.flow_run(log)["id"]
    filters = {"flow_run_id": {"any_": [run]}, "type": {"any_": ["table"]}}
    found = api.post("artifacts/filter", artifacts=filters, sort="UPDATED_DESC")
    return list(json.loads(found[0]["data"]))


def test_a_sweep_ends_with_a_table_and_registers_the_best_beside_a_failed_trial(
    project: Path, logged: tuple[Environment, Path], api: Api
) -> None:
    environment, log = logged
    before = subprocess.check_output(["git", "status", "--porcelain"], cwd=project)
    result = sweep(environment, project, "train.lr=0.3,0.5,0.1")
    assert result.returncode == 0, result.stderr
    rows = table(api, result.stderr)
    assert [row["state"] for row in rows] == ["scored", "failed", "scored"]
    assert [row["fid2"] for row in rows] == ["0.333333", "", "0.111111"]
    assert rows[1]["why"].startswith("weights became NaN; failed to reproduce 'train'")
    name = f"{result.stderr.split('Flow run')[3].split()[2].strip(':')}"
    *trained, registered = log.read_text().splitlines()
    assert trained == ["train 0.3 9", "train 0.5 9", "train 0.1 9"]
    assert registered == f"register {name}-2-best"
    assert f"dvc exp apply {name}-2-best && dvc repro" in result.stderr
    assert subprocess.check_output(["git", "status", "--porcelain"], cwd=project) == before
    # All is done: nothing runs again.
    again = sweep(environment, project, "train.lr=0.3,0.5,0.1")
    assert again.returncode == 0, again.stderr
    assert log.read_text().splitlines() == [*trained, registered]


def test_a_killed_sweep_continues_with_its_unfinished_trial(
    project: Path, logged: tuple[Environment, Path], api: Api
) -> None:
    environment, log = logged
    options = ("train.lr=0.2,0.25,0.15",)
    with Flow(environment, project, *options, module="pipelines.sweep") as killed:
        wait(lambda: log.exists() and "0.25" in log.read_text())
        killed.process.send_signal(signal.SIGKILL)
    wait(log.with_name("checkpoint").exists)
    log.with_name("go").touch()
    result = sweep(environment, project, *options)
    assert result.returncode == 0, result.stderr
    assert "resuming" in result.stderr
    trained = [line for line in log.read_text().splitlines() if line.startswith("train")]
    assert trained == ["train 0.2 9", "train 0.25 9", "train 0.25 9", "train 0.15 9"]
    assert [row["state"] for row in table(api, result.stderr)] == ["scored"] * 3
    assert api.flow_run(killed.log)["state"]["name"] == "Crashed"


def test_a_trial_that_is_not_among_the_best_at_a_rung_ends_there(
    project: Path, logged: tuple[Environment, Path], api: Api
) -> None:
    environment, log = logged
    options = ("train.lr=0.01,0.03,0.02", "--halving-epochs", "2")
    result = sweep(environment, project, *options)
    assert result.returncode == 0, result.stderr
    rows = table(api, result.stderr)
    assert [row["state"] for row in rows] == ["scored", "ended early", "ended early"]
    assert rows[1]["why"] == "quick FID not among the best after train.epochs 2"
    trained = [line for line in log.read_text().splitlines() if line.startswith("train")]
    first = ["train 0.01 2", "train 0.01 6", "train 0.01 9"]
    assert trained == [*first, "train 0.03 2", "train 0.02 2"]


def test_a_wrong_key_is_one_line_before_anything_runs(
    project: Path, logged: tuple[Environment, Path]
) -> None:
    environment, log = logged
    result = sweep(environment, project, "train.lr=0.3", "train.lrr=0,1")
    assert result.returncode == 1
    message = "error: train.lrr: 0: unknown key; did you mean lr? valid keys: "
    assert result.stderr.splitlines()[-1].startswith(message)
    assert not log.exists()
