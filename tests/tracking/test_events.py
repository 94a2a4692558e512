"""Histories that were cut off or edited."""

import json
from pathlib import Path

import pytest

from commands import invoke
from facegan.core.errors import FaceganError
from facegan.tracking.events import KEYS, read_events

START = {
    "event": "start", "fingerprint": "f1", "data": "0", "images": 1, "shape": [8, 8, 1],
    "seed": 0, "train": {},
}  # fmt: skip


@pytest.mark.parametrize(
    "text", ["", "5\n", "[]\n", '{"event": "start"}\n', '{"event": "score"}\n', '{"event": []}\n']
)
def test_what_is_not_the_history_of_a_training_is_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(text)
    with pytest.raises(FaceganError) as caught:
        read_events(path)
    assert str(caught.value) == f"{path}: not the history of a training; run: dvc repro train"


@pytest.mark.parametrize(
    ("event", "key"),
    [(5, "event"), ({}, "event")]
    + [
        ({"event": kind, **{k: 1 for k in keys if k != key}}, key)
        for kind, keys in KEYS.items()
        for key in keys
    ],
)
def test_an_event_without_a_key_is_named(event: object, key: str, tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(f"{json.dumps(START)}\n{json.dumps(event)}\n")
    with pytest.raises(FaceganError, match=f"history.jsonl: line 2 has no {key}; run: dvc repro"):
        read_events(path)


def test_events_of_other_kinds_are_read(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(f'{json.dumps(START)}\n{{"event": "resume"}}\n')
    assert read_events(path) == [START, {"event": "resume"}]


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
