"""The training step on a GPU: CUDA graphs, share of peak FLOP/s, the tutorial."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from benchmarks.harness import SHARED_FACES, Line, Skipped, compare, seconds
from benchmarks.photographs import enlarge, write_many
from benchmarks.training import FACES, params, preset, share_of_peak
from benchmarks.tutorial import BATCH, SIZE, STEPS, tutorials
from facegan.data.batches import Batches
from facegan.train.gan_state import GANState

CELEBA = 202_599
BATCHES = 16, 64, 256
# Of 12 steps each; a whole epoch of the tutorial would take too long.
TUTORIAL_ROUNDS = 8


def run() -> Iterator[Line]:
    if not torch.cuda.is_available():
        raise Skipped("needs a GPU with CUDA")
    if not SHARED_FACES.exists():
        raise Skipped(f"{SHARED_FACES}: not found; needed for its photographs")
    for batch in BATCHES:
        yield _captured(batch)
    for batch in BATCHES:
        yield share_of_peak(batch, side=8192, repeats=50)
    with TemporaryDirectory() as folder:
        write_many(partial(enlarge, Path(folder) / "jpeg" / "faces"), FACES)
        yield _epoch(Path(folder) / "jpeg")


def _steps(batch: int, captured: bool) -> Callable[[], None]:
    """200 steps of the preset celeba64."""
    device = torch.device("cuda")
    chosen = preset("celeba64").train.model_copy(update={"batch_size": batch})
    gan = GANState(chosen, SIZE, 3, 0, device)
    if not captured:
        gan.step_functions = {flag: partial(gan._step, flag) for flag in (False, True)}
    images = _random(batch)

    def work() -> None:
        for _ in range(200):
            metrics = gan.train_step(images)
        metrics.tolist()  # synchronises

    work()
    return work


def _random(count: int) -> Tensor:
    return torch.randint(0, 256, (count, SIZE, SIZE, 3), dtype=torch.uint8, device="cuda")


def _captured(batch: int) -> Line:
    name = f"200 steps of celeba64, batch {batch}, as a CUDA graph, against eager"
    return compare(name, _steps(batch, True), _steps(batch, False), 1)


def _epoch(jpeg: Path) -> Line:
    """DCGAN's epoch, because that is the tutorial's network."""
    device = torch.device("cuda")
    gan = GANState(params().train, SIZE, 3, 0, device)
    batches = Batches(_random(CELEBA), BATCH, 0, device)
    for _ in range(STEPS):
        gan.train_step(next(batches))

    def epoch() -> None:
        for _ in range(CELEBA // BATCH):
            metrics = gan.train_step(next(batches))
        metrics.tolist()  # synchronises

    ours = seconds(epoch)
    with tutorials(jpeg) as theirs:
        part = seconds(lambda: [theirs() for _ in range(TUTORIAL_ROUNDS)])
    baseline = part * CELEBA / (TUTORIAL_ROUNDS * STEPS * BATCH)
    return Line(
        f"an epoch of {CELEBA:,} images, DCGAN-{SIZE}, batch {BATCH}, against the tutorial's, "
        "extrapolated from a part",
        f"{ours:.1f} s", f"{baseline:.0f} s", f"{baseline / ours:.1f}x", "-", True,
    )  # fmt: skip
