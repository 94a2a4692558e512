import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from facegan.core.errors import FaceganError
from facegan.core.events import Event, Message, silent
from facegan.train.checkpoint import previous
from facegan.train.run_folder import CHECKPOINT, IDENTITY, RunFolder

CPU = torch.device("cpu")
IDENTITIES = [
    {"data": "a", "seed": seed, "params": {"lr": 0.1, "base_channels": 8}} for seed in range(9)
]


def started(checkpoints: Path, identity: dict[str, Any], when: int = 0) -> RunFolder:
    run = RunFolder(checkpoints, identity)
    run.start(silent)
    for path in run.folder.iterdir():
        os.utime(path, (when, when))
    return run


def messages(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Message)]


def test_each_training_has_its_own_folder(tmp_path: Path) -> None:
    folders = {RunFolder(tmp_path, identity).folder for identity in IDENTITIES}
    assert len(folders) == len(IDENTITIES)
    assert RunFolder(tmp_path, IDENTITIES[0]).folder in folders


def test_the_newest_intact_checkpoint_is_loaded(tmp_path: Path) -> None:
    run = started(tmp_path, IDENTITIES[0])
    assert run.load(CPU, silent) is None
    for number in range(3):
        run.save({"images_seen": number})
    assert run.load(CPU, silent) == {"images_seen": 2}


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty", "missing"])
def test_a_damaged_checkpoint_falls_back_to_the_previous_one_with_a_warning(
    damage: str, tmp_path: Path
) -> None:
    run = started(tmp_path, IDENTITIES[0])
    for number in range(2):
        run.save({"weights": torch.arange(100.0), "images_seen": number})
    path = run.folder / CHECKPOINT
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    contents = {"flipped": bytes(content), "truncated": bytes(content[:500]), "empty": b""}
    path.write_bytes(contents[damage]) if damage in contents else path.unlink()
    events: list[Event] = []
    state = run.load(CPU, events.append)
    assert state is not None and state["images_seen"] == 0
    warnings = messages(events)
    assert len(warnings) == (damage != "missing")
    assert all(f"{path}: damaged" in text for text in warnings)


def test_without_an_intact_checkpoint_nothing_is_loaded(tmp_path: Path) -> None:
    run = started(tmp_path, IDENTITIES[0])
    for path in (run.folder / CHECKPOINT, previous(run.folder / CHECKPOINT)):
        path.write_bytes(b"text")
    events: list[Event] = []
    assert run.load(CPU, events.append) is None
    assert len(messages(events)) == 2


def test_starting_from_scratch_names_every_changed_parameter(tmp_path: Path) -> None:
    started(tmp_path, IDENTITIES[0])
    other = {**IDENTITIES[0], "seed": 5, "params": {"lr": 0.2, "base_channels": 8}}
    events: list[Event] = []
    RunFolder(tmp_path, other).start(events.append)
    expected = "starting from scratch: seed, train.lr changed since the last run"
    assert messages(events) == [expected]


def test_starting_from_scratch_empties_the_folder(tmp_path: Path) -> None:
    run = started(tmp_path, IDENTITIES[0])
    run.save({"images_seen": 1})
    run.finish({"epochs": 1})
    started(tmp_path, IDENTITIES[0])
    assert run.load(CPU, silent) is None and run.finished_params() is None


def test_starting_deletes_no_other_training(tmp_path: Path) -> None:
    runs = [started(tmp_path, item, when) for when, item in enumerate(IDENTITIES)]
    assert all((run.folder / IDENTITY).exists() for run in runs)


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_damaged_folder_of_another_training_is_no_obstacle(content: str, tmp_path: Path) -> None:
    started(tmp_path, IDENTITIES[0], when=1)
    (started(tmp_path, IDENTITIES[1], when=2).folder / IDENTITY).write_text(content)
    events: list[Event] = []
    RunFolder(tmp_path, IDENTITIES[2]).start(events.append)
    assert messages(events) == ["starting from scratch: seed changed since the last run"]


def test_folders_of_other_programs_are_kept(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").touch()
    for when, identity in enumerate(IDENTITIES):
        started(tmp_path, identity, when)
    assert (tmp_path / "thesis" / "thesis.tex").exists()


def test_a_folder_to_resume_may_be_anywhere(tmp_path: Path) -> None:
    folder = started(tmp_path, IDENTITIES[0]).folder.rename(tmp_path / "copied")
    assert RunFolder(tmp_path, IDENTITIES[0], folder).folder == folder


def test_a_folder_of_another_training_is_not_resumed(tmp_path: Path) -> None:
    folder = started(tmp_path, IDENTITIES[0]).folder
    with pytest.raises(FaceganError, match=f"^{folder}: seed changed since that run; run facegan"):
        RunFolder(tmp_path, IDENTITIES[1], folder)


@pytest.mark.parametrize("content", [None, "{"])
def test_a_folder_of_no_training_is_not_resumed(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / IDENTITY).write_text(content)
    with pytest.raises(FaceganError, match=f"^{tmp_path}: not a folder of facegan train"):
        RunFolder(tmp_path, IDENTITIES[0], tmp_path)


def test_the_stopping_params_of_a_finished_training_are_stored(tmp_path: Path) -> None:
    run = started(tmp_path, IDENTITIES[0])
    assert run.finished_params() is None
    run.finish({"epochs": 3, "patience": None})
    assert run.finished_params() == {"epochs": 3, "patience": None}
    assert json.loads((run.folder / "finished.json").read_text())["epochs"] == 3


def test_a_folder_that_must_be_resumed_is_never_started_from_scratch(tmp_path: Path) -> None:
    run = started(tmp_path, IDENTITIES[0])
    run.save({"images_seen": 1})
    again = RunFolder(tmp_path, IDENTITIES[0], run.folder)
    with pytest.raises(FaceganError, match=f"^{run.folder}: no checkpoint .* finished"):
        again.start(silent)
    assert run.load(CPU, silent) == {"images_seen": 1}
