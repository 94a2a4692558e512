"""The shared view of MLflow's pages of runs. MLflow's own page was looked at in a browser."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from facegan.tracking import connection, runs, views
from histories import QUICK, losses, score, write


@pytest.fixture
def experiment(store: Path) -> tuple[MlflowClient, str]:
    client = connection.connect()
    run = runs.mirror(client, write(store / "a", losses(10), losses(20), score(20)), "faces")
    return client, run.info.experiment_id


def test_scores_and_parameters_come_first(experiment: tuple[MlflowClient, str]) -> None:
    client, number = experiment
    (run,) = client.search_runs([number])
    assert views.view([run])["selectedColumns"][:2] == [
        f"metrics.`{QUICK}`",
        "params.`train.architecture`",
    ]
    for name in ("fid2k_x", "fid2k_x_spread", "fid2k_x_floor", "memorised2k_x", "recall2k_x"):
        client.log_metric(run.info.run_id, name, 1.0)
    (run,) = client.search_runs([number])
    view = views.view([run])
    assert view["selectedColumns"][:4] == [
        "metrics.`fid2k_x`", "metrics.`memorised2k_x`", "metrics.`recall2k_x`",
        f"metrics.`{QUICK}`",
    ]  # fmt: skip
    (chart,) = view["compareRunCharts"]
    assert chart["selectedMetrics"] == ["fid2k_x"]
    section = view["compareRunSections"][0]
    assert section["uuid"] == chart["metricSectionId"] and not section["isGenerated"]
    assert chart["selectedParams"] == ["train.architecture", "train.loss", "train.lr"]


def test_the_view_is_a_tag_that_mlflow_can_keep(experiment: tuple[MlflowClient, str]) -> None:
    client, number = experiment
    (run,) = client.search_runs([number])
    views.share(client, number)
    tag = client.get_experiment(number).tags["mlflow.sharedViewState.facegan"]
    assert json.loads(tag) == views.view([run])
    for protocol in range(200):
        client.log_metric(run.info.run_id, f"fid{protocol}k_x", 1.0)
    views.share(client, number)
    assert client.get_experiment(number).tags["mlflow.sharedViewState.facegan"] == tag
