"""A history's events, checked for what MLflow gets of them: files can be cut off or edited."""

from pathlib import Path
from typing import Any

from facegan.core.errors import FaceganError
from facegan.core.history import read_history

# Event -> keys that are read.
KEYS = {
    "start": ("fingerprint", "data", "images", "shape", "seed", "train"),
    "losses": ("images_seen", "discriminator", "generator", "accuracy"),
    "samples": ("images_seen", "diversity"),
    "score": ("images_seen", "quick_fid"),
    "collapse": ("images_seen", "reason"),
}


def read_events(path: Path) -> list[dict[str, Any]]:
    """All events of a training, in order; the first one is `start`.

    Raises:
        FaceganError: if the file is missing or not the history of a training.
    """
    events = read_history(path)
    if not events or _lacking(events[0], "start"):
        raise FaceganError(f"{path}: not the history of a training; run: dvc repro train")
    for number, event in enumerate(events, 1):
        if key := _lacking(event):
            raise FaceganError(f"{path}: line {number} has no {key}; run: dvc repro train")
    return events


def _lacking(event: Any, kind: str | None = None) -> str:
    """The first key that an event, of a certain kind, should have; empty if it has all."""
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        return "event"
    keys = KEYS.get(kind or event["event"], ())
    return next((key for key in keys if key not in event), "")
