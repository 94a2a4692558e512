"""`history.jsonl`: the record of a training, one event per line, without times, hosts or paths."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from facegan.core.atomic import naming, replacing
from facegan.core.errors import FaceganError

NAME = "history.jsonl"


def read_history(path: Path) -> list[dict[str, Any]]:
    """All events, in order.

    Raises:
        FaceganError: if the file is missing or corrupt.
    """
    try:
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FaceganError(f"{path}: cannot read the training history ({reason})") from None


def start_history(path: Path, events: Sequence[dict[str, Any]]) -> None:
    """Write a new file with `events`; an existing one is replaced."""
    with replacing(path) as temporary:
        temporary.write_text("".join(map(_line, events)), "utf-8")


def append_history(path: Path, event: dict[str, Any]) -> None:
    """Append one event as a line.

    Raises:
        OSError: with the path, if the disk is full.
    """
    with naming(path), path.open("a", encoding="utf-8") as file:
        file.write(_line(event))


def write_table(events: Sequence[dict[str, Any]], kind: str, path: Path) -> None:
    """Write the numeric fields of all events of one kind as CSV, for plots."""
    rows = [event for event in events if event["event"] == kind]
    columns = [name for name, value in rows[0].items() if isinstance(value, int | float)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _line(event: dict[str, Any]) -> str:
    return json.dumps(event) + "\n"
