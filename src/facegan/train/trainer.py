"""The training loop, which every process runs; process 0 writes the files."""

import copy
import json
import math
import time
from enum import IntEnum
from pathlib import Path
from typing import Any

import torch
from torch import nn

from facegan.core import digests, events, history
from facegan.core.errors import FaceganError, Interrupted
from facegan.data.batches import Batches
from facegan.models import files
from facegan.params import Train
from facegan.train import continuation, signals
from facegan.train.export import export
from facegan.train.gan_state import GANState
from facegan.train.identity import describe
from facegan.train.monitor import Monitor, collapse_advice, collapse_reason
from facegan.train.run_folder import SAMPLES, UNTRAINED, RunFolder

# Records of losses and samples per evaluation interval.
RECORDS = 8
# Share of the time above which the quick FID's message suggests a larger interval.
MAX_SCORING_SHARE = 0.1
# Rollbacks after which NaN or infinite weights end a training.
MAX_ROLLBACKS = 3
# Parameters that affect when a training stops, but nothing that it computes until then.
STOPPING_PARAMS = {"epochs", "patience", "on_collapse"}
# Attributes of a Trainer in a checkpoint, besides the networks.
CHECKPOINTED = (
    *("sums", "count", "best", "unimproved", "collapsed", "rollbacks", "diversity", "accuracy"),
    "events",
)
CHANGED = "the outputs will not be byte-identical to those of an uninterrupted training"


class Stop(IntEnum):
    """Whether and why a training stops; the highest value of all processes counts."""

    NO = 0
    EARLY = 1
    SIGNAL = 2


