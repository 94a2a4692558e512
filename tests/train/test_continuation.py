"""Which training is continued, and what is said of the others."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from facegan.core.events import silent
from facegan.train import retention
from facegan.train.continuation import choose, explain
from facegan.train.run_folder import IDENTITY, RunFolder

PARAMS = {"lr": 0.001, "eval_interval": 100, "quick_num_samples": 40}
BASE: dict[str, Any] = {
    "data": "d" * 64, "quick": "q" * 64, "init_from": None, "seed": 0, "params": PARAMS,
    "code": "c" * 64, "torch": "2.13", "device": "cpu", "threads": 2, "processes": 1,
}  # fmt: skip
STOPPING = {"epochs": 9}


def identity(**changes: Any) -> dict[str, Any]:
    """BASE with other values; those of parameters with the prefix `train_`."""
    params = {k.removeprefix("train_"): v for k, v in changes.items() if k.startswith("train_")}
    others = {k: v for k, v in changes.items() if not k.startswith("train_")}
    return {**BASE, **others, "params": {**PARAMS, **params}}


def training(
    tmp_path: Path, seen: int = 500, finished: int | None = None, used: int = 0, **changes: Any
) -> Path:
    """A training's folder with a checkpoint; finished with so many epochs."""
    run = RunFolder(tmp_path, identity(**changes))
    run.start(silent)
    run.save({"images_seen": seen})
    (run.folder / "history.jsonl").write_text(json.dumps({"event": "x", "images_seen": seen}))
    if finished is not None:
        run.finish({"epochs": finished})
    for path in run.folder.iterdir():
        os.utime(path, (used, used))
    return run.folder


def chosen(tmp_path: Path, total: int = 1000, **changes: Any) -> Path:
    return choose(RunFolder(tmp_path, identity(**changes)), total, STOPPING).folder


ELSEWHERE: list[dict[str, Any]] = [
    {"threads": 4},
    {"torch": "2.14"},
    {"device": "cuda"},
    {"processes": 2},
]
SCORED_OTHERWISE: list[dict[str, Any]] = [
    {"train_eval_interval": 50}, {"train_quick_num_samples": 20}, {"quick": "r" * 64}
]  # fmt: skip
LEARNING_OTHERWISE: list[dict[str, Any]] = [
    {"train_lr": 0.1}, {"data": "e" * 64}, {"seed": 1}, {"code": "f" * 64},
    {"init_from": {"generator": "a"}}, {"epochs": 3},
]  # fmt: skip


@pytest.mark.parametrize(
    "change", [*ELSEWHERE, *SCORED_OTHERWISE, {"threads": 4, **SCORED_OTHERWISE[0]}]
)
def test_an_unfinished_training_that_learns_the_same_is_continued(
    change: dict[str, Any], tmp_path: Path
) -> None:
    folder = training(tmp_path)
    assert chosen(tmp_path, **change) == folder


@pytest.mark.parametrize("change", LEARNING_OTHERWISE)
def test_a_training_that_learns_something_else_is_not_continued(
    change: dict[str, Any], tmp_path: Path
) -> None:
    folder = training(tmp_path)
    assert chosen(tmp_path, **change) != folder


@pytest.mark.parametrize("change", ELSEWHERE)
def test_a_finished_training_is_the_same_one_elsewhere(
    change: dict[str, Any], tmp_path: Path
) -> None:
    folder = training(tmp_path, seen=1000, finished=9)
    assert chosen(tmp_path, **change) == folder


@pytest.mark.parametrize("change", SCORED_OTHERWISE)
def test_a_finished_training_that_was_scored_otherwise_is_another_one(
    change: dict[str, Any], tmp_path: Path
) -> None:
    folder = training(tmp_path, seen=800, finished=9)
    assert chosen(tmp_path, **change) != folder
    shorter = training(tmp_path, seen=800, finished=8)
    assert chosen(tmp_path, **change) == shorter


def test_a_training_that_was_scored_otherwise_and_has_seen_more_is_another_one(
    tmp_path: Path,
) -> None:
    folder = training(tmp_path, seen=1001)
    assert chosen(tmp_path, train_eval_interval=50) != folder


