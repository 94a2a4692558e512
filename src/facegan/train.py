"""The training loop: the generator with the best quick FID of the run."""

import copy
import json
import math
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from facegan import (
    atomic,
    average,
    checkpoint,
    dataset,
    errors,
    events,
    features,
    frechet,
    history,
    losses,
    sampling,
    stopping,
    trainer,
)  # fmt: skip
from facegan.errors import FaceganError
from facegan.models import dcgan
from facegan.params import Extractor, Train

# The same latents in every run, so that two runs compare picture by picture. The official score
# and BatchNorm's statistics have latents of their own.
SAMPLE_SEED, QUICK_SEED = 1, 2
SAMPLES = 64
# In an interval, losses are recorded and samples drawn so many times.
RECORDS = 8
# The quick FID may take this share of the time.
MOST_SCORING = 0.1
CHECKPOINT, INITIAL = "checkpoint.pt", "initial.safetensors"

# What a training depends on besides its data and params: another source, another fingerprint.
SOURCES = (
    atomic, average, checkpoint, dataset, dcgan, errors, events, features, frechet, history,
    losses, sampling, stopping, trainer, sys.modules[__name__],
)  # fmt: skip


def train(
    data: Path,
    quick: Path,
    out: Path,
    params: Train,
    seed: int,
    device: torch.device,
    checkpoints: Path,
    on_event: events.OnEvent = events.silent,
) -> None:
    """Train on the preprocessed folder `data` and write the best generator to the folder `out`.

    An unfinished training of the same fingerprint goes on from its last checkpoint, and so does a
    finished one that now has more epochs to go; the bytes of `out` are the same as without the
    break. SIGINT and SIGTERM take a checkpoint first.

    Raises:
        FaceganError: if an input is unusable, the networks can't have this size, a loss is no
            number any more, or a signal asked for the end.
    """
    atomic.refuse_foreign(out, history.NAME)
    images = dataset.load_images(data)
    statistics = frechet.Statistics.load(quick)
    size, _, channels = shape = tuple(images.shape[1:])
    if size not in dcgan.SIZES or shape != (size, size, channels):
        valid = " or ".join(map(str, dcgan.SIZES))
        raise FaceganError(f"{data}: images of {shape}; the model makes squares of {valid} pixels")
    if list(shape) != statistics.about["shape"]:
        raise FaceganError(f"{quick}: of images {statistics.about['shape']}, not {list(shape)}")
    batches = dataset.Batches(images.to(device), params.batch_size, seed)
    identity = {
        "data": dataset.data_sha256(data),
        "quick": checkpoint.file_sha256(quick),
        "params": params.model_dump(exclude={"epochs"}),
        "seed": seed,
        "sources": checkpoint.source_sha256(SOURCES),
        "torch": torch.__version__,
        "device": device.type,
        "threads": torch.get_num_threads(),
    }
    networks = trainer.Trainer(params, size, channels, seed, device)
    run = Run(identity, networks, batches, statistics, params, checkpoints, on_event)
    run.resume()
    run.go()
    run.publish(out)


