"""What logging to MLflow takes from a training: CPU time of its child process and of the calls."""

import itertools
import os
import resource
import statistics
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest

from benchmarks.harness import SHARED_FACES, Line, Skipped, seconds, timing
from benchmarks.photographs import celeba64, enlarge, pack, write_many
from benchmarks.training import native_dtype, preset
from facegan.cli.device import choose_device, keep_freed_memory
from facegan.core.events import Event, Scored
from facegan.data.batches import Batches, to_device_if_fits
from facegan.data.dataset import load_images
from facegan.reference.stage import reference
from facegan.tracking.mirror import Mirror
from facegan.train.gan_state import GANState
from facegan.train.stage import train

FACES = 1_000
SHORT, LONG = 1, 6  # epochs
INTERVAL, SAMPLES = 300, 100  # images between scores, and of a score
CHANNELS = 4  # a small network: what is logged does not depend on it
STEPS = 8
PAUSE = 60.0  # seconds, in a third training
ROUNDS = 3
TRAINED_ON = 9_000  # photographs of the training whose share is extrapolated: a short one


class Spent(NamedTuple):
    """CPU seconds of logging, and how many scores were logged."""

    logging: float
    scores: int


def run() -> Iterator[Line]:
    """CPU seconds of a training's start and end, of a score and of a minute; their share."""
    if not SHARED_FACES.exists():
        raise Skipped(f"{SHARED_FACES}: not found; needed for its photographs")
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        work = Path(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{work}/mlflow.db")
        write_many(partial(enlarge, work / "jpeg" / "faces"), FACES)
        pack(work / "jpeg", work / "packed", celeba64())
        official = work / "official.safetensors"
        extractors = preset("celeba64").reference
        reference(
            work / "packed", work / "quick.safetensors", official, extractors, choose_device()
        )
        keep_freed_memory()
        seeds = itertools.count()  # MLflow continues the run of a training that is run again
        rounds = [
            (
                _training(work, next(seeds), SHORT),
                _training(work, next(seeds), LONG),
                _training(work, next(seeds), SHORT, PAUSE),
            )
            for _ in range(ROUNDS)
        ]
        yield from _lines(rounds, _step(work))


def _step(work: Path) -> float:
    """Seconds of a step of the preset."""
    settings = preset("celeba64").train.model_copy(update={"dtype": native_dtype()})
    device = choose_device()
    gan = GANState(settings, 64, 3, 0, device)
    images = to_device_if_fits(load_images(work / "packed"), device)
    batches = Batches(images, settings.batch_size, 0, device)
    times = [seconds(lambda: gan.train_step(next(batches)).tolist()) for _ in range(STEPS)]
    return statistics.fmean(times[settings.lazy_reg_interval :])  # each with its share of penalties


def _lines(rounds: list[tuple[Spent, Spent, Spent]], step: float) -> Iterator[Line]:
    few, many = rounds[0][0].scores, rounds[0][1].scores
    least = statistics.median(short.logging for short, _, _ in rounds)
    score = statistics.median(b.logging - a.logging for a, b, _ in rounds) / (many - few)
    second = statistics.median(c.logging - a.logging for a, _, c in rounds) / PAUSE
    yield Line(f"logging, CPU time with {few} scores", f"{least:.1f} s", "", "", "-", True)
    yield Line("of one more score", f"{score:.2f} s", "", "", "-", True)
    yield Line("of one more minute", f"{60 * second:.2f} s", "", "", "-", True)
    settings = preset("celeba64").train
    images = settings.epochs * TRAINED_ON
    training = step * images / settings.batch_size
    logging = least + (images / settings.eval_interval + 1 - few) * score + training * second
    cpu = training * (os.cpu_count() or 1)
    yield Line(
        f"its share of celeba64, {settings.epochs} epochs of {TRAINED_ON:,} photographs, reckoned",
        f"{logging:.0f} s", f"{cpu:.0f} s", f"{logging / cpu:.2%}", "< 1%", logging < 0.01 * cpu,
    )  # fmt: skip


def _training(work: Path, seed: int, epochs: int, pause: float = 0.0) -> Spent:
    """Train and log.

    Args:
        pause: seconds that the second score takes longer.
    """
    changes: dict[str, object] = {"epochs": epochs, "eval_interval": INTERVAL}
    changes |= {"quick_num_samples": SAMPLES, "base_channels": CHANNELS, "dtype": "float32"}
    settings = preset("celeba64").train.model_copy(update=changes)
    scores = []

    def count(event: Event) -> None:
        if isinstance(event, Scored):
            scores.append(event)
            time.sleep(pause if len(scores) == 2 else 0)  # the child runs since the first

    with TemporaryDirectory(dir=work) as folder:
        paths = work / "packed", work / "quick.safetensors", Path(folder, "out")
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        with timing((Mirror, "__call__")) as spent, Mirror("benchmark", count) as mirror:
            train(*paths, settings, seed, choose_device(), Path(folder, "checkpoints"), mirror)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    child = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Spent(child + sum(spent["__call__"]) - pause, len(scores))
