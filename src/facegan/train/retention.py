"""What stays in `checkpoints/`: locks for trainings in use, a budget for finished ones."""

import fcntl
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Literal

from facegan.core.atomic import unlink_shared
from facegan.core.errors import FaceganError
from facegan.core.locks import flock
from facegan.train.run_folder import FINISHED, IDENTITY, LOCK, images_seen

# Bytes that finished trainings may keep.
BUDGET = 10**10
# A tenth of a second each: `list_runs` holds a lock for a moment to see whether it is free.
TRIES = 5


@dataclass(frozen=True)
class Run:
    """One training's folder.

    Attributes:
        images_seen: 0 where its files do not tell.
        size: bytes on disk.
        last_used: seconds since the epoch.
    """

    folder: Path
    state: Literal["running", "unfinished", "finished"]
    images_seen: int
    size: int
    last_used: float


@contextmanager
def lock(folder: Path) -> Iterator[bool]:
    """Hold an exclusive lock on a training's folder within the block.

    Yields:
        False where the file system has no locks, and nothing keeps other processes away.
    Raises:
        FaceganError: if another process owns it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    unlink_shared(folder / LOCK)
    with (folder / LOCK).open("a+", encoding="utf-8") as file:
        try:
            is_held = _lock(file.fileno())
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "another process"
            raise FaceganError(
                f"{folder}: this training is running already ({owner}); wait for it or stop it"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield is_held


def _lock(file: int) -> bool:
    for _ in range(TRIES - 1):
        with suppress(BlockingIOError):
            return flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(0.1)
    return flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def list_runs(checkpoints: Path) -> list[Run]:
    """Every training in `checkpoints`, the least recently used first."""
    folders = [path.parent for path in checkpoints.glob(f"*/{IDENTITY}")]
    return sorted(map(_describe, folders), key=lambda run: run.last_used)


def remove(folder: Path) -> None:
    """Delete a training's folder, also where it is a link to one on another disk.

    Raises:
        FaceganError: if the training is running.
    """
    with lock(folder):
        shutil.rmtree(folder.resolve())
        if folder.is_symlink():
            folder.unlink()


def remove_finished(checkpoints: Path, budget: int) -> list[Run]:
    """Delete the least recently used finished trainings until the finished ones fit `budget` bytes.

    Unfinished and running ones stay, whatever their size.
    """
    finished = [run for run in list_runs(checkpoints) if run.state == "finished"]
    size, removed = sum(run.size for run in finished), []
    for run in finished:
        if size <= budget:
            break
        with suppress(FaceganError, OSError):  # it was started again, or is another user's
            remove(run.folder)
            size -= run.size
            removed.append(run)
    return removed


def _describe(folder: Path) -> Run:
    stats = []
    for path in folder.rglob("*"):
        with suppress(OSError):  # a running training replaces its files
            stats.append(path.stat())
    state: Literal["running", "unfinished", "finished"] = "unfinished"
    if is_locked(folder):
        state = "running"
    elif os.path.lexists(folder / FINISHED):
        state = "finished"
    size = sum(s.st_size for s in stats if S_ISREG(s.st_mode))
    return Run(
        folder, state, images_seen(folder), size, max((s.st_mtime for s in stats), default=0.0)
    )


def is_locked(folder: Path) -> bool:
    """Whether a process trains in this folder."""
    try:
        with (folder / LOCK).open("rb") as file:
            flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except (BlockingIOError, PermissionError):  # running, or another user's
        return True
    return False
