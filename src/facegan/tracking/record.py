"""What MLflow shall know of a training besides its history: a folder in the training's folder.

A mirror that starts later, after an outage or on another day, tells the same times and the same
origin. Without MLflow, nothing here is read.
"""

import fcntl
import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facegan.core.atomic import replacing
from facegan.core.history import NAME
from facegan.core.locks import flock
from facegan.core.parsing import parse_json
from facegan.core.project import in_project, project_root

FOLDER = "tracking"
SCORES = "scores.jsonl"  # time and speed of each score
RUN, END = "run.json", "end.json"  # experiment and origin; final status
FILES = "files"  # artifacts of the MLflow run
# In the training's folder: held while it runs; what its outputs depend on.
LOCK, IDENTITY = "lock", "fingerprint.json"


@dataclass(frozen=True)
class Record:
    """What is on record of one training.

    Attributes:
        scores: `[images seen, time, images per second]` of each score, in order; times are in
            milliseconds since the epoch.
        run: experiment, device and tags of the MLflow run; empty if unknown.
        end: final status and time; empty while it runs, and after it was killed.
        folder: of the record; None if there is none.
    """

    scores: list[tuple[int, int, float]]
    run: dict[str, Any]
    end: dict[str, Any]
    folder: Path | None

    def time(self, images_seen: int, default: int) -> int:
        """When these images had been seen: exact at scores, interpolated between them."""
        if not self.scores:
            return default
        seen, times, _ = zip(*self.scores, strict=True)
        return round(float(np.interp(images_seen, seen, times)))


def write_run(training: Path, experiment: str, device: str) -> None:
    """Note that the training runs now."""
    folder = training / FOLDER
    folder.mkdir(exist_ok=True)
    (folder / END).unlink(missing_ok=True)
    _write(folder / RUN, {**_read(folder / RUN), "experiment": experiment, "device": device})


def write_tags(training: Path, tags: dict[str, str]) -> None:
    """Note where the training comes from, and its number of threads, which changes bytes."""
    path = training / FOLDER / RUN
    if threads := _read(training / IDENTITY).get("threads"):
        tags = {**tags, "facegan.threads": str(threads)}
    _write(path, {**_read(path), "tags": tags})


def write_end(training: Path, status: str) -> None:
    """Note how the training ended: FINISHED, KILLED or FAILED."""
    _write(training / FOLDER / END, {"status": status, "time": _now()})


def add_score(training: Path, images_seen: int, images_per_second: float) -> None:
    """Note when a score was computed. A repeated score keeps its first time."""
    if any(images_seen == seen for seen, _, _ in read_record(training).scores):
        return
    with (training / FOLDER / SCORES).open("a", encoding="utf-8") as file:
        file.write(json.dumps([images_seen, _now(), round(images_per_second, 3)]) + "\n")


def read_record(training: Path) -> Record:
    """The record in a training's folder; an empty one if there is none."""
    folder, scores = training / FOLDER, []
    with suppress(OSError, ValueError, TypeError):  # a line that a crash cut off
        for line in (folder / SCORES).read_text("utf-8").splitlines():
            seen, milliseconds, speed = parse_json(line)
            scores.append((int(seen), int(milliseconds), float(speed)))
    found = folder if folder.is_dir() else None
    return Record(sorted(scores), _read(folder / RUN), _read(folder / END), found)


def find_record(folder: Path, fingerprint: str) -> Record:
    """The record of the training whose results are in `folder`, wherever its checkpoints are."""
    record = read_record(folder)
    if record.folder is None:
        for training in trainings(checkpoints_folder()):
            if _fingerprint(training) == fingerprint:
                return read_record(training)
    return record


def checkpoints_folder() -> Path:
    """Where `facegan train` keeps its trainings."""
    folder = os.environ.get("FACEGAN_CHECKPOINTS")
    return in_project(Path(folder)) if folder else project_root() / "checkpoints"


def trainings(checkpoints: Path) -> list[Path]:
    """The folders of all trainings that have a history."""
    return sorted(path.parent for path in checkpoints.glob(f"*/{NAME}"))


def is_running(training: Path) -> bool:
    """Whether a process holds the training's lock."""
    try:
        with (training / LOCK).open("rb") as file:
            flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _fingerprint(training: Path) -> str:
    errors = OSError, ValueError, KeyError
    with suppress(*errors), (training / NAME).open(encoding="utf-8") as file:
        return str(parse_json(file.readline())["fingerprint"])
    return ""


def _read(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        return dict(parse_json(path.read_text("utf-8")))
    return {}


def _write(path: Path, content: dict[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content), "utf-8")


def _now() -> int:
    return time.time_ns() // 1_000_000