class Trainer:
    """One training from the first to the last image, and the files in its run folder.

    A resume repeats what came after the last checkpoint, and writes it again.
    """

    def __init__(
        self,
        run_folder: RunFolder,
        gan: GANState,
        batches: Batches,
        monitor: Monitor,
        params: Train,
        on_event: events.OnEvent,
    ) -> None:
        self.run_folder, self.gan, self.batches = run_folder, gan, batches
        self.monitor, self.params, self.on_event = monitor, params, on_event
        self.group, self.folder = gan.group, run_folder.folder
        self.history = self.folder / history.NAME
        self.total = params.epochs * batches.steps_per_epoch * params.batch_size
        stopping_params = params.model_dump(include=STOPPING_PARAMS)
        self.start = {
            "event": "start",
            "fingerprint": digests.fingerprint({**run_folder.identity, **stopping_params}),
            "data": run_folder.identity["data"],
            "images": len(batches.images),
            "shape": list(batches.images.shape[1:]),
            "seed": run_folder.identity["seed"],
            "train": params.model_dump(),
            "quick_fid": monitor.name,
        }
        self.sums, self.count = torch.zeros(3, device=gan.device), 0
        self.best: dict[str, Any] = {"quick_fid": math.inf}
        self.events: list[str] = []  # as lines of the history
        self.unimproved, self.collapsed, self.rollbacks = 0, False, 0
        self.diversity = self.accuracy = 0.0
        self.clock, self.began, self.scoring = _Clock(), time.monotonic(), 0.0

    def resume(self) -> None:
        """Resume from the checkpoint if there is one and the training is unfinished; else start
        from scratch."""
        state = self._load()
        if state is None or state["images_seen"] > self.total:
            self._start_from_scratch()
            return
        self.start = self.run_folder.as_started(self.start)
        self._restore(state)
        past = map(json.loads, self.events)
        event = continuation.note_changes(
            self.run_folder, list(past), self.batches.seen, self.best, self.gan, self.monitor
        )
        if event:
            self._log_event(event)
            self._message(f"{describe(event['changed'])}: {CHANGED}")
            self._save()  # a rollback restores a checkpoint, and would lose the event
        self._message(f"resuming from {self.batches.seen:,} of {self.total:,} images seen")

    def _load(self) -> dict[str, Any] | None:
        """Process 0's last checkpoint, on every process."""
        device, state = self.gan.device, None
        if self.group.is_main:
            state = self.run_folder.load(device, self.on_event)
        return self.group.broadcast(state, device)

    def _start_from_scratch(self) -> None:
        if self.group.is_main:
            self.run_folder.start(self.on_event)
            history.start_history(self.history, [self.start])
        network = self._sample()
        if self.group.is_main:
            config = self.gan.generator_config
            files.save_network(network.state_dict(), config, self.folder / UNTRAINED)
        self._score(network)
        self._save()

    def run(self) -> None:
        """Train until all images are seen, or to an early end.

        Raises:
            Interrupted: on SIGINT and SIGTERM, after a checkpoint.
            FaceganError: if the weights became NaN or infinite too often.
        """
        if note := self.monitor.comparability_note:
            self._message(note)
        with signals.stop_signals() as received:
            stop = self._agree_to_stop(received)
            while self.batches.seen < self.total and stop == Stop.NO:
                self._advance()
                stop = self._agree_to_stop(received)
            if stop == Stop.SIGNAL:
                if self.gan.is_finite():
                    self._save()
                raise Interrupted(f"stopped at {self.batches.seen:,} images seen")
        if self.batches.seen < self.total:
            self._message(f"stopped early, at {self.batches.seen:,} of {self.total:,} images seen")
        elif not self._is_due(self.params.eval_interval):
            # Saved before the score, which a training of more epochs does not have here.
            self._save()
            self._score(self._log_losses() if self.count else self.gan.calibrated_ema())
        self._report_share()

    def _agree_to_stop(self, received: list[int]) -> Stop:
        """Whether to stop: the same on every process, whichever has a reason."""
        stop = Stop.SIGNAL if received else Stop.EARLY if self._is_ended() else Stop.NO
        return Stop(self.group.all_reduce_max(stop))

    def _advance(self) -> None:
        """Take a step; record, score and save if due."""
        self.sums += self.gan.train_step(next(self.batches))
        self.count += 1
        self.clock.images += self.params.batch_size
        self.on_event(events.Progress(self.batches.seen, self.total))
        interval = self.params.eval_interval
        at_score = self._is_due(interval)
        at_record = at_score or self._is_due(max(interval // RECORDS, self.params.batch_size))
        if not (at_record or self.batches.seen == self.total):
            return
        if self.group.any(not self.gan.is_finite()):
            self._roll_back()
        elif at_record:
            network = self._log_losses()
            if at_score:
                self._score(network)
                self._save()
                self.clock = _Clock()

    def _is_due(self, images: int) -> bool:
        """Whether another multiple of `images` has been seen."""
        return self.batches.seen % images < self.params.batch_size

    def _roll_back(self) -> None:
        """Restore the last checkpoint and continue with other random numbers."""
        seen = f"{self.batches.seen:,} images seen"
        state = self._load()
        if self.rollbacks == MAX_ROLLBACKS or state is None:
            raise FaceganError(
                f"weights became NaN or infinite at {seen}, after {self.rollbacks} rollbacks; "
                "lower train.lr, raise train.r1, or set train.dtype to float32"
            )
        attempt = self.rollbacks + 1
        self._restore(state)
        self.rollbacks = attempt
        restored = self.batches.seen
        self.gan.rng.reseed([self.run_folder.identity["seed"], restored, attempt])
        self._log_event({"event": "rollback", "images_seen": restored, "attempt": attempt})
        self._message(
            f"weights became NaN or infinite at {seen}; back to {restored:,}, with other latents"
        )

    def _log_losses(self) -> nn.Module:
        """Record the mean losses since the last record, and samples."""
        discriminator, generator, accuracy = (self.sums / max(self.count, 1)).tolist()
        self.sums, self.count = torch.zeros_like(self.sums), 0
        means = {"discriminator": round(discriminator, 6), "generator": round(generator, 6)}
        self.accuracy = round(accuracy, 4)
        event = {"event": "losses", "images_seen": self.batches.seen, **means}
        self._log_event({**event, "accuracy": self.accuracy})
        self.on_event(events.Metrics({**means, "images/s": self.clock.speed}))
        return self._sample()

    def _sample(self) -> nn.Module:
        """Record samples of the EMA generator, and return it."""
        network, seen = self.gan.calibrated_ema(), self.batches.seen
        picture = f"{SAMPLES}/{seen:010d}.png"
        self.diversity = self.monitor.save_samples(network, self.folder / picture)
        event = {"event": "samples", "images_seen": seen, "picture": picture}
        self._log_event({**event, "diversity": self.diversity})
        return network

    def _score(self, network: nn.Module) -> None:
        """Record the quick FID, and keep the networks if it is the best so far."""
        began, seen = time.monotonic(), self.batches.seen
        fid = self.monitor.quick_fid(network)
        self.scoring += time.monotonic() - began
        if fid < self.best["quick_fid"]:
            discriminator = copy.deepcopy(self.gan.discriminator.state_dict())
            networks = {"generator": network.state_dict(), "discriminator": discriminator}
            self.best, self.unimproved = {"quick_fid": fid, **networks}, 0
        else:
            self.unimproved += 1
        self._log_event({"event": "score", "images_seen": seen, "quick_fid": fid})
        self.on_event(events.Metrics({"quick FID": fid}))
        if seen > 0:
            self._note_collapse(fid)
        self.on_event(events.Scored(self.folder, seen, self.clock.speed))

    def _note_collapse(self, fid: float) -> None:
        reason = collapse_reason(self.diversity, self.accuracy, fid, self.best["quick_fid"])
        if reason:
            event = {"event": "collapse", "images_seen": self.batches.seen, "reason": reason}
            self._log_event(event)
            advice = collapse_advice(len(self.batches.images), bool(self.params.augment))
            self._message(f"collapse: {reason}; {advice}")
        self.collapsed = bool(reason)

    def _is_ended(self) -> bool:
        """Whether patience or a collapse ends the training early."""
        patience = self.params.patience
        out_of_patience = patience is not None and self.unimproved >= patience
        return out_of_patience or (self.collapsed and self.params.on_collapse == "stop")

    def _report_share(self) -> None:
        share = self.scoring / (time.monotonic() - self.began)
        hint = "; raise train.eval_interval to lower it" if share > MAX_SCORING_SHARE else ""
        self._message(f"the quick FID took {share:.0%} of the time{hint}")

    def _message(self, text: str) -> None:
        self.on_event(events.Message(text))

    def _log_event(self, event: dict[str, Any]) -> None:
        if self.group.is_main:
            history.append_history(self.history, event)
        self.events.append(json.dumps(event))

    def _save(self) -> None:
        if self.group.is_main:
            state = {name: getattr(self, name) for name in CHECKPOINTED}
            networks = {"trainer": self.gan.state_dict(), "images_seen": self.batches.seen}
            self.run_folder.save({**state, **networks})

    def _restore(self, state: dict[str, Any]) -> None:
        self.gan.load_state_dict(state["trainer"])
        self.batches.seen = state["images_seen"]
        for name in CHECKPOINTED:
            setattr(self, name, state[name])
        if self.group.is_main:
            history.start_history(self.history, [self.start, *map(json.loads, self.events)])

    def export(self, out: Path) -> None:
        """Write the folder `out`, and mark the training as finished."""
        configs = {
            "generator": self.gan.generator_config,
            "discriminator": self.gan.discriminator_config,
        }
        networks = {name: (self.best[name], config) for name, config in configs.items()}
        export(self.folder, networks, out)
        self.run_folder.finish(self.params.model_dump(include=STOPPING_PARAMS), out)


class _Clock:
    """Images per second since construction."""

    def __init__(self) -> None:
        self.images, self._start = 0, time.monotonic()

    @property
    def speed(self) -> float:
        return self.images / (time.monotonic() - self._start)
