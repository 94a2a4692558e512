import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from pathlib import Path

import pytest

from facegan.core.errors import FaceganError
from facegan.core.events import silent
from facegan.train import retention
from facegan.train.run_folder import LOCK, RunFolder
from filesystems import without_locks
from samples import unprivileged

# Forked, because a new process imports torch for seconds.
CONTEXT = multiprocessing.get_context("fork")


def hold(folder: Path, ready: Connection) -> None:
    with retention.lock(folder):
        ready.send("locked")
        time.sleep(600)


@contextmanager
def locked_by_another_process(folder: Path) -> Iterator[ForkProcess]:
    receiver, sender = CONTEXT.Pipe(duplex=False)
    holder = CONTEXT.Process(target=hold, args=(folder, sender))
    holder.start()
    assert receiver.recv() == "locked"
    try:
        yield holder
    finally:
        holder.kill()
        holder.join()


def training(checkpoints: Path, seed: int, size: int = 1000, finished: bool = False) -> Path:
    """A training's folder with a checkpoint of `size` bytes, last used at second `seed`."""
    run = RunFolder(checkpoints, {"data": "a", "seed": seed})
    run.start(silent)
    (run.folder / "checkpoint.pt").write_bytes(bytes(size))
    if finished:
        run.finish({"epochs": 1})
    for path in run.folder.iterdir():
        os.utime(path, (seed, seed))
    return run.folder


def test_a_training_in_use_is_locked_and_its_owner_named(tmp_path: Path) -> None:
    with (
        locked_by_another_process(tmp_path / "run") as holder,
        pytest.raises(FaceganError, match=f"running already .process {holder.pid} on"),
        retention.lock(tmp_path / "run"),
    ):
        pass


def test_a_crash_releases_the_lock(tmp_path: Path) -> None:
    with locked_by_another_process(tmp_path / "run") as holder:
        holder.kill()
        holder.join()
        with retention.lock(tmp_path / "run"):
            pass


def test_a_lock_ends_with_its_block(tmp_path: Path) -> None:
    for _ in range(2):
        with retention.lock(tmp_path / "run"):
            pass


def test_without_locks_trainings_are_listed_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_locks(monkeypatch)
    unfinished, finished = training(tmp_path, 0), training(tmp_path, 1, finished=True)
    for folder in (unfinished, finished):
        (folder / LOCK).touch()
    assert [run.state for run in retention.list_runs(tmp_path)] == ["unfinished", "finished"]
    retention.remove_finished(tmp_path, budget=0)
    assert unfinished.exists() and not finished.exists()


def test_runs_are_listed_by_last_use_with_state_and_size(tmp_path: Path) -> None:
    new, old = training(tmp_path, 9, 500, finished=True), training(tmp_path, 3)
    (new / "history.jsonl").write_text('{"images_seen": 20}\n{"images_seen": 40}\n{"ima')
    with locked_by_another_process(old):
        runs = retention.list_runs(tmp_path)
    assert {run.folder: run.state for run in runs} == {old: "running", new: "finished"}
    assert {run.folder: run.images_seen for run in runs} == {old: 0, new: 40}
    assert all(run.size >= 500 for run in runs)


def test_only_finished_runs_go_the_least_recently_used_first(tmp_path: Path) -> None:
    finished = [training(tmp_path, seed, 10_000, finished=True) for seed in (5, 1, 3)]
    unfinished = training(tmp_path, 0, 50_000)
    removed = retention.remove_finished(tmp_path, budget=25_000)
    assert [run.folder for run in removed] == [finished[1]]
    assert [folder.exists() for folder in (*finished, unfinished)] == [True, False, True, True]


def test_a_budget_of_nothing_keeps_what_is_unfinished_or_running(tmp_path: Path) -> None:
    unfinished = training(tmp_path, 0)
    running, finished = (training(tmp_path, seed, finished=True) for seed in (1, 2))
    with locked_by_another_process(running):
        retention.remove_finished(tmp_path, budget=0)
    assert unfinished.exists() and running.exists() and not finished.exists()


def test_a_training_on_another_disk_is_removed_with_the_link_to_it(tmp_path: Path) -> None:
    folder = training(tmp_path / "checkpoints", 0, finished=True)
    there = folder.rename(tmp_path / "there")
    folder.symlink_to(there)
    assert len(retention.remove_finished(tmp_path / "checkpoints", budget=0)) == 1
    assert not folder.is_symlink() and not there.exists()


def test_a_running_training_is_never_removed(tmp_path: Path) -> None:
    folder = training(tmp_path, 0)
    with locked_by_another_process(folder), pytest.raises(FaceganError, match="running already"):
        retention.remove(folder)
    assert (folder / "checkpoint.pt").exists()


def test_what_is_no_trainings_folder_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").touch()
    assert retention.list_runs(tmp_path) == []


@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_trainings_of_another_user_are_no_obstacle(mode: int, tmp_path: Path) -> None:
    folder = training(tmp_path, 0, finished=True)
    for path in folder.rglob("*"):
        path.chmod(mode if path.is_dir() else mode & 0o644)
    folder.chmod(mode)
    tmp_path.chmod(0o777)
    with unprivileged(tmp_path):
        assert retention.remove_finished(tmp_path, budget=0) == []
    assert (folder / "checkpoint.pt").exists()