def test_a_running_training_that_is_scored_otherwise_is_another_one(tmp_path: Path) -> None:
    folder = training(tmp_path)
    with retention.lock(folder):
        assert chosen(tmp_path, train_eval_interval=50) != folder
        assert chosen(tmp_path, threads=4) == folder  # which is then refused as running already


def test_its_own_folder_goes_before_others_and_then_the_most_images_seen(tmp_path: Path) -> None:
    few, many = training(tmp_path, 300, threads=3), training(tmp_path, 400, threads=4)
    training(tmp_path, 1001, threads=5)
    assert chosen(tmp_path) == many
    own = training(tmp_path, 100)
    assert chosen(tmp_path) == own and few.exists()


def test_changes_are_since_the_last_run(tmp_path: Path) -> None:
    folder = training(tmp_path)
    event = {"event": "resume", "images_seen": 600, "changed": {"threads": [2, 4]}}
    (folder / "history.jsonl").write_text(json.dumps(event) + "\n")
    run = RunFolder(tmp_path, identity(threads=4), folder)
    assert run.changes([event]) == {} and run.changes([]) == {"threads": (2, 4)}


def test_a_training_whose_code_changed_is_continued_on_request_alone(tmp_path: Path) -> None:
    folder = training(tmp_path, code="old")
    event = {"event": "resume", "images_seen": 600, "changed": {"code": ["old", "new"]}}
    (folder / "history.jsonl").write_text(json.dumps(event) + "\n")
    assert chosen(tmp_path, code="new") != folder
    assert RunFolder(tmp_path, identity(code="new"), folder).changes([event]) == {}


def test_the_message_has_both_values_and_the_command_that_resumes(tmp_path: Path) -> None:
    folder = training(tmp_path, seen=1234)
    changes = {"train_lr": 0.002, "seed": 3, "threads": 4}
    assert explain(RunFolder(tmp_path, identity(**changes)), "dvc repro") == (
        "starting from scratch: seed is 3, was 0, train.lr is 0.002, was 0.001, threads is 4, "
        f"was 2 in {folder}, which is kept, unfinished at 1,234 images seen; to resume it, "
        f"set seed: 0, train.lr: 0.001 in params.yaml and run: FACEGAN_RESUME={folder} dvc repro"
    )


def test_the_message_for_other_code_or_data_says_what_to_restore(tmp_path: Path) -> None:
    folder = training(tmp_path)
    by_code = explain(RunFolder(tmp_path, identity(code="f" * 64)), "dvc repro")
    assert "code is ffffffffffff, was cccccccccccc in" in by_code
    assert by_code.endswith(f"to resume it, run: FACEGAN_RESUME={folder} dvc repro")
    by_data = explain(RunFolder(tmp_path, identity(data="e" * 64)), "dvc repro")
    assert "restore its dataset (git checkout of data.dvc, dvc checkout) and run: " in by_data


def test_the_message_names_the_most_similar_training(tmp_path: Path) -> None:
    training(tmp_path, used=9, train_lr=0.5, seed=7)
    done, open_ = training(tmp_path, used=3, finished=9, seed=5), training(tmp_path, used=2, seed=6)
    assert f"in {open_}, which is kept" in explain(RunFolder(tmp_path, identity()), "x")
    (open_ / "checkpoint.pt").unlink()
    text = explain(RunFolder(tmp_path, identity()), "x")
    assert text == f"starting from scratch: seed is 0, was 5 in {done}"


def test_the_first_training_has_nothing_to_explain(tmp_path: Path) -> None:
    assert explain(RunFolder(tmp_path, identity()), "x") == ""


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b"\x80\x03binary", b"[" * 100_000, "folder", "dangling"]
)
def test_a_damaged_fingerprint_of_another_training_is_no_obstacle(
    content: bytes | str, tmp_path: Path
) -> None:
    path = training(tmp_path, used=2, seed=5) / IDENTITY
    other = training(tmp_path, seed=6)
    path.unlink()
    if content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.symlink_to("nothing")
    run = RunFolder(tmp_path, identity())
    assert choose(run, 1000, STOPPING).folder == run.folder
    assert f"in {other}, which is kept" in explain(run, "x")
    assert other in [found.folder for found in retention.list_runs(tmp_path)]