class Run:
    """One training from the first image to the last, with all that it leaves in `folder`.

    `folder` alone resumes it: `checkpoint.pt` has the state of everything that moves, and how many
    lines of the history belong to it. What came after it is done, and written, once more.
    """

    def __init__(
        self,
        identity: dict[str, Any],
        networks: trainer.Trainer,
        batches: dataset.Batches,
        quick: frechet.Statistics,
        params: Train,
        checkpoints: Path,
        on_event: events.OnEvent,
    ) -> None:
        self.identity, self.trainer, self.batches = identity, networks, batches
        self.quick, self.params, self.on_event = quick, params, on_event
        self.folder = checkpoints / checkpoint.fingerprint(identity)
        self.history = self.folder / history.NAME
        self.total = params.epochs * batches.steps_per_epoch * params.batch_size
        settings = Extractor(**quick.about["extractor"])
        self.extractor = features.load_extractor(settings, networks.device)
        self.start = {
            "event": "start",
            "fingerprint": checkpoint.fingerprint({**identity, "epochs": params.epochs}),
            "data": identity["data"],
            "images": len(batches.images),
            "shape": list(batches.images.shape[1:]),
            "seed": identity["seed"],
            "train": params.model_dump(),
            "quick_fid": f"quick_fid{params.quick_fakes}_{settings.label}",
        }
        # A checkpoint holds these too.
        self.loss_sum, self.loss_count = torch.zeros(2, device=networks.device), 0
        self.best: dict[str, Any] = {"quick_fid": math.inf}
        self.lines = 1
        self.began, self.scoring = time.monotonic(), 0.0  # when; seconds

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one that has images to go; else start afresh."""
        path = self.folder / CHECKPOINT
        state = checkpoint.load_checkpoint(path, self.trainer.device) if path.exists() else None
        if state is None or state["images_seen"] >= self.total:
            self._start_afresh()
            return
        self.trainer.load_state_dict(state["trainer"])
        self.batches.seen = state["images_seen"]
        self.loss_sum, self.loss_count = state["loss_sum"], state["loss_count"]
        self.best, self.lines = state["best"], state["lines"]
        before = history.read_history(self.history)[1 : self.lines]
        history.start_history(self.history, [self.start, *before])
        text = f"going on from {self.batches.seen:,} of {self.total:,} images seen"
        self.on_event({"event": "message", "text": text})

    def _start_afresh(self) -> None:
        others = self.folder.parent.glob("*/fingerprint.json")
        newest = max(others, key=lambda path: path.stat().st_mtime, default=None)
        other = json.loads(newest.read_text("utf-8")) if newest is not None else self.identity
        differs = [key for key in self.identity if self.identity[key] != other.get(key)]
        if differs:
            text = f"starting afresh: other {', '.join(differs)} than the last training"
            self.on_event({"event": "message", "text": text})
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "samples").mkdir(parents=True)
        (self.folder / "fingerprint.json").write_text(json.dumps(self.identity), "utf-8")
        history.start_history(self.history, [self.start])
        network = self._sample()
        state = network.state_dict()
        checkpoint.save_network(state, self.trainer.config, self.folder / INITIAL)
        self._score(network, speed=0.0)

    def go(self) -> None:
        """Train to the end."""
        size, interval = self.params.batch_size, self.params.interval
        record = max(interval // RECORDS, size)
        clock = _Clock()
        with stopping.stop_signals() as stop:
            for images in self.batches:
                self.loss_sum += self.trainer.step(images)
                self.loss_count += 1
                clock.images += size
                seen = self.batches.seen
                score = seen % interval < size or seen == self.total
                self.on_event({"event": "progress", "done": seen, "total": self.total})
                if score or seen % record < size:
                    self._record(clock.speed)
                    network = self._sample()
                if score:
                    self._score(network, clock.speed)
                    clock = _Clock()
                if seen == self.total:
                    self._report_share()
                    return
                if score or stop:
                    self._save()
                if stop:
                    text = f"stopped at {seen:,} images seen; the same command goes on from there"
                    raise FaceganError(text)

    def _report_share(self) -> None:
        share = self.scoring / (time.monotonic() - self.began)
        hint = "; a larger train.interval makes it less" if share > MOST_SCORING else ""
        text = f"the quick FID took {share:.0%} of the time{hint}"
        self.on_event({"event": "message", "text": text})

    def _record(self, speed: float) -> None:
        """Write the mean losses since the last record. Only here the device is waited for."""
        discriminator, generator = (self.loss_sum / self.loss_count).tolist()
        if not math.isfinite(discriminator + generator):
            seen = f"{self.batches.seen:,} images seen"
            raise FaceganError(f"the losses are no numbers any more at {seen}; lower train.lr")
        self.loss_sum, self.loss_count = torch.zeros_like(self.loss_sum), 0
        means = {"discriminator": round(discriminator, 6), "generator": round(generator, 6)}
        self._write({"event": "losses", "images_seen": self.batches.seen, **means})
        self.on_event({"event": "figures", **means, "images/s": speed})

    def _sample(self) -> nn.Module:
        """Draw the averaged generator's samples; that generator, ready to draw more."""
        network, seen = self.trainer.settled(), self.batches.seen
        z = sampling.latents(SAMPLES, self.params.latent_dim, SAMPLE_SEED)
        picture = f"samples/{seen:010d}.png"
        samples = torch.cat(list(sampling.draw(network, z)))
        sampling.save_picture(sampling.grid(samples), self.folder / picture)
        self._write({"event": "samples", "images_seen": seen, "picture": picture})
        return network

    def _score(self, network: nn.Module, speed: float) -> None:
        """Take the quick FID, and keep the generator if it is the best so far."""
        began, seen = time.monotonic(), self.batches.seen
        fid = self._quick_fid(network)
        self.scoring += time.monotonic() - began
        if fid < self.best["quick_fid"]:
            discriminator = copy.deepcopy(self.trainer.discriminator.state_dict())
            generator = network.state_dict()
            self.best = {"quick_fid": fid, "generator": generator, "discriminator": discriminator}
        self._write({"event": "score", "images_seen": seen, "quick_fid": fid})
        self.on_event({"event": "figures", "quick FID": fid})
        speeds = {"images_seen": seen, "images_per_second": speed}
        self.on_event({"event": "score", "folder": self.folder, **speeds})

    def _quick_fid(self, network: nn.Module) -> float:
        moments = frechet.Moments(self.extractor.num_features)
        z = sampling.latents(self.params.quick_fakes, self.params.latent_dim, QUICK_SEED)
        for images in sampling.draw(network, z):
            moments.update(self.extractor(images))
        return round(frechet.frechet_distance(self.quick, moments), 6)

    def _write(self, event: dict[str, Any]) -> None:
        history.append_history(self.history, event)
        self.lines += 1

    def _save(self) -> None:
        state = {
            "trainer": self.trainer.state_dict(),
            "images_seen": self.batches.seen,
            "loss_sum": self.loss_sum,
            "loss_count": self.loss_count,
            "best": self.best,
            "lines": self.lines,
        }
        checkpoint.save_checkpoint(state, self.folder / CHECKPOINT)

    def publish(self, out: Path) -> None:
        """Write the folder `out`: the best networks, the first one, history, samples, film."""
        lines = history.read_history(self.history)
        with atomic.replacing(out) as folder:
            shutil.copytree(self.folder / "samples", folder / "samples")
            for name in (history.NAME, INITIAL):
                shutil.copyfile(self.folder / name, folder / name)
            for name in ("generator", "discriminator"):
                config = self.trainer.config
                checkpoint.save_network(self.best[name], config, folder / f"{name}.safetensors")
            history.write_table(lines, "losses", folder / "losses.csv")
            history.write_table(lines, "score", folder / "quick_fid.csv")
            pictures = sorted((folder / "samples").iterdir())
            sampling.save_film(pictures, folder / "evolution.gif")
        # Last, because a training that is finished is not gone on with.
        self._save()


class _Clock:
    """Images a second since it was made."""

    def __init__(self) -> None:
        self.images, self._start = 0, time.monotonic()

    @property
    def speed(self) -> float:
        return self.images / (time.monotonic() - self._start)
