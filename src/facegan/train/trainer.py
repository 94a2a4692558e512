"""The training loop, which every process runs; process 0 writes the files."""

import time
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any

from torch import nn

from facegan.core import digests, events
from facegan.core.errors import FaceganError, Interrupted
from facegan.data.batches import Batches
from facegan.models import files
from facegan.models.sampling import NotFinite
from facegan.params import Train
from facegan.train import continuation, signals
from facegan.train.export import export
from facegan.train.gan_state import GANState
from facegan.train.monitor import Monitor
from facegan.train.recorder import Recorder
from facegan.train.run_folder import UNTRAINED, RunFolder

# Records of losses and samples per evaluation interval.
RECORDS = 8
# Share of the time above which the quick FID's message suggests a larger interval.
MAX_SCORING_SHARE = 0.1
# Rollbacks of one training after which NaN or infinite weights end it.
MAX_ROLLBACKS = 3
NAN_ADVICE = "lower train.lr, raise train.r1, or set train.dtype to float32"
# Parameters that affect when a training stops, but nothing that it computes until then.
STOPPING_PARAMS = {"epochs", "patience", "on_collapse"}


class Stop(IntEnum):
    """Whether and why a training stops; the highest value of all processes counts."""

    NO = 0
    EARLY = 1
    SIGNAL = 2


