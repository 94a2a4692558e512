"""The training loop."""

import copy
import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from facegan.core import digests, events, history, pictures
from facegan.core.atomic import replacing
from facegan.core.errors import FaceganError, Interrupted
from facegan.data.batches import Batches
from facegan.models import files
from facegan.params import Train
from facegan.runtime.distributed import Command
from facegan.train import monitor, run_folder, signals
from facegan.train.gan_state import GANState

# Records of losses and samples per evaluation interval.
RECORDS = 8
# Share of the time above which the quick FID's message suggests a larger interval.
MAX_SCORING_SHARE = 0.1
# Rollbacks after which NaN or infinite weights end a training.
MAX_ROLLBACKS = 3
# Collapse: diversity below, discriminator accuracy above, or quick FID over the best above these.
# The FID is needed, because one face in 64 shades of brightness has a diversity of 0.9.
MIN_DIVERSITY, MAX_ACCURACY, MAX_FID_RATIO = 0.1, 0.999, 2.0
# Parameters that affect when a training stops, but nothing that it computes until then.
STOPPING_PARAMS = {"epochs", "patience", "on_collapse"}
# Attributes of a Trainer in a checkpoint, besides the networks.
CHECKPOINTED = (
    *("sums", "count", "best", "unimproved", "collapsed", "rollbacks", "diversity", "accuracy"),
    "events",
)


