"""What a training records: losses, samples, scores, collapses, and the best networks."""

import copy
import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facegan.core import events, history, pictures
from facegan.core.parsing import parse_json
from facegan.models.sampling import NotFinite
from facegan.train.gan_state import GANState
from facegan.train.monitor import FINAL, Monitor, collapse_advice, collapse_reason
from facegan.train.run_folder import SAMPLES

# Attributes in a checkpoint.
CHECKPOINTED = (
    *("lines", "sums", "count", "best", "rivals", "unimproved", "collapsed", "diversity"),
)
# Snapshots with quick FIDs of up to so many times the best may be better than it; so many of them,
# the best included, are kept.
CLOSE, CONTENDERS = 1.02, 3


class Recorder:
    """The history of one training, its sample pictures, and its best networks so far.

    Args:
        folder: of the training; process 0 writes there.
        start: the first event of the history.
    """

    def __init__(
        self,
        folder: Path,
        start: dict[str, Any],
        gan: GANState,
        monitor: Monitor,
        on_event: events.OnEvent,
    ) -> None:
        self.folder, self.start, self.gan = folder, start, gan
        self.monitor, self.on_event = monitor, on_event
        self.file, self.is_main = folder / history.NAME, gan.group.is_main
        self.lines: list[str] = []  # of the history, after the first
        self.sums, self.count = torch.zeros(3, device=gan.device), 0
        # Networks with the best quick FID, and those whose quick FIDs are close, best first.
        self.best: dict[str, Any] = {"quick_fid": math.inf}
        self.rivals: list[dict[str, Any]] = []
        self.unimproved, self.collapsed, self.lost_picture = 0, False, False
        self.diversity = 0.0
        self.say_once = events.once(on_event)
        self.restart_clock()

    def restart_clock(self) -> None:
        self.images, self.since = 0, time.monotonic()

    @property
    def speed(self) -> float:
        """Images per second since the last score."""
        return self.images / (time.monotonic() - self.since)

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in CHECKPOINTED}

    def load_state_dict(self, state: dict[str, Any], earlier: Sequence[str] = ()) -> None:
        """Restore a checkpoint, and rewrite the history.

        Args:
            earlier: lines of the history; rollbacks after the checkpoint are kept.
        """
        for name in CHECKPOINTED:  # `--resume` takes those of earlier code, which have no rivals
            setattr(self, name, state.get(name, getattr(self, name)))
        later = earlier[len(self.lines) :]
        self.lines += [line for line in later if parse_json(line)["event"] == "rollback"]
        self.start_history()

    def start_history(self) -> None:
        if self.is_main:
            history.start_history(self.file, [self.start, *map(parse_json, self.lines)])

    def append(self, event: dict[str, Any]) -> None:
        """Append an event to the history."""
        if self.is_main:
            history.append_history(self.file, event)
        self.lines.append(json.dumps(event))

    def add(self, metrics: Tensor, images: int) -> None:
        """Add the metrics of `GANState.train_step` on a batch of `images`."""
        self.sums += metrics
        self.count += 1
        self.images += images

    def log_losses(self, seen: int) -> nn.Module:
        """Record the mean losses since the last record, and samples as `log_samples` does."""
        discriminator, generator, accuracy = (self.sums / max(self.count, 1)).tolist()
        self.sums, self.count = torch.zeros_like(self.sums), 0
        means = {"discriminator": round(discriminator, 6), "generator": round(generator, 6)}
        means["accuracy"] = round(accuracy, 4)
        event = {"event": "losses", "images_seen": seen, **means}
        if (probability := self.gan.augment_probability) is not None:
            event["augment_probability"] = round(float(probability), 4)
        self.append(event)
        losses = {name: means[name] for name in ("discriminator", "generator")}
        self.on_event(events.Metrics({**losses, "images/s": self.speed}))
        return self.log_samples(seen)

    def log_samples(self, seen: int) -> nn.Module:
        """Record samples of the EMA generator, and return it.

        Raises:
            NotFinite: if they contain NaN or infinity.
        """
        network = self.gan.calibrated_ema()
        grid, self.diversity = self.monitor.sample(network)
        event: dict[str, Any] = {"event": "samples", "images_seen": seen}
        if self._save_picture(grid, picture := f"{SAMPLES}/{seen:010d}.png"):
            event["picture"] = picture
        self.append({**event, "diversity": self.diversity})
        return network

    def _save_picture(self, grid: pictures.Pixels, name: str) -> bool:
        """Whether process 0 could write the picture. The first failure is reported."""
        if not self.is_main:
            return False
        report = events.silent if self.lost_picture else self.on_event
        save = partial(pictures.save_picture, grid)
        is_written = pictures.attempt(self.folder / name, save, report)
        self.lost_picture |= not is_written
        return is_written

    def score(self, network: nn.Module, seen: int, on_batch: Callable[[], None]) -> None:
        """Record the quick FID, and keep the networks if it is the best so far, or close to that.

        Args:
            on_batch: as in `Monitor.quick_fid`; nothing is recorded if it raises.
        Raises:
            NotFinite: if the first network's images contain NaN or infinity.
        """
        try:
            fid = self.monitor.quick_fid(network, on_batch)
        except NotFinite as error:
            if "generator" not in self.best:
                raise
            self.unimproved += 1
            self.on_event(events.Message(f"no quick FID at {seen:,} images seen: {error}"))
            return
        self.unimproved = 0 if fid < self.best["quick_fid"] else self.unimproved + 1
        discriminator = copy.deepcopy(self.gan.discriminator.state_dict())
        networks = {"generator": network.state_dict(), "discriminator": discriminator}
        self._keep({"quick_fid": fid, "images_seen": seen, **networks})
        self.append({"event": "score", "images_seen": seen, "quick_fid": fid})
        self.on_event(events.Metrics({"quick FID": fid}))
        if seen > 0:
            self._note_collapse(fid, seen)

    def _keep(self, snapshot: dict[str, Any]) -> None:
        """Keep it if it is the best, or close to the best."""
        found = [*self.rivals, snapshot]
        if "generator" in self.best:
            found.append(self.best)
        self.best, *others = sorted(
            found, key=lambda kept: (kept["quick_fid"], kept["images_seen"])
        )
        close = [kept for kept in others if kept["quick_fid"] <= CLOSE * self.best["quick_fid"]]
        self.rivals = close[: CONTENDERS - 1]

    def choose(self, on_batch: Callable[[], None]) -> None:
        """Decide between snapshots whose quick FIDs are close, by an FID of more images.

        A checkpoint has to be of before, because a longer training decides anew.

        Args:
            on_batch: as in `Monitor.quick_fid`; nothing is recorded if it raises.
        """
        if not self.rivals:
            return
        contenders = sorted((self.best, *self.rivals), key=lambda kept: kept["images_seen"])
        seen = [kept["images_seen"] for kept in contenders]
        text = f"the quick FIDs at {_listed(f'{n:,}' for n in seen)} images seen are close"
        count = FINAL * self.monitor.num_samples
        self.on_event(events.Message(f"{text}; scoring each with {count:,} other images"))
        fids = [self._final_fid(kept["generator"], on_batch) for kept in contenders]
        order = sorted(zip(fids, contenders, strict=True), key=lambda p: (p[0], p[1]["quick_fid"]))
        self.best, self.rivals = order[0][1], []
        chosen = self.best["images_seen"]
        finite = [fid if math.isfinite(fid) else None for fid in fids]
        self.append({"event": "choice", "images_seen": chosen, "contenders": seen, "fids": finite})
        scored = _listed(f"{fid:.2f}" for fid in fids)
        self.on_event(events.Message(f"FIDs {scored}; the best generator is that of {chosen:,}"))

    def _final_fid(self, state: dict[str, Tensor], on_batch: Callable[[], None]) -> float:
        network = self.gan.calibrated_ema()
        network.load_state_dict(state)
        try:
            return self.monitor.final_fid(network, on_batch)
        except NotFinite:
            return math.inf

    def _note_collapse(self, fid: float, seen: int) -> None:
        reason = collapse_reason(self.diversity, self._accuracy(), fid, self.best["quick_fid"])
        if reason:
            self.append({"event": "collapse", "images_seen": seen, "reason": reason})
            advice = collapse_advice(self.start["images"], bool(self.gan.params.augment))
            self.say_once(events.Message(f"collapse: {reason}; {advice}"))
        self.collapsed = bool(reason)

    def _accuracy(self) -> float:
        """The discriminator's mean accuracy between the last two scores; 0 without a record.

        That of the last record may be of one batch, all of which is right by chance.
        """
        ends, accuracies, start = list[int](), list[float](), 0
        for line in reversed(self.lines[:-1]):  # without the score of now
            event = parse_json(line)
            if event["event"] == "score":
                start = event["images_seen"]
                break
            if event["event"] == "losses":
                ends.insert(0, event["images_seen"])
                accuracies.insert(0, event["accuracy"])
        return float(np.average(accuracies, weights=np.diff([start, *ends]))) if ends else 0.0


def _listed(texts: Iterable[str]) -> str:
    """Two or more, as in a sentence."""
    *texts, last = texts
    return f"{', '.join(texts)} and {last}"
