"""`history.jsonl`: the record of a training, one event per line, without times, hosts or paths."""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from facegan.core.atomic import naming, replacing, unlink_shared
from facegan.core.errors import FaceganError
from facegan.core.parsing import parse_json

NAME = "history.jsonl"
NUMBER = (int, float)
# Event -> the keys that are read, and their types: a file can be cut off or edited.
KEYS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "start": {
        "fingerprint": str, "data": str, "images": int, "shape": list, "seed": int, "train": dict,
        "quick_fid": str,
    },
    "losses": {
        "images_seen": int, "discriminator": NUMBER, "generator": NUMBER, "accuracy": NUMBER,
    },
    "samples": {"images_seen": int, "diversity": NUMBER},
    "score": {"images_seen": int, "quick_fid": NUMBER},
    "collapse": {"images_seen": int, "reason": str},
    "choice": {"images_seen": int},
}  # fmt: skip


def read_history(path: Path) -> list[dict[str, Any]]:
    """All events of a training, in order; the first one is `start`.

    Raises:
        FaceganError: if the file is missing, corrupt, or not the history of a training.
    """
    try:
        events = [parse_json(line) for line in path.read_text("utf-8").splitlines()]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FaceganError(f"{path}: cannot read the training history ({reason})") from None
    if not events or _lacking(events[0], "start"):
        raise FaceganError(f"{path}: not the history of a training; run: dvc repro train")
    for number, event in enumerate(events, 1):
        if key := _lacking(event):
            raise FaceganError(f"{path}: line {number} has no valid {key}; run: dvc repro train")
    return events


def _lacking(event: Any, kind: str | None = None) -> str:
    """The first key that is missing or of a wrong type; empty if there is none."""
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        return "event"
    keys = KEYS.get(kind or event["event"], {})
    return next((key for key, of in keys.items() if not isinstance(event.get(key), of)), "")


def scores(events: Iterable[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """The last name of the quick FID, and the scores that it has.

    A resume with another quick FID scores the best snapshot again; earlier scores are not
    comparable and are left out.
    """
    name, found = "", []
    for event in events:
        match event["event"]:
            case "start":
                name = event["quick_fid"]
            case "resume" if "quick_fid" in event:
                name, found = event["quick_fid"], [event["best"]] if "best" in event else []
            case "score":
                found.append(event)
    return name, found


def best_score(events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The event of the best snapshot, with `images_seen` and `quick_fid`.

    That is the one with the lowest quick FID, unless the training ended with a choice between close
    ones.
    """
    events = list(events)
    found = scores(events)[1]
    chosen = [event["images_seen"] for event in events if event["event"] == "choice"]
    found = [score for score in found if score["images_seen"] in chosen[-1:]] or found
    return min(found, key=lambda score: score["quick_fid"])


def start_history(path: Path, events: Sequence[dict[str, Any]]) -> None:
    """Write a new file with `events`; an existing one is replaced."""
    with replacing(path) as temporary:
        temporary.write_text("".join(map(_line, events)), "utf-8")


def append_history(path: Path, event: dict[str, Any]) -> None:
    """Append one event as a line.

    Raises:
        OSError: with the path, if the disk is full.
    """
    unlink_shared(path)
    with naming(path), path.open("a", encoding="utf-8") as file:
        file.write(_line(event))


def write_table(events: Sequence[dict[str, Any]], kind: str, path: Path) -> None:
    """Write the numeric fields of all events of one kind as CSV, for plots."""
    rows = [event for event in events if event["event"] == kind]
    first = rows[0] if rows else {}  # a training that ended at once has no losses
    columns = [name for name, value in first.items() if isinstance(value, int | float)]
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _line(event: dict[str, Any]) -> str:
    return json.dumps(event) + "\n"
