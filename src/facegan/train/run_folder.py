"""`checkpoints/`: a folder for each training, named by its fingerprint.

`checkpoint.pt` has the state of everything that moves, and the history so far; with `samples/` and
the first generator, that is all that a training goes on from.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from facegan.core import digests
from facegan.core.atomic import replacing
from facegan.core.errors import FaceganError
from facegan.core.events import Message, OnEvent
from facegan.train import checkpoint

CHECKPOINT, UNTRAINED, SAMPLES = "checkpoint.pt", "untrained.safetensors", "samples"
IDENTITY, FINISHED, LOCK = "fingerprint.json", "finished.json", "lock"
# So many folders stay besides the one in use: those that were used last.
KEPT = 4


class RunFolder:
    """The folder of one training.

    Args:
        identity: data, params, code and what else its bytes depend on: plain JSON values.
        resume: the folder that has to be gone on with, wherever it is.
    Raises:
        FaceganError: if `resume` is of another training.
    """

    def __init__(
        self, checkpoints: Path, identity: dict[str, Any], resume: Path | None = None
    ) -> None:
        self.identity, self.must_go_on = identity, resume is not None
        self.folder = resume or checkpoints / digests.fingerprint(identity)
        if resume is not None:
            differs = _difference(identity, read_identity(resume))
            if differs:
                raise FaceganError(
                    f"{resume}: of a training with other {differs}; run it without --resume"
                )

    def load(self, device: torch.device, on_event: OnEvent) -> dict[str, Any] | None:
        """The state of the newest checkpoint that is whole; None if there is none."""
        path = self.folder / CHECKPOINT
        for each in (path, checkpoint.previous(path)):
            if each.exists():
                try:
                    return checkpoint.load_checkpoint(each, device)
                except FaceganError as error:
                    text = f"{error}; not used"
                    on_event(Message(text))
        return None

    def save(self, state: dict[str, Any]) -> None:
        checkpoint.save_checkpoint(state, self.folder / CHECKPOINT)

    def finished_length(self) -> dict[str, Any] | None:
        """How long a training that ended was to be; None if it hasn't ended."""
        path = self.folder / FINISHED
        return dict(json.loads(path.read_text("utf-8"))) if path.exists() else None

    def finish(self, length: dict[str, Any]) -> None:
        with replacing(self.folder / FINISHED) as temporary:
            temporary.write_text(json.dumps(length), "utf-8")

    def begin(self, on_event: OnEvent) -> None:
        """Make the folder anew, say what differs from the last training, and discard old ones.

        Raises:
            FaceganError: if this folder had to be gone on with.
        """
        if self.must_go_on:
            raise FaceganError(
                f"{self.folder}: has no checkpoint to go on from, or is finished; "
                "run it without --resume"
            )
        others = [path.parent for path in self.folder.parent.glob(f"*/{IDENTITY}")]
        others = sorted((path for path in others if path != self.folder), key=_last_used)
        if others:
            differs = _difference(self.identity, read_identity(others[-1]))
            text = f"starting afresh: other {differs} than the last training"
            on_event(Message(text))
        for path in (self.folder, *others[:-KEPT]):
            shutil.rmtree(path, ignore_errors=True)
        (self.folder / SAMPLES).mkdir(parents=True)
        with replacing(self.folder / IDENTITY) as temporary:
            temporary.write_text(json.dumps(self.identity), "utf-8")


def read_identity(folder: Path) -> dict[str, Any]:
    """
    Raises:
        FaceganError: if it is no training's folder.
    """
    try:
        identity: dict[str, Any] = json.loads((folder / IDENTITY).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise FaceganError(f"{folder}: no training's folder ({error})") from None
    return identity


def _difference(one: dict[str, Any], other: dict[str, Any]) -> str:
    """The names of what is different, down to the single parameter."""
    names = []
    for key, value in one.items():
        there = other.get(key)
        if isinstance(value, dict) and isinstance(there, dict):
            names += [f"{key}.{k}" for k in value if value[k] != there.get(k)]
        elif value != there:
            names.append(key)
    return ", ".join(names)


def _last_used(folder: Path) -> float:
    return max(path.stat().st_mtime for path in folder.iterdir())
