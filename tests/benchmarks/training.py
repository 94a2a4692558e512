"""The training step, against the loop that everybody starts from."""

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from torchvision import datasets, transforms

from benchmarks.harness import SHARED_FACES, Line, Skipped, compare, seconds
from benchmarks.photographs import celeba64, enlarge, pack, write_many
from facegan import loop
from facegan.dataset import Batches, load_images, place
from facegan.device import choose_device
from facegan.judge import Judge
from facegan.models import convolution
from facegan.params import Params, load_params
from facegan.reference import reference
from facegan.train import train
from facegan.trainer import Trainer
from facegan.trainings import Training

# More steps than the 4 batches that the tutorial's loader fetches ahead while we have our turn.
FACES, SIZE, BATCH, STEPS = 1_500, 64, 64, 12
ROUNDS = 3
# Steps that are not timed: allocators, oneDNN's kernels and data-loader workers get ready.
WARM_UP = 2


def run() -> Iterator[Line]:
    """Speed with and without AMX and in two processes, what multiplying small maps brings, the
    share of the peak, and what a run does besides its steps."""
    if not SHARED_FACES.exists():
        raise Skipped(f"{SHARED_FACES} is not there; it has the photographs")
    with TemporaryDirectory() as folder:
        work = Path(folder)
        write_many(partial(enlarge, work / "jpeg" / "faces"), FACES)
        pack(work / "jpeg", work / "packed", celeba64())
        yield _speed(work, "bfloat16", 10)
        yield _multiplied(work)
        yield _without_amx(work)
        yield _in_two_processes()
        yield _share_of_peak()
        yield from _besides_the_step(work)


def params() -> Params:
    """DCGAN, as the tutorial has it."""
    paper = preset("dcgan-paper")
    changes = {"width": 64, "batch_size": BATCH, "epochs": 6, "interval": 4000, "quick_fakes": 500}
    return paper.model_copy(update={"train": paper.train.model_copy(update=changes)})


def preset(name: str) -> Params:
    with resources.as_file(resources.files("facegan") / "presets" / f"{name}.yaml") as path:
        return load_params(path)


def _ours(packed: Path, precision: str) -> Callable[[], None]:
    device = choose_device()
    chosen = params().train.model_copy(update={"precision": precision})
    trainer = Trainer(chosen, SIZE, 3, 0, device)
    batches = Batches(place(load_images(packed), device), BATCH, 0, device)

    def work() -> None:
        for _ in range(STEPS):
            figures = trainer.step(next(batches))
        figures.tolist()  # waits for the device

    return work


def tutorials(jpeg: Path) -> Callable[[], None]:
    """float32, photographs decoded anew each epoch, every figure fetched at every step."""
    steps = [transforms.Resize(SIZE), transforms.CenterCrop(SIZE), transforms.ToTensor()]
    half = (0.5, 0.5, 0.5)
    images = datasets.ImageFolder(
        str(jpeg), transforms.Compose([*steps, transforms.Normalize(half, half)])
    )
    loader = DataLoader(images, BATCH, shuffle=True, num_workers=2, drop_last=True)
    device = choose_device()
    generator, discriminator = (network.to(device) for network in _tutorial_networks())
    rule = partial(torch.optim.Adam, lr=0.0002, betas=(0.5, 0.999))
    optimizers = rule(generator.parameters()), rule(discriminator.parameters())
    batches = _forever(loader)

    def work() -> None:
        for _ in range(STEPS):
            _tutorial_step(next(batches).to(device), generator, discriminator, *optimizers)

    return work


