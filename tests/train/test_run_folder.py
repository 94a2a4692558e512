import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from facegan.core.errors import FaceganError
from facegan.core.events import Event, Message, silent
from facegan.train.checkpoint import previous
from facegan.train.run_folder import (
    CHECKPOINT,
    IDENTITY,
    NETWORKS,
    RunFolder,
    images_seen,
    read_events,
)

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


def test_starting_from_scratch_empties_the_folder(tmp_path: Path) -> None:
    run = started(tmp_path, IDENTITIES[0])
    run.save({"images_seen": 1})
    run.finish({"epochs": 1})
    started(tmp_path, IDENTITIES[0])
    assert run.load(CPU, silent) is None and run.finished_params() is None


def test_starting_deletes_no_other_training(tmp_path: Path) -> None:
    runs = [started(tmp_path, item, when) for when, item in enumerate(IDENTITIES)]
    assert all((run.folder / IDENTITY).exists() for run in runs)


def test_folders_of_other_programs_are_kept(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").touch()
    for when, identity in enumerate(IDENTITIES):
        started(tmp_path, identity, when)
    assert (tmp_path / "thesis" / "thesis.tex").exists()


def test_a_folder_to_resume_may_be_anywhere(tmp_path: Path) -> None:
    folder = started(tmp_path, IDENTITIES[0]).folder.rename(tmp_path / "copied")
    assert RunFolder(tmp_path, IDENTITIES[0], folder).folder == folder


def test_a_training_that_learns_something_else_is_not_resumed(tmp_path: Path) -> None:
    folder = started(tmp_path, IDENTITIES[0]).folder
    other = {**IDENTITIES[1], "params": {"lr": 0.2, "base_channels": 8}}
    with pytest.raises(FaceganError) as error:
        RunFolder(tmp_path, other, folder)
    assert str(error.value) == (
        f"{folder}: seed is 1, was 0, train.lr is 0.2, was 0.1 in that run; to resume it, "
        "set seed: 0, train.lr: 0.1 in params.yaml and run this command again; "
        f"to train its networks with the new values, set train.init_from: {folder}"
    )


@pytest.mark.parametrize("name", ["code", "torch", "threads", "device", "quick"])
def test_what_changes_bytes_code_or_scores_is_resumed_on_request(name: str, tmp_path: Path) -> None:
    folder = started(tmp_path, {**IDENTITIES[0], name: "old"}).folder
    run = RunFolder(tmp_path, {**IDENTITIES[0], name: "new"}, folder)
    assert run.changes([]) == {name: ("old", "new")}
    assert run.identity[name] == "old"


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
    with pytest.raises(FaceganError, match=f"^{run.folder}: no intact checkpoint to resume from"):
        again.start(silent)
    assert run.load(CPU, silent) == {"images_seen": 1}


def finished(tmp_path: Path) -> RunFolder:
    """A finished training's folder with stand-ins for its files."""
    run, out = started(tmp_path, IDENTITIES[0]), tmp_path / "out"
    out.mkdir()
    for name in NETWORKS:
        (out / name).write_text(name)
    for name in ("history.jsonl", "untrained.safetensors", "samples/0.png"):
        (run.folder / name).write_text(name)
    run.finish({"epochs": 1}, out)
    return run


def test_a_finished_training_is_served_with_the_same_stopping_params_alone(tmp_path: Path) -> None:
    run = finished(tmp_path)
    assert run.is_served({"epochs": 1}) and not run.is_served({"epochs": 2})
    assert (run.folder / NETWORKS[0]).read_text() == NETWORKS[0]


@pytest.mark.parametrize("name", [*NETWORKS, "history.jsonl"])
def test_damaged_files_that_the_checkpoint_has_are_not_served(name: str, tmp_path: Path) -> None:
    run = finished(tmp_path)
    (run.folder / name).write_text("damaged")
    assert not run.is_served({"epochs": 1})


@pytest.mark.parametrize("name", ["untrained.safetensors", "samples/0.png"])
@pytest.mark.parametrize("content", [None, "damaged"])
def test_damaged_files_that_only_a_training_can_make_are_named(
    name: str, content: str | None, tmp_path: Path
) -> None:
    run = finished(tmp_path)
    (run.folder / name).unlink()
    if content is not None:
        (run.folder / name).write_text(content)
    with pytest.raises(FaceganError, match=f"^{run.folder / name}: damaged since the training"):
        run.is_served({"epochs": 1})


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "[" * 100_000])
def test_a_damaged_mark_of_a_finished_training_makes_it_unfinished(
    content: str, tmp_path: Path
) -> None:
    run = finished(tmp_path)
    (run.folder / "finished.json").write_text(content)
    assert run.finished_params() is None and not run.is_served({"epochs": 1})


def test_a_training_that_goes_on_is_unfinished_again(tmp_path: Path) -> None:
    """Else an interruption would leave it to the budget of finished ones."""
    run = finished(tmp_path)
    run.save({"images_seen": 2})
    assert run.finished_params() is None


def test_a_damaged_line_of_a_history_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").write_bytes(
        b'{"images_seen": 3}\n\xff\n[1]\n' + b"[" * 9**5 + b'\n{"images'
    )
    assert read_events(tmp_path) == [{"images_seen": 3}]
    assert images_seen(tmp_path) == 3


def test_the_reason_for_starting_from_scratch_is_reported(tmp_path: Path) -> None:
    run, events = RunFolder(tmp_path, IDENTITIES[0]), list[Event]()
    run.start(events.append)
    run.notes = ["seed changed"]
    run.start(events.append)
    assert messages(events) == ["seed changed"]
