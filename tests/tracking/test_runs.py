"""MLflow runs as a mirror of the history, in a real SQLite store."""

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from PIL import Image

from facegan.core.errors import FaceganError
from facegan.core.events import Message, Scored
from facegan.tracking import connection, runs

START = {
    "event": "start",
    "fingerprint": "f00d",
    "data": "beef",
    "images": 540,
    "shape": [32, 32, 1],
    "seed": 0,
    "quick_fid": "quick_fid40_efficientnet-lite0-32",
    "train": {"lr": 0.0002, "epochs": 2},
}


def losses(seen: int) -> dict[str, Any]:
    values = {"discriminator": 1.0, "generator": seen / 10, "accuracy": 0.5}
    return {"event": "losses", "images_seen": seen, **values}


def samples(seen: int) -> dict[str, Any]:
    picture = f"samples/{seen:010d}.png"
    return {"event": "samples", "images_seen": seen, "picture": picture, "diversity": 0.9}


def score(seen: int) -> dict[str, Any]:
    return {"event": "score", "images_seen": seen, "quick_fid": 99.5 - seen}


def write(folder: Path, *events: dict[str, Any]) -> Path:
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    for event in events:
        if "picture" in event:
            Image.new("L", (8, 8)).save(folder / event["picture"])
    lines = "".join(json.dumps(event) + "\n" for event in (START, *events))
    (folder / "history.jsonl").write_text(lines)
    return folder


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


def test_mirroring_again_adds_only_new_events_to_the_same_run(
    client: MlflowClient, tmp_path: Path
) -> None:
    folder = write(tmp_path / "run", losses(20))
    first = runs.mirror(client, folder, "faces")
    runs.mirror(client, folder, "faces")
    again = runs.mirror(client, write(folder, losses(20), losses(40)), "faces")
    assert again.info.run_id == first.info.run_id
    history = client.get_metric_history(first.info.run_id, "loss/generator")
    assert [m.step for m in history] == [20, 40]


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


def test_a_run_ends_finished_or_killed(client: MlflowClient, tmp_path: Path) -> None:
    folder = write(tmp_path / "run", score(0))
    event = Scored(folder, 0, 5.0)
    with runs.Mirror("faces", lambda event: None) as mirror:
        mirror(event)
    assert mirror.run_id is not None
    assert client.get_run(mirror.run_id).info.status == "FINISHED"
    with pytest.raises(KeyboardInterrupt), runs.Mirror("faces", lambda event: None) as mirror:
        mirror(event)
        raise KeyboardInterrupt
    assert mirror.run_id is not None
    assert client.get_run(mirror.run_id).info.status == "KILLED"


def test_a_server_that_is_down_gives_one_message_and_training_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    messages: list[str] = []

    def note(event: Any) -> None:
        if isinstance(event, Message):
            messages.append(event.text)

    folder = write(tmp_path / "run", score(0))
    event = Scored(folder, 0, 5.0)
    with runs.Mirror("faces", note) as mirror:
        mirror(event)
        mirror(event)
    assert len(messages) == 1 and "\n" not in messages[0]
    assert messages[0].startswith("MLflow at http://127.0.0.1:9: ")
    assert messages[0].endswith(
        "; training continues, and `facegan register` logs the missing metrics later"
    )


@pytest.mark.parametrize(
    ("uri", "shown", "reason"),
    [
        ("http://127.0.0.1:9", "http://127.0.0.1:9", "[Errno 111] Connection refused"),
        ("sqlite:////proc/x.db", "sqlite:////proc/x.db", "unable to open database file"),
        (
            "postgresql+psycopg://me:tell-no-one@127.0.0.1:9/x",
            "postgresql+psycopg://me:***@127.0.0.1:9/x",
            "No module named 'psycopg'",
        ),
        ("gopher://x", "gopher://x", "Model registry functionality is unavailable"),
    ],
)
def test_a_store_that_cannot_be_reached_is_one_line_without_its_password(
    uri: str, shown: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(FaceganError) as caught:
        connection.connect()
    text = str(caught.value)
    assert text.startswith(f"MLflow at {shown}: {reason}")
    assert text.endswith("; check MLFLOW_TRACKING_URI and that the server is running")
    assert "\n" not in text and "tell-no-one" not in text


def test_scores_are_metrics_whose_names_state_the_protocol(
    client: MlflowClient, tmp_path: Path
) -> None:
    run = runs.mirror(client, write(tmp_path / "run", losses(20)), "faces")
    scores = {
        "fid2k_efficientnet-lite0-64": 50.0,
        "fid2k_efficientnet-lite0-64_spread": 0.5,
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