class Trainer:
    """One training from the first to the last image, and the files in its run folder.

    There is a checkpoint before and after each score. A resume repeats what came after the last
    one, and writes it again.
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
        self.total = params.epochs * batches.steps_per_epoch * params.batch_size
        self.recorder = Recorder(self.folder, self._start_event(), gan, monitor, on_event)
        self.rollbacks, self.score_due, self.diverged = 0, False, False
        self.received, self.began, self.scoring = list[int](), time.monotonic(), 0.0

    def _start_event(self) -> dict[str, Any]:
        identity, images = self.run_folder.identity, self.batches.images
        return {
            "event": "start",
            "fingerprint": digests.fingerprint({**identity, **self._stopping_params()}),
            "data": identity["data"],
            "images": len(images),
            "shape": list(images.shape[1:]),
            "seed": identity["seed"],
            "train": self.params.model_dump(),
            "quick_fid": self.monitor.name,
        }

    def _stopping_params(self) -> dict[str, Any]:
        return self.params.model_dump(include=STOPPING_PARAMS)

    def run(self, finish: bool) -> None:
        """Train until all images are seen, or to an early end.

        An unfinished training resumes from its last checkpoint, and so does one that now has more
        epochs. Any other starts from scratch.

        Args:
            finish: end at the last checkpoint.
        Raises:
            Interrupted: on SIGINT and SIGTERM, after a checkpoint.
            FaceganError: if the weights became NaN or infinite too often before any score of a
                trained network, or if `finish` finds no checkpoint.
        """
        with signals.stop_signals() as self.received:
            self._resume_or_start(finish)
            resumed_at = self.batches.seen
            if note := self.monitor.comparability_note:
                self._message(note)
            if not finish:
                self._train()
            is_whole, due = self.batches.seen == self.total, self._is_due(self.params.eval_interval)
            if (finish or is_whole) and not due:
                self._score_last()
            self.recorder.choose(self._interrupt_on_signal)
            if not is_whole:
                self._report_early_end(self._reason() or "finish")
            self._report_share(resumed_at)

    def _resume_or_start(self, finish: bool) -> None:
        state = self._load()
        if finish and state is None:
            raise FaceganError(
                f"{self.folder}: no checkpoint of a training with these data, params and code; "
                "facegan gc lists all trainings; to train, leave out --finish and FACEGAN_FINISH"
            )
        if state is None:
            self._start_from_scratch()
            return
        self.recorder.start = self.run_folder.as_started(self.recorder.start)
        self._restore(state)
        if continuation.note_changes(
            self.run_folder, self.batches.seen, self.recorder, self._interrupt_on_signal
        ):
            self._save()  # a rollback restores a checkpoint, and would lose the event
        self._message(f"resuming from {self.batches.seen:,} of {self.total:,} images seen")
        self._score_if_due()

    def _load(self) -> dict[str, Any] | None:
        """Process 0's last checkpoint, on every process."""
        device = self.gan.device
        state = self.run_folder.load(device, self.on_event) if self.group.is_main else None
        return self.group.broadcast(state, device)

    def _start_from_scratch(self) -> None:
        if self.group.is_main:
            self.run_folder.start(self.on_event)
        self.recorder.start_history()
        network, config = self.recorder.log_samples(0), self.gan.generator_config
        if self.group.is_main:
            files.save_network(network.state_dict(), config, self.folder / UNTRAINED)
        self._save_and_score(network)

    def _train(self) -> None:
        """Take steps until all images are seen or there is a reason to stop."""
        stop = self._agree_to_stop()
        while self.batches.seen < self.total and stop == Stop.NO:
            self._advance()
            stop = self._agree_to_stop()
        if stop == Stop.SIGNAL:
            if self.gan.is_finite():
                self._save()
            self._interrupt()

    def _agree_to_stop(self) -> Stop:
        """Whether to stop: the same on every process, whichever has a reason."""
        stop = Stop.SIGNAL if self.received else Stop.EARLY if self._reason() else Stop.NO
        return Stop(self.group.all_reduce_max(stop))

    def _interrupt(self) -> None:
        raise Interrupted(
            f"stopped at {self.batches.seen:,} of {self.total:,} images seen; "
            "to end there with the best generator so far: FACEGAN_FINISH=1 or --finish"
        )

    def _interrupt_on_signal(self) -> None:
        """Raise in every process once one has a signal; all call this equally often."""
        if self.group.any(bool(self.received)):
            self._interrupt()

    def _advance(self) -> None:
        """Take a step; record, save and score if due."""
        self.recorder.add(self.gan.train_step(next(self.batches)), self.params.batch_size)
        self.on_event(events.Progress(self.batches.seen, self.total))
        interval = self.params.eval_interval
        at_score = self._is_due(interval)
        at_record = at_score or self._is_due(max(interval // RECORDS, self.params.batch_size))
        if not (at_record or self.batches.seen == self.total):
            return
        if self.group.any(not self.gan.is_finite()):
            self._roll_back()
            return
        try:
            network = self.recorder.log_losses(self.batches.seen) if at_record else None
        except NotFinite:  # images can overflow where weights do not
            self._roll_back()
            return
        if network is not None and at_score:
            self._save_and_score(network)
            self.recorder.restart_clock()

    def _is_due(self, images: int) -> bool:
        """Whether another multiple of `images` has been seen."""
        return self.batches.seen % images < self.params.batch_size

    def _roll_back(self) -> None:
        """Restore the last checkpoint; continue with other random numbers, or end the training."""
        seen, rollbacks, lines = self.batches.seen, self.rollbacks, self.recorder.lines
        state, self.diverged = self._load(), rollbacks == MAX_ROLLBACKS
        text = f"weights became NaN or infinite at {seen:,} images seen"
        if state is None or (self.diverged and state["images_seen"] == 0):
            raise FaceganError(f"{text}, after {rollbacks} rollbacks; {NAN_ADVICE}")
        self._restore(state, lines)
        self._score_if_due()
        restored, self.rollbacks = self.batches.seen, rollbacks
        if self.diverged:
            self._message(f"{text}, after {rollbacks} rollbacks; {NAN_ADVICE}")
            return
        self.rollbacks += 1
        self.gan.rng.reseed([self.run_folder.identity["seed"], restored, self.rollbacks])
        event = {"event": "rollback", "images_seen": restored, "attempt": self.rollbacks}
        self.recorder.append(event)
        self._message(f"{text}; back to {restored:,}, with other latents")

    def _save_and_score(self, network: nn.Module) -> None:
        self.score_due = True
        self._save()
        self._score(network)

    def _score(self, network: nn.Module, save: bool = True) -> None:
        """Score a network, and save the result. On a signal, it raises, and the score stays due."""
        began = time.monotonic()
        self.recorder.score(network, self.batches.seen, self._interrupt_on_signal)
        self.scoring, self.score_due = self.scoring + time.monotonic() - began, False
        if save:
            self._save()
        self.on_event(events.Scored(self.folder, self.batches.seen, self.recorder.speed))

    def _score_last(self) -> None:
        """Score a last network between two intervals.

        The checkpoint is of before: a training of more epochs has no score there.
        """
        self._save()
        recorder, seen = self.recorder, self.batches.seen
        try:
            network = recorder.log_losses(seen) if recorder.count else self.gan.calibrated_ema()
            self._score(network, save=False)
        except NotFinite as error:
            self._message(f"{error}; it has no score")

    def _reason(self) -> str:
        """Why the training ends early; else an empty string."""
        patience, recorder = self.params.patience, self.recorder
        if self.diverged:
            return "NaN"
        if patience is not None and recorder.unimproved >= patience:
            return "patience"
        return "collapse" if recorder.collapsed and self.params.on_collapse == "stop" else ""

    def _report_early_end(self, reason: str) -> None:
        seen, best = self.batches.seen, self.recorder.best["images_seen"]
        end = {"event": "end", "images_seen": seen, "of": self.total, "reason": reason}
        self.recorder.append(end)
        self._message(
            f"stopped early, at {seen:,} of {self.total:,} images seen ({reason}); "
            f"the best generator is that of {best:,}"
        )

    def _report_share(self, resumed_at: int) -> None:
        share = self.scoring / (time.monotonic() - self.began)
        hint = "; raise train.eval_interval to lower it" if share > MAX_SCORING_SHARE else ""
        if self.batches.seen - resumed_at >= self.params.eval_interval:  # else it says nothing
            self._message(f"the quick FID took {share:.0%} of the time{hint}")

    def _message(self, text: str) -> None:
        self.on_event(events.Message(text))

    def _configs(self) -> dict[str, dict[str, Any]]:
        """Build configurations of the networks."""
        gan = self.gan
        return {"generator": gan.generator_config, "discriminator": gan.discriminator_config}

    def _save(self) -> None:
        if self.group.is_main:
            seen, networks = self.batches.seen, self.gan.state_dict()
            own = {"images_seen": seen, "rollbacks": self.rollbacks, "score_due": self.score_due}
            state = {**self.recorder.state_dict(), **own, "trainer": networks}
            self.run_folder.save({**state, "configs": self._configs()})

    def _restore(self, state: dict[str, Any], earlier: Sequence[str] = ()) -> None:
        self.gan.load_state_dict(state["trainer"])
        self.batches.seen, self.score_due = state["images_seen"], state["score_due"]
        self.rollbacks = state["rollbacks"]
        self.recorder.load_state_dict(state, earlier)

    def _score_if_due(self) -> None:
        """Score at the last checkpoint, if a signal came before."""
        if self.score_due:
            self._score(self.gan.calibrated_ema())

    def export(self, out: Path) -> None:
        """Write the folder `out`, and mark the training as finished unless it ended on request."""
        export(self.folder, self.recorder.best, self._configs(), out, self.on_event)
        if self.batches.seen == self.total or self._reason():
            self.run_folder.finish(self._stopping_params(), out)
