"""A run's points equal the history's, however often and by whomever it is mirrored."""

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from facegan.tracking import connection, record, runs
from histories import QUICK, grids, interval, losses, points, samples, score, write
from stores import Store

EVENTS = [score(0), *interval(20), *interval(40)]
EXPECTED = {
    QUICK: [(0, 99.5), (20, 79.5), (40, 59.5)],
    "loss/generator": [(10, 1.0), (20, 2.0), (30, 3.0), (40, 4.0)],
}


@pytest.fixture(name="client")
def make_client(store: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.setenv("FACEGAN_CHECKPOINTS", str(store / "checkpoints"))
    return connection.connect()


def with_record(folder: Path, *scores: tuple[int, int, float]) -> Path:
    record.write_run(folder, "faces", "cpu")
    lines = "".join(json.dumps(entry) + "\n" for entry in scores)
    (folder / record.FOLDER / record.SCORES).write_text(lines)
    return folder


def require_expected(client: MlflowClient, run_id: str) -> None:
    found = points(client, run_id)
    assert {key: found[key] for key in EXPECTED} == EXPECTED
    assert len(grids(client, run_id)) == 4


def test_mirroring_again_adds_only_new_points(client: MlflowClient, tmp_path: Path) -> None:
    folder = write(tmp_path / "run", *EVENTS[:5])
    first = runs.mirror(client, folder, "faces")
    runs.mirror(client, folder, "faces")
    again = runs.mirror(client, write(folder, *EVENTS), "faces")
    assert again.info.run_id == first.info.run_id
    require_expected(client, first.info.run_id)


def test_the_quick_fid_comes_first_because_mlflows_comparison_shows_the_first_metric(
    client: MlflowClient, tmp_path: Path
) -> None:
    events = [samples(0), score(0), *interval(20)]
    run = runs.mirror(client, write(tmp_path / "run", *events), "faces")
    assert next(iter(run.data.metrics)) == QUICK


def test_the_probability_of_adaptive_augmentation_is_a_metric(
    client: MlflowClient, tmp_path: Path
) -> None:
    adaptive = [{**losses(seen), "augment_probability": seen / 100} for seen in (10, 20)]
    run = runs.mirror(client, write(tmp_path / "run", score(0), *adaptive), "faces")
    assert points(client, run.info.run_id)["augment_probability"] == [(10, 0.1), (20, 0.2)]


def test_the_same_training_at_another_time_or_by_a_colleague_doubles_nothing(
    client: MlflowClient, tmp_path: Path
) -> None:
    mine = with_record(write(tmp_path / "a", *EVENTS), (0, 1000, 0.0), (20, 2000, 5.0))
    theirs = with_record(write(tmp_path / "b", *EVENTS), (0, 7000, 0.0), (20, 9500, 6.0))
    (run_id,) = {runs.mirror(client, f, "faces").info.run_id for f in (mine, theirs, mine)}
    require_expected(client, run_id)
    assert points(client, run_id)["images_per_second"] == [(20, 5.0)]


def test_slightly_other_values_of_a_repetition_on_a_gpu_are_no_new_points(
    client: MlflowClient, tmp_path: Path
) -> None:
    run = runs.mirror(client, write(tmp_path / "a", *EVENTS), "faces")
    other = [{**e, "quick_fid": e["quick_fid"] + 0.01} if "quick_fid" in e else e for e in EVENTS]
    runs.mirror(client, write(tmp_path / "b", *other), "faces")
    require_expected(client, run.info.run_id)


def test_both_values_of_a_step_that_a_rollback_repeated_are_points(
    client: MlflowClient, tmp_path: Path
) -> None:
    rollback = {"event": "rollback", "images_seen": 20, "attempt": 1}
    second = {**losses(30), "generator": 7.0}
    folder = write(tmp_path / "run", *EVENTS[:5], losses(30))
    run_id = runs.mirror(client, folder, "faces").info.run_id
    for _ in range(2):
        runs.mirror(client, write(folder, *EVENTS[:5], losses(30), rollback, second), "faces")
    found = sorted(points(client, run_id)["loss/generator"])
    assert found == [(10, 1.0), (20, 2.0), (30, 3.0), (30, 7.0)]


def test_a_point_that_another_process_added_meanwhile_is_not_repeated(
    client: MlflowClient, tmp_path: Path
) -> None:
    known, folder = runs.Known(), write(tmp_path / "a", *EVENTS[:5])
    runs.mirror(client, folder, "faces", known)
    run_id = runs.mirror(client, write(tmp_path / "b", *EVENTS), "faces").info.run_id
    runs.mirror(client, write(folder, *EVENTS), "faces", known)
    require_expected(client, run_id)


def test_two_processes_that_mirror_one_training_at_once_make_one_run(
    client: MlflowClient, tmp_path: Path
) -> None:
    folders = [write(tmp_path / name, *EVENTS) for name in "ab"]
    for folder in folders:
        with_record(folder, (0, 1000, 0.0), (20, 2000, 5.0))
    start = threading.Barrier(2)

    def go(folder: Path) -> None:
        start.wait()
        runs.mirror(connection.connect(), folder, "faces")

    threads = [threading.Thread(target=go, args=(folder,)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run = runs.mirror(client, folders[0], "faces")
    found = client.search_runs([run.info.experiment_id])
    assert [r.info.run_id for r in found] == [run.info.run_id]
    require_expected(client, run.info.run_id)


def test_times_are_those_of_the_training_whenever_it_is_mirrored(
    client: MlflowClient, tmp_path: Path
) -> None:
    folder = with_record(
        write(tmp_path / "checkpoints/a", *EVENTS), (0, 1000, 0.0), (40, 5000, 9.0)
    )
    outputs = shutil.copytree(folder, tmp_path / "train", ignore=lambda *_: [record.FOLDER])
    run = runs.mirror(client, outputs, "faces")
    history = client.get_metric_history(run.info.run_id, "loss/generator")
    assert [(m.step, m.timestamp) for m in history] == [
        (10, 2000), (20, 3000), (30, 4000), (40, 5000),
    ]  # fmt: skip
    assert run.info.start_time == 1000


@pytest.mark.parametrize("name", ["facegan.mirrored", "facegan.fid", runs.COLLAPSED])
def test_tags_that_somebody_edited_stop_nothing(
    client: MlflowClient, tmp_path: Path, name: str
) -> None:
    folder = write(tmp_path / "run", *EVENTS[:5])
    run_id = runs.mirror(client, folder, "faces").info.run_id
    client.set_tag(run_id, name, "no number")
    runs.mirror(client, write(folder, *EVENTS), "faces")
    require_expected(client, run_id)


def test_a_grid_of_which_half_was_uploaded_is_completed(
    client: MlflowClient, backend: Store, tmp_path: Path
) -> None:
    folder = write(tmp_path / "run", *EVENTS)
    run = runs.mirror(client, folder, "faces")
    for name in backend.files("*/images/*step+20*.webp"):
        backend.delete(name)
    assert len(grids(client, run.info.run_id)) == 3
    runs.mirror(client, folder, "faces")
    require_expected(client, run.info.run_id)


def test_a_score_that_is_no_number_is_a_point_once(client: MlflowClient, tmp_path: Path) -> None:
    events: list[dict[str, Any]] = [{**score(0), "quick_fid": float("nan")}, score(20)]
    folder = write(tmp_path / "run", *events)
    runs.mirror(client, folder, "faces")
    run_id = runs.mirror(client, folder, "faces").info.run_id
    assert [step for step, _ in points(client, run_id)[QUICK]] == [0, 20]


def test_a_training_resumed_with_another_quick_fid_has_both_by_their_names(
    client: MlflowClient, tmp_path: Path
) -> None:
    resume = {"event": "resume", "images_seen": 20, "quick_fid": "quick_fid80_x"}
    folder = write(tmp_path / "run", score(0), score(20), resume, score(40))
    found = points(client, runs.mirror(client, folder, "faces").info.run_id)
    assert found[QUICK] == [(0, 99.5), (20, 79.5)]
    assert found["quick_fid80_x"] == [(40, 59.5)]
