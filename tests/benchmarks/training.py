"""The training step, against the loop that everybody starts from."""

import dataclasses
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness import SHARED_FACES, Line, Skipped, compare, cpu_flags, seconds, timing
from benchmarks.photographs import celeba64, enlarge, pack, write_many
from benchmarks.tutorial import BATCH, SIZE, STEPS, tutorials
from facegan.cli.device import choose_device, keep_freed_memory
from facegan.core.events import silent
from facegan.data.batches import Batches, to_device_if_fits
from facegan.data.dataset import load_images
from facegan.models import convolution
from facegan.params import Dtype, Params, load_params
from facegan.reference.stage import reference
from facegan.runtime.autocast import effective_dtype
from facegan.train import trainer
from facegan.train.gan_state import GANState
from facegan.train.monitor import Monitor
from facegan.train.run_folder import RunFolder
from facegan.train.stage import train

FACES = 1_500
# Of a run whose time is looked at: checkpoints and samples are far rarer in a preset's.
OFTEN = {"epochs": 3, "eval_interval": 2000, "quick_num_samples": 500}
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
        has_amx = "amx_bf16" in cpu_flags()
        yield _speed(work, _precision(), 10 if has_amx else 1.2)
        yield _multiplied(work)
        if has_amx:
            yield _without_amx(work)
        yield _in_two_processes()
        yield share_of_peak()
        yield from _besides_the_step(work)


def params() -> Params:
    """DCGAN, as the tutorial has it, in the precision that the machine has."""
    paper = preset("dcgan-paper")
    changes = {"base_channels": 64, "batch_size": BATCH, "dtype": _precision()}
    return paper.model_copy(update={"train": paper.train.model_copy(update=changes)})


def preset(name: str) -> Params:
    with resources.as_file(resources.files("facegan") / "presets" / f"{name}.yaml") as path:
        return load_params(path)


def _precision() -> Dtype:
    return effective_dtype("bfloat16", choose_device(), silent)


def _ours(packed: Path, precision: str) -> Callable[[], None]:
    device = choose_device()
    keep_freed_memory()
    chosen = params().train.model_copy(update={"dtype": precision})
    trainer = GANState(chosen, SIZE, 3, 0, device)
    batches = Batches(to_device_if_fits(load_images(packed), device), BATCH, 0, device)

    def work() -> None:
        for _ in range(STEPS):
            figures = trainer.train_step(next(batches))
        figures.tolist()  # waits for the device

    return work


def _speed(work: Path, precision: str, at_least: float) -> Line:
    ours = _ours(work / "packed", precision)
    ours()
    name = f"{STEPS} steps of DCGAN-{SIZE}, batch {BATCH}, {precision}, against the tutorial's loop"
    with tutorials(work / "jpeg") as theirs:
        return compare(name, ours, theirs, at_least, ROUNDS)


def _multiplied(work: Path) -> Line:
    ours = _ours(work / "packed", _precision())

    def convolved() -> None:
        with mock.patch.object(convolution, "SMALL", 0):
            ours()

    for each in (ours, convolved):
        each()
    name = f"{STEPS} steps, {_precision()}, convolutions of 4x4 maps multiplied, against oneDNN's"
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
from benchmarks.training import params
from benchmarks.tutorial import BATCH, SIZE, STEPS
from facegan.runtime.distributed import process_group
from facegan.train.gan_state import GANState
device = torch.device("cpu")
with process_group(device) as group:
    settings = params().train.model_copy(update={"batch_size": BATCH * group.size})
    trainer = GANState(settings, SIZE, 3, 0, device, group)
    images = torch.randint(0, 256, (BATCH, SIZE, SIZE, 3), dtype=torch.uint8)
    trainer.train_step(images)
    began = time.perf_counter()
    for _ in range(STEPS):
        trainer.train_step(images).tolist()
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


def share_of_peak(batch: int = BATCH, side: int = 4096, repeats: int = 1) -> Line:
    """DCGAN's step against a product of matrices of `side`, each `repeats` times in a row."""
    precision, device = _precision(), choose_device()
    keep_freed_memory()
    settings = params().train.model_copy(update={"batch_size": batch})
    trainer = GANState(settings, SIZE, 3, 0, device)
    images = torch.randint(0, 256, (batch, SIZE, SIZE, 3), dtype=torch.uint8, device=device)
    for _ in range(WARM_UP):
        trainer.train_step(images)
    with FlopCounterMode(display=False) as counter:
        trainer.train_step(images)
    matrix = torch.randn(side, side, device=device, dtype=getattr(torch, precision))

    def steps() -> None:
        for _ in range(repeats):
            figures = trainer.train_step(images)
        figures.tolist()  # waits for the device

    def products() -> None:
        for _ in range(repeats):
            product = matrix @ matrix
        float(product[0, 0])

    # The least time of each: what comes between only makes it longer.
    step, product = (min(seconds(work) for _ in range(5)) / repeats for work in (steps, products))
    reached, peak = counter.get_total_flops() / step, 2 * side**3 / product
    return Line(
        f"floating-point operations a second in the step, batch {batch}, against a large "
        f"{precision} matmul's",
        f"{reached / 1e9:.0f} G", f"{peak / 1e9:.0f} G", f"{reached / peak:.0%}", "-", True,
    )  # fmt: skip


def _besides_the_step(work: Path) -> Iterator[Line]:
    """A run with checkpoints and samples far more often than its preset has them, and what of that
    an interval of the preset's comes to."""
    chosen = preset("celeba64")
    settings = chosen.train.model_copy(update=OFTEN)
    quick, official = work / "quick.safetensors", work / "official.safetensors"
    reference(work / "packed", quick, official, chosen.reference, choose_device())
    places = work / "packed", quick, work / "out"
    watched = (
        (trainer.Trainer, "run"),
        (trainer.Trainer, "_log_losses"),
        (GANState, "train_step"),
        (Monitor, "quick_fid"),
    )
    with timing(*watched, (RunFolder, "save")) as spent:
        train(*places, settings, 0, choose_device(), work / "checkpoints")
    # The first score and the first checkpoint come before `go`.
    stepping, records, saves = spent["train_step"], spent["_log_losses"], spent["save"][1:]
    whole = sum(spent["run"]) - sum(spent["quick_fid"][1:])
    rest = whole - sum(stepping)
    yield Line(
        f"celeba64, time outside the step, eval_interval {settings.eval_interval:,}, no quick FIDs",
        f"{rest:.1f} s", f"{whole:.1f} s", f"{rest / whole:.1%}", "-", True,
    )  # fmt: skip
    steps = chosen.train.eval_interval / settings.batch_size
    always = steps * (rest - sum(records) - sum(saves)) / len(stepping)
    saving = statistics.fmean(saves)
    rest = always + trainer.RECORDS * statistics.fmean(records) + saving
    whole = steps * statistics.fmean(stepping) + rest
    parts = ("time outside the step", rest, 3), ("of that, checkpoints", saving, 2)
    for name, part, at_most in parts:
        yield Line(
            f"{name}, estimated for the preset at {chosen.train.eval_interval:,}",
            f"{part:.1f} s", f"{whole:.0f} s", f"{part / whole:.2%}", f"< {at_most}%",
            part / whole < at_most / 100,
        )  # fmt: skip
