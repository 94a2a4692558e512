import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from facegan.core.errors import FaceganError
from facegan.core.events import Event, Message, silent
from facegan.train.checkpoint import previous
from facegan.train.run_folder import CHECKPOINT, IDENTITY, KEPT, RunFolder

CPU = torch.device("cpu")
IDENTITIES = [
    {"data": "a", "seed": seed, "params": {"lr": 0.1, "base_channels": 8}} for seed in range(9)
]


def begun(checkpoints: Path, identity: dict[str, Any], when: int = 0) -> RunFolder:
    training = RunFolder(checkpoints, identity)
    training.begin(silent)
    for path in training.folder.iterdir():
        os.utime(path, (when, when))
    return training


def messages(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Message)]


def test_a_training_has_a_folder_of_its_own(tmp_path: Path) -> None:
    folders = {RunFolder(tmp_path, identity).folder for identity in IDENTITIES}
    assert len(folders) == len(IDENTITIES)
    assert RunFolder(tmp_path, IDENTITIES[0]).folder in folders


def test_the_newest_whole_checkpoint_is_loaded(tmp_path: Path) -> None:
    training = begun(tmp_path, IDENTITIES[0])
    assert training.load(CPU, silent) is None
    for number in range(3):
        training.save({"images_seen": number})
    assert training.load(CPU, silent) == {"images_seen": 2}


@pytest.mark.parametrize("damage", ["flipped", "cut off", "empty", "gone"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before_with_a_warning(
    damage: str, tmp_path: Path
) -> None:
    training = begun(tmp_path, IDENTITIES[0])
    for number in range(2):
        training.save({"weights": torch.arange(100.0), "images_seen": number})
    path = training.folder / CHECKPOINT
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    left = {"flipped": bytes(content), "cut off": bytes(content[:500]), "empty": b""}
    path.write_bytes(left[damage]) if damage in left else path.unlink()
    events: list[Event] = []
    state = training.load(CPU, events.append)
    assert state is not None and state["images_seen"] == 0
    warnings = messages(events)
    assert len(warnings) == (damage != "gone")
    assert all(f"{path}: damaged" in text for text in warnings)


def test_without_a_whole_checkpoint_there_is_none(tmp_path: Path) -> None:
    training = begun(tmp_path, IDENTITIES[0])
    for path in (training.folder / CHECKPOINT, previous(training.folder / CHECKPOINT)):
        path.write_bytes(b"text")
    events: list[Event] = []
    assert training.load(CPU, events.append) is None
    assert len(messages(events)) == 2


def test_beginning_says_what_is_different_to_the_single_parameter(tmp_path: Path) -> None:
    begun(tmp_path, IDENTITIES[0])
    other = {**IDENTITIES[0], "seed": 5, "params": {"lr": 0.2, "base_channels": 8}}
    events: list[Event] = []
    RunFolder(tmp_path, other).begin(events.append)
    expected = "starting afresh: other seed, params.lr than the last training"
    assert messages(events) == [expected]


def test_beginning_anew_leaves_nothing_of_before(tmp_path: Path) -> None:
    training = begun(tmp_path, IDENTITIES[0])
    training.save({"images_seen": 1})
    training.finish({"epochs": 1})
    begun(tmp_path, IDENTITIES[0])
    assert training.load(CPU, silent) is None and training.finished_length() is None


def test_the_folders_that_were_used_last_stay(tmp_path: Path) -> None:
    folders = [begun(tmp_path, each, when).folder for when, each in enumerate(IDENTITIES)]
    assert [folder.exists() for folder in folders] == [False] * (8 - KEPT) + [True] * (KEPT + 1)


def test_what_is_no_trainings_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").touch()
    for when, each in enumerate(IDENTITIES):
        begun(tmp_path, each, when)
    assert (tmp_path / "thesis" / "thesis.tex").exists()


def test_a_folder_to_go_on_with_may_lie_anywhere(tmp_path: Path) -> None:
    folder = begun(tmp_path, IDENTITIES[0]).folder.rename(tmp_path / "copied")
    assert RunFolder(tmp_path, IDENTITIES[0], folder).folder == folder


def test_a_folder_of_another_training_is_not_gone_on_with(tmp_path: Path) -> None:
    folder = begun(tmp_path, IDENTITIES[0]).folder
    with pytest.raises(FaceganError, match=f"^{folder}: of a training with other seed; run it"):
        RunFolder(tmp_path, IDENTITIES[1], folder)


@pytest.mark.parametrize("content", [None, "{"])
def test_what_is_no_training_is_not_gone_on_with(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / IDENTITY).write_text(content)
    with pytest.raises(FaceganError, match=f"^{tmp_path}: no training's folder"):
        RunFolder(tmp_path, IDENTITIES[0], tmp_path)


def test_how_long_a_finished_training_was_to_be_comes_back(tmp_path: Path) -> None:
    training = begun(tmp_path, IDENTITIES[0])
    assert training.finished_length() is None
    training.finish({"epochs": 3, "patience": None})
    assert training.finished_length() == {"epochs": 3, "patience": None}
    assert json.loads((training.folder / "finished.json").read_text())["epochs"] == 3


def test_a_folder_that_has_to_be_gone_on_with_is_never_begun_anew(tmp_path: Path) -> None:
    training = begun(tmp_path, IDENTITIES[0])
    training.save({"images_seen": 1})
    again = RunFolder(tmp_path, IDENTITIES[0], training.folder)
    with pytest.raises(FaceganError, match=f"^{training.folder}: has no checkpoint .* finished"):
        again.begin(silent)
    assert training.load(CPU, silent) == {"images_seen": 1}
