"""`checkpoints/`: one folder per training, named after its fingerprint.

`checkpoint.pt` has the full training state and the history so far. With `samples/` and the
untrained generator, it is all that a resume needs.
"""

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from facegan.core import digests
from facegan.core.atomic import replacing
from facegan.core.errors import FaceganError
from facegan.core.events import Message, OnEvent
from facegan.core.history import NAME
from facegan.train import checkpoint

CHECKPOINT, UNTRAINED, SAMPLES = "checkpoint.pt", "untrained.safetensors", "samples"
IDENTITY, FINISHED, LOCK = "fingerprint.json", "finished.json", "lock"


class RunFolder:
    """The folder of one training.

    Args:
        checkpoints: the parent folder.
        identity: data, params, code and all else that the output depends on: plain JSON values.
        resume: a folder that must be resumed, which may be outside `checkpoints`.
    Raises:
        FaceganError: if `resume` is not a training's folder, or has another identity.
    """

    def __init__(
        self, checkpoints: Path, identity: dict[str, Any], resume: Path | None = None
    ) -> None:
        self.identity, self.must_resume = identity, resume is not None
        self.folder = resume or checkpoints / digests.fingerprint(identity)
        if resume is not None:
            differs = _difference(identity, read_identity(resume))
            if differs:
                raise FaceganError(
                    f"{resume}: {differs} changed since that run; "
                    "run facegan train without --resume"
                )

    def load(self, device: torch.device, on_event: OnEvent) -> dict[str, Any] | None:
        """The state of the newest intact checkpoint, with its tensors on `device`; else None."""
        return checkpoint.load_newest(self.folder / CHECKPOINT, device, on_event)

    def save(self, state: dict[str, Any]) -> None:
        """Write the state, and keep the checkpoint before."""
        checkpoint.save_checkpoint(state, self.folder / CHECKPOINT)

    def finished_params(self) -> dict[str, Any] | None:
        """The stopping parameters of a finished training; None if it is unfinished."""
        path = self.folder / FINISHED
        return dict(json.loads(path.read_text("utf-8"))) if path.exists() else None

    def finish(self, stopping_params: dict[str, Any]) -> None:
        """Mark the training as finished with these parameters."""
        with replacing(self.folder / FINISHED) as temporary:
            temporary.write_text(json.dumps(stopping_params), "utf-8")

    def start(self, on_event: OnEvent) -> None:
        """Start from scratch: empty this folder, report what changed since the last training.

        Raises:
            FaceganError: if this folder must be resumed.
        """
        if self.must_resume:
            raise FaceganError(
                f"{self.folder}: no checkpoint to resume from, or already finished; "
                "run facegan train without --resume"
            )
        if (other := self._last_other()) is not None:
            differs = _difference(self.identity, other)
            on_event(Message(f"starting from scratch: {differs} changed since the last run"))
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != LOCK:  # held by this process
                path.unlink()
        (self.folder / SAMPLES).mkdir()
        with replacing(self.folder / IDENTITY) as temporary:
            temporary.write_text(json.dumps(self.identity), "utf-8")

    def for_epochs(self, epochs: int) -> "RunFolder":
        """A separate run folder for this training with `epochs` epochs."""
        return RunFolder(self.folder.parent, {**self.identity, "epochs": epochs})

    def _last_other(self) -> dict[str, Any] | None:
        """The identity of the training that was used last, this one apart."""
        folders = [path.parent for path in self.folder.parent.glob(f"*/{IDENTITY}")]
        for folder in sorted(folders, key=_last_used, reverse=True):
            if folder != self.folder:
                with suppress(FaceganError):  # a damaged one is no reason not to train
                    return read_identity(folder)
        return None


def images_seen(folder: Path) -> int:
    """The images that a training has seen by its history; 0 where it has none."""
    seen = 0
    with suppress(OSError, ValueError):  # none yet, or a line is being written
        for line in (folder / NAME).read_text("utf-8").splitlines():
            seen = max(seen, json.loads(line).get("images_seen", 0))
    return seen


def read_identity(folder: Path) -> dict[str, Any]:
    """Read what a run folder's fingerprint is computed from.

    Raises:
        FaceganError: if `folder` is not a training's folder.
    """
    try:
        identity = json.loads((folder / IDENTITY).read_text("utf-8"))
        if not isinstance(identity, dict):
            raise ValueError("expected a mapping")
    except (OSError, ValueError) as error:
        raise FaceganError(f"{folder}: not a folder of facegan train ({error})") from None
    return identity


def _difference(identity: dict[str, Any], other: dict[str, Any]) -> str:
    """The names of all differences, parameters as in params.yaml."""
    names = []
    for key, value in identity.items():
        section = "train" if key == "params" else key
        other_value = other.get(key)
        if isinstance(value, dict) and isinstance(other_value, dict):
            names += [f"{section}.{name}" for name in value if value[name] != other_value.get(name)]
        elif value != other_value:
            names.append(key)
    return ", ".join(names)


def _last_used(folder: Path) -> float:
    return max(path.stat().st_mtime for path in folder.iterdir())