def _tutorial_networks() -> tuple[nn.Module, nn.Module]:
    """DCGAN out of torch's own layers, for latents (n, 100, 1, 1) and images of 64 pixels."""
    up, down = partial(nn.ConvTranspose2d, bias=False), partial(nn.Conv2d, bias=False)
    generator = [up(100, 512, 4), nn.BatchNorm2d(512), nn.ReLU(True)]
    discriminator = [down(3, 64, 4, 2, 1), nn.LeakyReLU(0.2, True)]
    for width in (64, 128, 256):
        discriminator += [down(width, 2 * width, 4, 2, 1), nn.BatchNorm2d(2 * width)]
        discriminator += [nn.LeakyReLU(0.2, True)]
    for width in (512, 256, 128):
        generator += [up(width, width // 2, 4, 2, 1), nn.BatchNorm2d(width // 2), nn.ReLU(True)]
    last = [down(512, 1, 4), nn.Flatten(0)]
    networks = [*generator, up(64, 3, 4, 2, 1), nn.Tanh()], [*discriminator, *last]
    return nn.Sequential(*networks[0]), nn.Sequential(*networks[1])


def _forever(loader: DataLoader[tuple[Tensor, Tensor]]) -> Iterator[Tensor]:
    while True:
        for images, _ in loader:
            yield images


def _tutorial_step(
    real: Tensor,
    generator: nn.Module,
    discriminator: nn.Module,
    generator_optimizer: torch.optim.Optimizer,
    discriminator_optimizer: torch.optim.Optimizer,
) -> list[float]:
    ones, zeros = torch.ones(len(real)), torch.zeros(len(real))
    figures = []
    discriminator_optimizer.zero_grad()
    logits = discriminator(real)
    loss = binary_cross_entropy_with_logits(logits, ones.to(real.device))
    loss.backward()
    figures += [loss.item(), logits.sigmoid().mean().item()]
    fake = generator(torch.randn(len(real), 100, 1, 1, device=real.device))
    logits = discriminator(fake.detach())
    loss = binary_cross_entropy_with_logits(logits, zeros.to(real.device))
    loss.backward()
    figures += [loss.item(), logits.sigmoid().mean().item()]
    discriminator_optimizer.step()
    generator_optimizer.zero_grad()
    logits = discriminator(fake)
    loss = binary_cross_entropy_with_logits(logits, ones.to(real.device))
    loss.backward()
    figures += [loss.item(), logits.sigmoid().mean().item()]
    generator_optimizer.step()
    return figures


def _speed(work: Path, precision: str, at_least: float) -> Line:
    ours, theirs = _ours(work / "packed", precision), tutorials(work / "jpeg")
    for each in (ours, theirs):
        each()
    name = f"{STEPS} steps of DCGAN-{SIZE}, batch {BATCH}, {precision}, against the tutorial's loop"
    return compare(name, ours, theirs, at_least, ROUNDS)


def _multiplied(work: Path) -> Line:
    ours = _ours(work / "packed", "bfloat16")

    def convolved() -> None:
        with mock.patch.object(convolution, "SMALL", 0):
            ours()

    for each in (ours, convolved):
        each()
    name = f"{STEPS} steps, convolutions of 4x4 maps multiplied, against oneDNN's"
    return compare(name, ours, convolved, 1, ROUNDS)


def _without_amx(work: Path) -> Line:
    """In a process of its own, because oneDNN chooses its instructions once."""
    program = (
        "import dataclasses, json; from pathlib import Path; "
        "from benchmarks.training import _speed; "
        f"print(json.dumps(dataclasses.asdict(_speed(Path({str(work)!r}), 'float32', 1.2))))"
    )
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}
    line = Line(**json.loads(_last_line([sys.executable, "-c", program], environment)))
    return dataclasses.replace(line, name=f"{line.name}, without AMX")


def _last_line(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.splitlines()[-1]


# Images a second of the processes that torchrun starts, each with as many images in a step.
STEPS_PROGRAM = """
import time, torch
from benchmarks.training import BATCH, SIZE, STEPS, params
from facegan.distributed import joined
from facegan.trainer import Trainer
device = torch.device("cpu")
with joined(device) as group:
    settings = params().train.model_copy(update={"batch_size": BATCH * group.size})
    trainer = Trainer(settings, SIZE, 3, 0, device, group)
    images = torch.randint(0, 256, (BATCH, SIZE, SIZE, 3), dtype=torch.uint8)
    trainer.step(images)
    began = time.perf_counter()
    for _ in range(STEPS):
        trainer.step(images).tolist()
    if group.rank == 0:
        print(BATCH * group.size * STEPS / (time.perf_counter() - began))
"""


def _in_two_processes() -> Line:
    """Weak scaling: twice the batch in two processes of one thread, against one such process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def speed(processes: int) -> float:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        program = [f"--nproc-per-node={processes}", "--no-python", sys.executable, "-c"]
        return float(_last_line([*launcher, *program, STEPS_PROGRAM], environment))

    pairs = [(speed(2), speed(1)) for _ in range(ROUNDS)]
    two, one = (statistics.median(speeds) for speeds in zip(*pairs, strict=True))
    efficiency = statistics.median(both / (2 * alone) for both, alone in pairs)
    return Line(
        "images/s in two processes of one thread, against twice one's",
        f"{two:.0f}", f"{2 * one:.0f}", f"{efficiency:.0%}", "-", True,
    )  # fmt: skip


def _share_of_peak() -> Line:
    trainer = Trainer(params().train, SIZE, 3, 0, choose_device())
    images = torch.randint(0, 256, (BATCH, SIZE, SIZE, 3), dtype=torch.uint8, device=trainer.device)
    for _ in range(WARM_UP):
        trainer.step(images)
    with FlopCounterMode(display=False) as counter:
        trainer.step(images)
    step = min(seconds(lambda: trainer.step(images).tolist()) for _ in range(5))
    matrix = torch.randn(4096, 4096, device=trainer.device).bfloat16()
    peak = 2 * 4096**3 / min(seconds(lambda: float((matrix @ matrix)[0, 0])) for _ in range(5))
    reached = counter.get_total_flops() / step
    return Line(
        "floating-point operations a second in the step, against a large bf16 matmul's",
        f"{reached / 1e9:.0f} G", f"{peak / 1e9:.0f} G", f"{reached / peak:.0%}", "-", True,
    )  # fmt: skip


def _besides_the_step(work: Path) -> Iterator[Line]:
    """A run with three scores, and so checkpoints far more often than a preset has them."""
    settings = params()
    quick, official = work / "quick.safetensors", work / "official.safetensors"
    reference(work / "packed", quick, official, settings.reference, choose_device())
    spent: dict[str, float] = {}
    with _timing(spent):
        train(
            work / "packed", quick, work / "out", settings.train, 0, choose_device(),
            work / "checkpoints",
        )  # fmt: skip
    whole = spent["Loop.go"] - spent["Judge.quick_fid"]
    rest, saving = 1 - spent["Trainer.step"] / whole, spent["Training.save"] / whole
    yield Line(
        f"time outside the step at an interval of {settings.train.interval:,}, but for quick FIDs",
        f"{rest * whole:.1f} s", f"{whole:.1f} s", f"{rest:.1%}", "-", True,
    )  # fmt: skip
    yield Line(
        "of that, checkpoints",
        f"{spent['Training.save']:.1f} s", f"{whole:.1f} s", f"{saving:.1%}", "< 2%", saving < 0.02,
    )  # fmt: skip


@contextmanager
def _timing(spent: dict[str, float]) -> Iterator[None]:
    """Adds up the seconds in these methods, in `spent`."""
    owners = (loop.Loop, "go"), (Trainer, "step"), (Judge, "quick_fid"), (Training, "save")
    methods = {(owner, name): getattr(owner, name) for owner, name in owners}
    for (owner, name), method in methods.items():
        setattr(owner, name, _timed(method, f"{owner.__name__}.{name}", spent))
    try:
        yield
    finally:
        for (owner, name), method in methods.items():
            setattr(owner, name, method)


def _timed(method: Callable[..., Any], name: str, spent: dict[str, float]) -> Callable[..., Any]:
    spent[name] = 0.0

    def call(*arguments: Any) -> Any:
        began = time.perf_counter()
        result = method(*arguments)
        if isinstance(result, Tensor):
            result.tolist()  # waits for the device
        spent[name] += time.perf_counter() - began
        return result

    return call
