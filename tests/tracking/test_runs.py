"""MLflow runs as a mirror of the history, in a real SQLite store."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from mlflow import MlflowClient
from sqlalchemy.engine import Engine

from commands import invoke
from conftest import START
from facegan.core.errors import FaceganError
from facegan.tracking import connection, note, runs
from histories import SCORES, losses, samples, score, write


@pytest.fixture(name="client")
def make_client(store: Path) -> MlflowClient:
    return connection.connect()


def test_metrics_have_images_seen_as_step_and_the_protocol_in_their_name(
    client: MlflowClient, tmp_path: Path
) -> None:
    folder = write(
        tmp_path / "run", samples(0), score(0), losses(20), losses(40), samples(40), score(40)
    )
    run = runs.mirror(client, folder, "faces")
    history = client.get_metric_history(run.info.run_id, "loss/generator")
    assert [(m.step, m.value) for m in history] == [(20, 2.0), (40, 4.0)]
    history = client.get_metric_history(run.info.run_id, "quick_fid40_efficientnet-lite0-32")
    assert [(m.step, m.value) for m in history] == [(0, 99.5), (40, 59.5)]
    params = client.get_run(run.info.run_id).data.params
    assert params["train.lr"] == "0.0002" and params["images"] == "540"
    images = [Path(a.path).name for a in client.list_artifacts(run.info.run_id, "images")]
    # As the UI's slider expects them: key and step, a PNG and a small WebP.
    assert sorted({tuple(name.split("+")[:3]) for name in images}) == [
        ("samples", "step", "0"),
        ("samples", "step", "40"),
    ]


@pytest.mark.usefixtures("sqlite")
@pytest.mark.parametrize("table", ["params", "datasets"])
def test_what_another_process_mirrors_at_the_same_moment_is_no_error(
    table: str, client: MlflowClient, store: Path, tmp_path: Path
) -> None:
    def interfere(connection: Any, cursor: Any, statement: str, rows: Any, *rest: Any) -> None:
        if statement.startswith(f"INSERT INTO {table} ") and not inserted:
            inserted.append(table)
            with closing(sqlite3.connect(store / "mlflow.db")) as other, other:
                other.executemany(statement, rows if isinstance(rows, list) else [rows])

    inserted: list[str] = []
    sqlalchemy.event.listen(Engine, "before_cursor_execute", interfere)
    try:
        run = runs.mirror(client, write(tmp_path / "run", losses(20)), "faces")
    finally:
        sqlalchemy.event.remove(Engine, "before_cursor_execute", interfere)
    assert inserted == [table]
    assert run.data.params["train.lr"] == "0.0002"
    assert run.inputs is not None and len(run.inputs.dataset_inputs) == 1


def test_scores_after_a_resume_with_another_quick_fid_have_its_name(
    client: MlflowClient, tmp_path: Path
) -> None:
    resume = {
        "event": "resume", "images_seen": 20, "changed": {"train.quick_num_samples": [40, 60]},
        "quick_fid": "quick_fid60_efficientnet-lite0-32", "best": score(20),
    }  # fmt: skip
    folder = write(tmp_path / "run", score(20))
    runs.mirror(client, folder, "faces")
    run = runs.mirror(client, write(folder, score(20), resume, score(40)), "faces")
    runs.mirror(client, write(folder, score(20), resume, score(40), score(60)), "faces")
    for name, seen in (("quick_fid40", [20]), ("quick_fid60", [40, 60])):
        history = client.get_metric_history(run.info.run_id, f"{name}_efficientnet-lite0-32")
        assert [m.step for m in history] == seen


def test_a_collapse_is_a_tag_of_the_run(store: Path, tmp_path: Path) -> None:
    client = connection.connect()
    collapse = {"event": "collapse", "images_seen": 4000, "reason": "samples differ by 1.0%"}
    run = runs.mirror(client, write(tmp_path / "run", samples(4000), collapse), "faces")
    tags = client.get_run(run.info.run_id).data.tags
    assert tags[runs.COLLAPSED] == "at 4,000 images seen: samples differ by 1.0%"
    assert client.get_run(run.info.run_id).data.metrics["diversity"] == 0.9


def test_a_run_is_created_from_the_history_if_the_server_has_none(
    client: MlflowClient, tmp_path: Path
) -> None:
    folder = write(tmp_path / "run", losses(20), score(40))
    run = runs.mirror(client, folder, "another")
    assert client.get_run(run.info.run_id).data.tags["facegan.fingerprint"] == "f00d"


def test_scores_are_metrics_whose_names_state_the_protocol(
    client: MlflowClient, tmp_path: Path
) -> None:
    run = runs.mirror(client, write(tmp_path / "run", losses(20)), "faces")
    scores = {
        "fid2k_efficientnet-lite0-64": 50.0,
        "fid2k_efficientnet-lite0-64_spread": 0.5,
        "fid2k_efficientnet-lite0-64_heldout": 70.0,
        "fid2k_efficientnet-lite0-64_train": 61.0,
        "fid2k_efficientnet-lite0-64_gap": 9.0,
        "recall1k_efficientnet-lite0-64": 0.25,
        "untrained": 900.0,
        "floor": 3.0,
        "images_seen": 40,
        "protocol": {
            "name": "fid2k_efficientnet-lite0-64",
            "comparability_note": "not comparable with published FIDs",
        },
    }
    runs.log_scores(client, run, scores)
    logged = client.get_run(run.info.run_id).data
    expected = {key: value for key, value in scores.items() if "efficientnet" in key}
    expected |= {"fid2k_efficientnet-lite0-64_untrained": 900.0}
    expected |= {"fid2k_efficientnet-lite0-64_floor": 3.0}
    assert {key: value for key, value in logged.metrics.items() if "lite0" in key} == expected
    note = "efficientnet-lite0-64: not comparable with published FIDs"
    assert logged.tags[runs.COMPARABILITY_NOTE] == note
    table = logged.tags["mlflow.note.content"].splitlines()
    assert (
        "| fid2k_efficientnet-lite0-64_heldout | 70 | FID against held-out photographs |" in table
    )
    assert not any("_gap" in line for line in table)
    (trained_on,) = (line for line in table if "_train " in line)
    assert trained_on.endswith("| 61 | FID against as many training photographs |")


def test_scores_comparable_with_the_literature_have_no_note(
    client: MlflowClient, tmp_path: Path
) -> None:
    run = runs.mirror(client, write(tmp_path / "run", losses(20)), "faces")
    scores = {"fid50k_inception": 50.0, "untrained": 9.0, "floor": 3.0, "images_seen": 40}
    protocol = {"name": "fid50k_inception", "comparability_note": ""}
    runs.log_scores(client, run, {**scores, "protocol": protocol})
    logged = client.get_run(run.info.run_id).data
    assert logged.metrics["fid50k_inception"] == 50.0
    assert runs.COMPARABILITY_NOTE not in logged.tags


def test_scores_and_their_data_set_are_beside_the_logged_model(
    client: MlflowClient, tmp_path: Path
) -> None:
    run = runs.mirror(client, write(tmp_path / "run", losses(20)), "faces")
    model = client.create_logged_model(run.info.experiment_id, "generator", run.info.run_id)
    for _ in range(2):
        runs.log_scores(client, run, SCORES, model.model_id)
    metrics = client.get_logged_model(model.model_id).metrics or []
    (fid,) = (metric for metric in metrics if metric.key == "fid50k_inception")
    assert (fid.value, fid.step) == (50.0, 40)
    assert (fid.dataset_name, fid.dataset_digest) == ("photographs", "beefbeef")
    assert len(client.get_metric_history(run.info.run_id, "fid50k_inception")) == 1


def test_scores_of_another_evaluation_are_the_last_points_of_run_and_model(
    client: MlflowClient, tmp_path: Path
) -> None:
    run = runs.mirror(client, write(tmp_path / "run", losses(20)), "faces")
    model = client.create_logged_model(run.info.experiment_id, "generator", run.info.run_id)
    for fid in (50.0, 49.0, 51.0, 51.0, 50.0):
        run = client.get_run(run.info.run_id)
        runs.log_scores(client, run, {**SCORES, "fid50k_inception": fid}, model.model_id)
        assert client.get_run(run.info.run_id).data.metrics["fid50k_inception"] == fid
        metrics = client.get_logged_model(model.model_id).metrics or []
        last = max((m for m in metrics if "fid50k" in m.key), key=lambda m: m.timestamp)
        assert last.value == fid
    assert len(client.get_metric_history(run.info.run_id, "fid50k_inception")) == 4


def test_scores_logged_to_the_run_alone_are_no_second_points_with_the_model(
    client: MlflowClient, tmp_path: Path
) -> None:
    run = runs.mirror(client, write(tmp_path / "run", losses(20)), "faces")
    runs.log_scores(client, run, SCORES)
    model = client.create_logged_model(run.info.experiment_id, "generator", run.info.run_id)
    runs.log_scores(client, client.get_run(run.info.run_id), SCORES, model.model_id)
    assert len(client.get_metric_history(run.info.run_id, "fid50k_inception")) == 1
    assert client.get_logged_model(model.model_id).metrics


def test_the_note_has_the_scores_and_how_to_load_unless_a_person_wrote_one(
    client: MlflowClient, tmp_path: Path
) -> None:
    run = runs.mirror(client, write(tmp_path / "run", losses(20)), "faces")
    runs.log_scores(client, run, SCORES)
    text = client.get_run(run.info.run_id).data.tags[note.TAG]
    assert "| fid50k_inception | 50 |" in text
    assert f'load_model("runs:/{run.info.run_id}/generator")' in text and "(16, 100)" in text
    client.set_tag(run.info.run_id, note.TAG, "mine")
    runs.log_scores(client, client.get_run(run.info.run_id), SCORES)
    assert client.get_run(run.info.run_id).data.tags[note.TAG] == "mine"


def test_a_deleted_experiment_is_one_line_that_says_how_to_restore_it(
    client: MlflowClient, tmp_path: Path
) -> None:
    number = client.create_experiment("faces")
    client.delete_experiment(number)
    with pytest.raises(FaceganError, match=f"mlflow experiments restore -x {number}, or set"):
        runs.mirror(client, write(tmp_path / "run", losses(20)), "faces")


def test_the_experiment_opens_in_the_view_for_model_training(
    client: MlflowClient, tmp_path: Path
) -> None:
    run = runs.mirror(client, write(tmp_path / "run", losses(20)), "faces")
    tags = client.get_experiment(run.info.experiment_id).tags
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    assert run.info.status == "FINISHED"  # outputs without a record are those of a finished one


def test_a_damaged_history_stops_the_sync_of_no_other_training(store: Path, tmp_path: Path) -> None:
    for name, text in (("empty", ""), ("good", f"{json.dumps(START)}\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "history.jsonl").write_text(text)
    preset = invoke("preset", "digits", cwd=tmp_path)
    assert preset.returncode == 0
    done = invoke("sync", "empty", "good", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.startswith("good: run train-f1 ")
    assert "empty/history.jsonl: not the history of a training" in done.stderr
