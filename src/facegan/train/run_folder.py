"""`checkpoints/`: one folder per training, named after its fingerprint.

`checkpoint.pt` has the full training state and the history so far. With `samples/` and the
untrained generator, it is all that a resume needs. `progress.json` has the images seen, which the
history lacks between two records.
"""

import json
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from facegan.core import digests
from facegan.core.atomic import replacing
from facegan.core.errors import FaceganError
from facegan.core.events import Message, OnEvent
from facegan.core.history import NAME
from facegan.core.parsing import parse_json
from facegan.train import checkpoint
from facegan.train.identity import (
    CODE,
    ENVIRONMENT,
    SCORING,
    Changes,
    Event,
    changes,
    describe,
    undo,
)

CHECKPOINT, UNTRAINED, SAMPLES = "checkpoint.pt", "untrained.safetensors", "samples"
IDENTITY, FINISHED, LOCK = "fingerprint.json", "finished.json", "lock"
PROGRESS = "progress.json"
# Of a finished training.
NETWORKS = ("generator.safetensors", "discriminator.safetensors")


class RunFolder:
    """The folder of one training.

    Args:
        checkpoints: the parent folder.
        identity: data, params, code and all else that the output depends on: plain JSON values.
        resume: a folder that must be resumed, which may be outside `checkpoints`. Its code and
            environment may differ, and how it is scored.
    Raises:
        FaceganError: if `resume` is not a training's folder, or learns something else.
    Attributes:
        requested: `identity`.
        identity: that with which the training in this folder began.
        notes: messages for the case that this training starts from scratch.
    """

    def __init__(
        self, checkpoints: Path, identity: dict[str, Any], resume: Path | None = None
    ) -> None:
        self.requested = self.identity = identity
        self.must_resume, self.notes = resume is not None, list[str]()
        self.folder = checkpoints / digests.fingerprint(identity)
        if resume is not None:
            self.adopt(resume)
            self._refuse_other(read_events(resume))

    def adopt(self, folder: Path) -> None:
        """Continue the training in `folder`.

        Raises:
            FaceganError: if it is not a training's folder.
        """
        self.folder, self.identity = folder, read_identity(folder)

    def _refuse_other(self, events: list[dict[str, Any]]) -> None:
        allowed = ENVIRONMENT | SCORING | CODE
        found = self.changes(events)
        differs = {name: values for name, values in found.items() if name not in allowed}
        if differs:
            undone = f"{undo(differs)} and run this command again"
            raise FaceganError(
                f"{self.folder}: {describe(differs)} in that run; to resume it, {undone}; "
                f"to train its networks with the new values, set train.init_from: {self.folder}"
            )

    def changes(self, events: Iterable[Event]) -> Changes:
        """What differs from the last run of this training, which has the history `events`."""
        return changes(self.identity, self.requested, events)

    def as_started(self, start: dict[str, Any]) -> dict[str, Any]:
        """The first event of a history, with the scoring that this training began with."""
        first = next(iter(read_events(self.folder)), {})
        if first.get("event") != "start":
            return start
        scoring = {k: v for k, v in first["train"].items() if f"train.{k}" in SCORING}
        return {**start, "train": start["train"] | scoring, "quick_fid": first["quick_fid"]}

    def has_checkpoint(self) -> bool:
        """Whether there is a checkpoint, intact or not."""
        path = self.folder / CHECKPOINT
        return path.exists() or checkpoint.previous(path).exists()

    def load(self, device: torch.device, on_event: OnEvent) -> dict[str, Any] | None:
        """The state of the newest intact checkpoint, with its tensors on `device`; else None."""
        return checkpoint.load_newest(self.folder / CHECKPOINT, device, on_event)

    def save(self, state: dict[str, Any]) -> None:
        """Write the state, and keep the checkpoint before. The training is unfinished then."""
        (self.folder / FINISHED).unlink(missing_ok=True)
        with replacing(self.folder / PROGRESS) as temporary:
            temporary.write_text(json.dumps({"images_seen": state["images_seen"]}), "utf-8")
        checkpoint.save_checkpoint(state, self.folder / CHECKPOINT)

    def finish(self, stopping_params: dict[str, Any], out: Path | None = None) -> None:
        """Mark the training as finished with these parameters.

        Args:
            out: what it has exported; its networks are kept, for `finished_networks`.
        """
        for path in [out / name for name in NETWORKS] if out is not None else []:
            with replacing(self.folder / path.name) as temporary:
                shutil.copyfile(path, temporary)
        with replacing(self.folder / FINISHED) as temporary:
            content = {**stopping_params, "files": self._digests()}
            temporary.write_text(json.dumps(content), "utf-8")

    def finished_params(self) -> dict[str, Any] | None:
        """The stopping parameters of a finished training; None if it is unfinished."""
        content = self._finished()
        return content and {name: value for name, value in content.items() if name != "files"}

    def _finished(self) -> dict[str, Any] | None:
        try:
            content = parse_json((self.folder / FINISHED).read_text("utf-8"))
            return content if isinstance(content, dict) and "epochs" in content else None
        except (OSError, ValueError):  # missing or damaged
            return None

    def is_served(self, stopping_params: dict[str, Any]) -> bool:
        """Whether the training is finished with these parameters, and all of its files are intact.

        Raises:
            FaceganError: if a file is damaged that nothing but another training can make.
        """
        if self.finished_params() != stopping_params:
            return False
        recorded = (self._finished() or {}).get("files", {})
        found = self._digests()
        damaged = [name for name, sha256 in recorded.items() if found.get(name) != sha256]
        for name in damaged:
            if name not in (NAME, *NETWORKS):  # these are in the checkpoint, too
                raise FaceganError(
                    f"{self.folder / name}: damaged since the training finished; restore it, or "
                    f"delete {self.folder} to train again"
                )
        return set(NETWORKS) <= recorded.keys() and not damaged

    def _digests(self) -> dict[str, str]:
        """sha256 of all that an export needs, by path in this folder."""
        names = [NAME, UNTRAINED, *NETWORKS]
        names += [f"{SAMPLES}/{path.name}" for path in sorted((self.folder / SAMPLES).glob("*"))]
        return {
            n: digests.file_sha256(self.folder / n) for n in names if (self.folder / n).exists()
        }

    def start(self, on_event: OnEvent) -> None:
        """Start from scratch: give the notes, and empty this folder.

        Raises:
            FaceganError: if this folder must be resumed.
        """
        if self.must_resume:
            raise FaceganError(
                f"{self.folder}: no intact checkpoint to resume from; "
                "run facegan train without --resume (FACEGAN_RESUME)"
            )
        for note in self.notes:
            on_event(Message(note))
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != LOCK:  # held by this process
                path.unlink()
        (self.folder / SAMPLES).mkdir()
        self.identity = self.requested
        with replacing(self.folder / IDENTITY) as temporary:
            temporary.write_text(json.dumps(self.identity), "utf-8")

    def for_epochs(self, epochs: int) -> "RunFolder":
        """A separate run folder for this training with `epochs` epochs."""
        return RunFolder(self.folder.parent, {**self.requested, "epochs": epochs})


def read_events(folder: Path) -> list[dict[str, Any]]:
    """A training's history so far; without lines that are damaged or being written."""
    events = []
    with suppress(OSError):
        for line in (folder / NAME).read_text("utf-8", errors="replace").splitlines():
            with suppress(ValueError):
                event = parse_json(line)
                events += [event] if isinstance(event, dict) else []
    return events


def images_seen(folder: Path) -> int:
    """The images that a training has seen; 0 where its files do not tell."""
    saved = 0
    with suppress(OSError, ValueError, KeyError, TypeError):
        saved = int(parse_json((folder / PROGRESS).read_text("utf-8"))["images_seen"])
    seen: list[int] = [event.get("images_seen", 0) for event in read_events(folder)]
    return max([saved, *seen])


def read_identity(folder: Path) -> dict[str, Any]:
    """Read what a run folder's fingerprint is computed from.

    Raises:
        FaceganError: if `folder` is not a training's folder.
    """
    try:
        identity = parse_json((folder / IDENTITY).read_text("utf-8"))
        if not isinstance(identity, dict):
            raise ValueError("expected a mapping")
    except (OSError, ValueError) as error:
        raise FaceganError(f"{folder}: not a folder of facegan train ({error})") from None
    return identity
