"""Which training in `checkpoints/` is continued, and what else is there."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facegan.core import history
from facegan.core.errors import FaceganError
from facegan.core.events import Message
from facegan.core.parsing import parse_json
from facegan.train import identity as identities
from facegan.train.identity import CODE, ENVIRONMENT, RESCORING, SCORING, Changes
from facegan.train.recorder import Recorder
from facegan.train.retention import is_locked
from facegan.train.run_folder import IDENTITY, RunFolder, images_seen, read_events

CHANGED = "the outputs will not be byte-identical to those of an uninterrupted training"


@dataclass(frozen=True)
class Other:
    """Another training's folder.

    Attributes:
        changes: what differs in the training to be started from that one's last run.
        settled: whether what it learns from never changed.
        finished: its stopping parameters, if it is finished.
        last_used: seconds since the epoch.
    """

    folder: Path
    changes: Changes
    settled: bool
    images_seen: int
    finished: dict[str, Any] | None
    last_used: float


def choose(run: RunFolder, total: int, stopping: dict[str, Any]) -> RunFolder:
    """`run`, or if it has no checkpoint, in the folder of a training that learns the same.

    A training that differs only in `ENVIRONMENT` is this one. One that is scored differently is
    continued if it is unfinished, or shorter than this one, and not running.

    Args:
        total: images that this training is to see.
        stopping: its stopping parameters.
    """
    if not run.has_checkpoint():
        usable = [other for other in _others(run) if _continues(other, total, stopping)]
        if usable:
            best = max(usable, key=lambda o: (o.images_seen <= total, o.images_seen))
            run.adopt(best.folder)
    return run


def _continues(other: Other, total: int, stopping: dict[str, Any]) -> bool:
    names = other.changes.keys()
    if not other.settled or not names <= ENVIRONMENT | SCORING:
        return False
    if names <= ENVIRONMENT:
        return True
    shorter = other.finished is None or other.finished["epochs"] < stopping["epochs"]
    return shorter and other.images_seen <= total and not is_locked(other.folder)


def explain(run: RunFolder, command: str) -> str:
    """Why `run` starts from scratch, compared with the most similar training; empty if none.

    Args:
        command: the command that starts this training.
    """
    others = _others(run)
    if not others:
        return ""
    other = min(others, key=lambda o: (len(o.changes), o.finished is not None, -o.last_used))
    text = f"starting from scratch: {identities.describe(other.changes)} in {other.folder}"
    if other.finished is not None:
        return text
    seen = f"{text}, which is kept, unfinished at {other.images_seen:,} images seen; to resume it"
    undo = identities.undo(other.changes)
    return f"{seen}, {undo and f'{undo} and '}run: FACEGAN_RESUME={other.folder} {command}"


def _others(run: RunFolder) -> list[Other]:
    """All other trainings with a checkpoint beside `run`."""
    found = []
    for path in sorted(run.folder.parent.glob(f"*/{IDENTITY}")):
        if path.parent != run.folder:
            with suppress(FaceganError, OSError):  # a damaged one is no reason not to train
                other = RunFolder(run.folder.parent, run.requested)
                other.adopt(path.parent)
                if other.has_checkpoint():
                    found.append(_describe(other))
    return found


def _describe(run: RunFolder) -> Other:
    events = read_events(run.folder)
    changed = [name for event in identities.resumes(events) for name in event["changed"]]
    return Other(
        run.folder,
        changes=run.changes(events),
        settled=not set(changed) & CODE,
        images_seen=images_seen(run.folder),
        finished=run.finished_params(),
        last_used=max(path.stat().st_mtime for path in run.folder.iterdir()),
    )


def note_changes(
    run: RunFolder, seen: int, recorder: Recorder, on_batch: Callable[[], None]
) -> bool:
    """Record in the history what has changed since the last run; False if nothing has.

    If quick FIDs are not comparable with the earlier ones, the best snapshot is scored again, and
    those that were close to it are dropped. Every process has to call this.

    Args:
        seen: images seen at the checkpoint.
        on_batch: as in `Monitor.quick_fid`; nothing is recorded if it raises.
    """
    past = [parse_json(line) for line in recorder.lines]
    changed, monitor, best = run.changes(past), recorder.monitor, recorder.best
    event: dict[str, Any] = {"event": "resume", "images_seen": seen, "changed": changed}
    if monitor.group.any(bool(changed.keys() & RESCORING)):
        event["quick_fid"] = monitor.name
        if "generator" in best:  # there is a score
            network = recorder.gan.calibrated_ema()
            network.load_state_dict(best["generator"])
            best["quick_fid"], recorder.rivals = monitor.quick_fid(network, on_batch), []
            event["best"] = {**history.best_score(past), "quick_fid": best["quick_fid"]}
    if changed:
        recorder.append(event)
        recorder.on_event(Message(f"{identities.describe(changed)}: {CHANGED}"))
    return bool(changed)
