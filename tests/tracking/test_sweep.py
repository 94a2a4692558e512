"""A sweep's run in a real MLflow store: a parent with its trials below."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from facegan.tracking import connection, runs, sweep
from histories import SCORES, START, score, write

NAME = "sweep-1a2b3c4d"


@pytest.fixture(name="client")
def make_client(store: Path) -> MlflowClient:
    return connection.connect()


def train(client: MlflowClient, folder: Path, experiment: str, fingerprint: str) -> None:
    """Mirror a training that a DVC experiment began."""
    write(folder, score(40))
    history = folder / "history.jsonl"
    start = {**START, "fingerprint": fingerprint}
    rest = history.read_text("utf-8").splitlines()[1:]
    history.write_text("\n".join([json.dumps(start), *rest]) + "\n", "utf-8")
    run = runs.mirror(client, folder, "faces")
    client.set_tag(run.info.run_id, "facegan.dvc_experiment", experiment)


def content(*numbers: int) -> dict[str, Any]:
    trials = [
        {"number": n, "fingerprint": f"f{n}", "scores": {**SCORES, "fid50k_inception": 50.0 + n}}
        for n in numbers
    ]
    params = {"search": "train.lr=1,2", "sampler": "grid"}
    return {"sweep": NAME, "experiment": "faces", "params": params, "trials": trials}


def all_runs(client: MlflowClient) -> dict[str, Run]:
    experiment = client.get_experiment_by_name("faces")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    return {run.data.tags.get("facegan.dvc_experiment", run.info.run_name): run for run in found}


def test_trials_are_below_their_sweep_and_have_their_scores(
    client: MlflowClient, tmp_path: Path
) -> None:
    train(client, tmp_path / "a", f"{NAME}-0", "f0")
    train(client, tmp_path / "b", f"{NAME}-1-3-epochs", "f1")  # ended early
    train(client, tmp_path / "c", "by hand", "f2")  # before the sweep, with a trial's parameters
    sweep.record(content(0))
    sweep.record(content(0, 2))  # again, with what is new
    found = all_runs(client)
    parent = found.pop(NAME)
    below = {name: run.data.tags.get("mlflow.parentRunId") for name, run in found.items()}
    parent_id = parent.info.run_id
    assert below == {f"{NAME}-0": parent_id, f"{NAME}-1-3-epochs": parent_id, "by hand": None}
    fids = {name: run.data.metrics.get("fid50k_inception") for name, run in found.items()}
    assert fids == {f"{NAME}-0": 50.0, f"{NAME}-1-3-epochs": None, "by hand": 52.0}
    assert parent.data.params == {"search": "train.lr=1,2", "sampler": "grid"}
    assert parent.info.status == "FINISHED"
    history = client.get_metric_history(parent_id, "fid50k_inception")
    assert [(metric.step, metric.value) for metric in history] == [(0, 50.0), (2, 52.0)]


def test_without_mlflow_it_ends_with_one_line(store: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-P", "-m", "facegan.tracking.sweep"],
        input=json.dumps(content(0)),
        env={**os.environ, "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.strip().count("\n") == 0
    assert "http://127.0.0.1:9" in result.stderr