class Trainer:
    """One training from the first to the last image, and the files in its run folder.

    A resume repeats what came after the last checkpoint, and writes it again.
    """

    def __init__(
        self,
        folder: run_folder.RunFolder,
        gan: GANState,
        batches: Batches,
        quality: monitor.Monitor,
        params: Train,
        on_event: events.OnEvent,
    ) -> None:
        self.run_folder, self.gan, self.batches = folder, gan, batches
        self.monitor, self.params, self.on_event = quality, params, on_event
        self.folder = folder.folder
        self.history = self.folder / history.NAME
        self.total = params.epochs * batches.steps_per_epoch * params.batch_size
        stopping_params = params.model_dump(include=STOPPING_PARAMS)
        self.start = {
            "event": "start",
            "fingerprint": digests.fingerprint({**folder.identity, **stopping_params}),
            "data": folder.identity["data"],
            "images": len(batches.images),
            "shape": list(batches.images.shape[1:]),
            "seed": folder.identity["seed"],
            "train": params.model_dump(),
            "quick_fid": quality.name,
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
        state = self.run_folder.load(self.gan.device, self.on_event)
        stopping_params = self.params.model_dump(include=STOPPING_PARAMS)
        finished = self.run_folder.finished_params() == stopping_params
        if state is None or state["images_seen"] > self.total or finished:
            self._start_from_scratch()
            return
        self._restore(state)
        self._align()
        self._message(f"resuming from {self.batches.seen:,} of {self.total:,} images seen")

    def _start_from_scratch(self) -> None:
        self.run_folder.start(self.on_event)
        history.start_history(self.history, [self.start])
        network = self._sample()
        config = self.gan.generator_config
        files.save_network(network.state_dict(), config, self.folder / run_folder.UNTRAINED)
        self._score(network)
        self._save()
        self._align()

    def run(self) -> None:
        """Train until all images are seen, or to an early end.

        Raises:
            Interrupted: on SIGINT and SIGTERM, after a checkpoint.
            FaceganError: if the weights became NaN or infinite too often.
        """
        if note := self.monitor.comparability_note:
            self._message(note)
        with signals.stop_signals() as stop:
            while self.batches.seen < self.total and not self._is_ended():
                self._advance()
                if stop:
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

    def _advance(self) -> None:
        """Take a step; record, score and save if due."""
        self.gan.group.lead(Command.STEP)
        self.sums += self.gan.train_step(next(self.batches))
        self.count += 1
        self.clock.images += self.params.batch_size
        self.on_event(events.Progress(self.batches.seen, self.total))
        interval = self.params.eval_interval
        at_score = self._is_due(interval)
        at_record = at_score or self._is_due(max(interval // RECORDS, self.params.batch_size))
        if not (at_record or self.batches.seen == self.total):
            return
        if not self.gan.is_finite():
            self._roll_back()
        elif at_record:
            network = self._log_losses()
            if at_score:
                self._score(network)
                self._save()
                self.clock = _Clock()

    def _align(self) -> None:
        """Have the other processes go on from this one's state."""
        self.gan.group.lead(Command.LOAD, self._networks())

    def _is_due(self, images: int) -> bool:
        """Whether another multiple of `images` has been seen."""
        return self.batches.seen % images < self.params.batch_size

    def _roll_back(self) -> None:
        """Restore the last checkpoint and continue with other random numbers."""
        seen = f"{self.batches.seen:,} images seen"
        state = self.run_folder.load(self.gan.device, self.on_event)
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
        self._align()
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
        picture = f"{run_folder.SAMPLES}/{seen:010d}.png"
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
        reasons, best = [], self.best["quick_fid"]
        if self.diversity < MIN_DIVERSITY:
            reasons.append(f"the diversity of samples is {self.diversity:.1%} of the photographs'")
        if self.accuracy > MAX_ACCURACY:
            reasons.append(f"the discriminator's accuracy is {self.accuracy:.2%}")
        if fid > MAX_FID_RATIO * best:
            reasons.append(f"the quick FID of {fid:.1f} is {fid / best:.1f} times the best")
        if reasons:
            reason = " and ".join(reasons)
            self._log_event(
                {"event": "collapse", "images_seen": self.batches.seen, "reason": reason}
            )
            self._message(f"collapse: {reason}; lower train.lr or train.discriminator_lr")
        self.collapsed = bool(reasons)

    def _is_ended(self) -> bool:
        """Whether patience or a collapse ends the training early."""
        out_of_patience = (
            self.params.patience is not None and self.unimproved >= self.params.patience
        )
        return out_of_patience or (self.collapsed and self.params.on_collapse == "stop")

    def _report_share(self) -> None:
        share = self.scoring / (time.monotonic() - self.began)
        hint = "; raise train.eval_interval to lower it" if share > MAX_SCORING_SHARE else ""
        self._message(f"the quick FID took {share:.0%} of the time{hint}")

    def _message(self, text: str) -> None:
        self.on_event(events.Message(text))

    def _log_event(self, event: dict[str, Any]) -> None:
        history.append_history(self.history, event)
        self.events.append(json.dumps(event))

    def _save(self) -> None:
        state = {name: getattr(self, name) for name in CHECKPOINTED}
        self.run_folder.save({**state, **self._networks()})

    def _networks(self) -> dict[str, Any]:
        return {"trainer": self.gan.state_dict(), "images_seen": self.batches.seen}

    def _restore(self, state: dict[str, Any]) -> None:
        self.gan.load_state_dict(state["trainer"])
        self.batches.seen = state["images_seen"]
        for name in CHECKPOINTED:
            setattr(self, name, state[name])
        history.start_history(self.history, [self.start, *map(json.loads, self.events)])

    def export(self, out: Path) -> None:
        """Write the folder `out`: best and untrained networks, history, samples, animation."""
        lines = history.read_history(self.history)
        configs = {
            "generator": self.gan.generator_config,
            "discriminator": self.gan.discriminator_config,
        }
        with replacing(out) as folder:
            folder.mkdir()
            for name, config in configs.items():
                files.save_network(self.best[name], config, folder / f"{name}.safetensors")
            for name in (history.NAME, run_folder.UNTRAINED):
                shutil.copyfile(self.folder / name, folder / name)
            (folder / run_folder.SAMPLES).mkdir()
            samples = [line["picture"] for line in lines if line["event"] == "samples"]
            for name in samples:
                shutil.copyfile(self.folder / name, folder / name)
            history.write_table(lines, "losses", folder / "losses.csv")
            history.write_table(lines, "score", folder / "quick_fid.csv")
            pictures.save_animation([folder / name for name in samples], folder / "evolution.gif")
        self.run_folder.finish(self.params.model_dump(include=STOPPING_PARAMS))


class _Clock:
    """Images per second since construction."""

    def __init__(self) -> None:
        self.images, self._start = 0, time.monotonic()

    @property
    def speed(self) -> float:
        return self.images / (time.monotonic() - self._start)
