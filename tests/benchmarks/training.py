"""The training step, against PyTorch's DCGAN tutorial."""

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
# For the profiled run; a preset has checkpoints and samples far less often.
OFTEN = {"epochs": 3, "eval_interval": 2000, "quick_num_samples": 500}
ROUNDS = 3
# Untimed steps: allocators, oneDNN's kernels and data-loader workers warm up.
WARM_UP = 2


def run() -> Iterator[Line]:
    """Throughput with and without AMX and in two processes, small convolutions as products, share
    of peak FLOP/s, and time outside the step."""
    if not SHARED_FACES.exists():
        raise Skipped(f"{SHARED_FACES}: not found; needed for its photographs")
    with TemporaryDirectory() as folder:
        work = Path(folder)
        write_many(partial(enlarge, work / "jpeg" / "faces"), FACES)
        pack(work / "jpeg", work / "packed", celeba64())
        has_amx = "amx_bf16" in cpu_flags()
        yield _speed(work, native_dtype(), 10 if has_amx else 1.2)
        yield _multiplied(work)
        if has_amx:
            yield _without_amx(work)
        yield _in_two_processes()
        yield share_of_peak()
        yield from _besides_the_step(work)


def params() -> Params:
    """The tutorial's DCGAN, in the machine's native dtype."""
    paper = preset("dcgan-paper")
    changes = {"base_channels": 64, "batch_size": BATCH, "dtype": native_dtype()}
    return paper.model_copy(update={"train": paper.train.model_copy(update=changes)})


def preset(name: str) -> Params:
    with resources.as_file(resources.files("facegan") / "presets" / f"{name}.yaml") as path:
        return load_params(path)


def native_dtype() -> Dtype:
    return effective_dtype("bfloat16", choose_device(), silent)


def _ours(packed: Path, dtype: str) -> Callable[[], None]:
    device = choose_device()
    chosen = params().train.model_copy(update={"dtype": dtype})
    gan = GANState(chosen, SIZE, 3, 0, device)
    keep_freed_memory()
    batches = Batches(to_device_if_fits(load_images(packed), device), BATCH, 0, device)

    def work() -> None:
        for _ in range(STEPS):
            metrics = gan.train_step(next(batches))
        metrics.tolist()  # synchronises

    return work


def _speed(work: Path, dtype: str, at_least: float) -> Line:
    ours = _ours(work / "packed", dtype)
    ours()
    name = f"{STEPS} steps of DCGAN-{SIZE}, batch {BATCH}, {dtype}, against the tutorial's loop"
    with tutorials(work / "jpeg") as theirs:
        return compare(name, ours, theirs, at_least, ROUNDS)


def _multiplied(work: Path) -> Line:
    steps = _ours(work / "packed", native_dtype())

    def multiplied(products: bool) -> None:
        with mock.patch.object(convolution, "has_amx", lambda: products):
            steps()

    ours, convolved = partial(multiplied, True), partial(multiplied, False)
    for warm_up in (ours, convolved):
        warm_up()
    name = f"{STEPS} steps, {native_dtype()}, convolutions of 4x4 maps multiplied, against oneDNN's"
    # Without AMX, the products are not used.
    return compare(name, ours, convolved, 1 if convolution.has_amx() else 0, ROUNDS)


def _without_amx(work: Path) -> Line:
    """In a separate process, because oneDNN selects its instruction set once."""
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


# Images per second of the processes that torchrun starts, with BATCH images per step each.
STEPS_PROGRAM = """
import time, torch
from benchmarks.training import params
from benchmarks.tutorial import BATCH, SIZE, STEPS
from facegan.runtime.distributed import process_group
from facegan.train.gan_state import GANState
device = torch.device("cpu")
with process_group(device) as group:
    settings = params().train.model_copy(update={"batch_size": BATCH * group.size})
    gan = GANState(settings, SIZE, 3, 0, device, group)
    images = torch.randint(0, 256, (BATCH, SIZE, SIZE, 3), dtype=torch.uint8)
    gan.train_step(images)
    began = time.perf_counter()
    for _ in range(STEPS):
        gan.train_step(images).tolist()
    if group.rank == 0:
        print(BATCH * group.size * STEPS / (time.perf_counter() - began))
"""


def _in_two_processes() -> Line:
    """Weak scaling: two single-threaded processes with twice the batch, against one."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def speed(processes: int) -> float:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        program = [f"--nproc-per-node={processes}", "--no-python", sys.executable, "-c"]
        return float(_last_line([*launcher, *program, STEPS_PROGRAM], environment))

    pairs = [(speed(2), speed(1)) for _ in range(ROUNDS)]
    two, one = (statistics.median(speeds) for speeds in zip(*pairs, strict=True))
    efficiency = statistics.median(both / (2 * alone) for both, alone in pairs)
    return Line(
        "images/s in two single-threaded processes, against twice those of one",
        f"{two:.0f}", f"{2 * one:.0f}", f"{efficiency:.0%}", "-", True,
    )  # fmt: skip


def share_of_peak(batch: int = BATCH, side: int = 4096, repeats: int = 1) -> Line:
    """FLOP/s of DCGAN's step, against a matrix product of `side`; each `repeats` times in a row."""
    dtype, device = native_dtype(), choose_device()
    keep_freed_memory()
    settings = params().train.model_copy(update={"batch_size": batch})
    gan = GANState(settings, SIZE, 3, 0, device)
    images = torch.randint(0, 256, (batch, SIZE, SIZE, 3), dtype=torch.uint8, device=device)
    for _ in range(WARM_UP):
        gan.train_step(images)
    with FlopCounterMode(display=False) as counter:
        gan.train_step(images)
    matrix = torch.randn(side, side, device=device, dtype=getattr(torch, dtype))

    def steps() -> None:
        for _ in range(repeats):
            metrics = gan.train_step(images)
        metrics.tolist()  # synchronises

    def products() -> None:
        for _ in range(repeats):
            product = matrix @ matrix
        float(product[0, 0])

    # Minima, because interference only adds time.
    step, product = (min(seconds(work) for _ in range(5)) / repeats for work in (steps, products))
    reached, peak = counter.get_total_flops() / step, 2 * side**3 / product
    return Line(
        f"FLOP/s of the step, batch {batch}, against a large {dtype} matmul's",
        f"{reached / 1e9:.0f} G", f"{peak / 1e9:.0f} G", f"{reached / peak:.0%}", "-", True,
    )  # fmt: skip


def _besides_the_step(work: Path) -> Iterator[Line]:
    """Time outside the step: measured in a run with frequent checkpoints and samples, and estimated
    for an interval of the preset."""
    celeba = preset("celeba64")
    settings = celeba.train.model_copy(update=OFTEN)
    quick, official = work / "quick.safetensors", work / "official.safetensors"
    reference(work / "packed", quick, official, celeba.reference, choose_device())
    paths = work / "packed", quick, work / "out"
    watched = (
        (trainer.Trainer, "run"),
        (trainer.Trainer, "_log_losses"),
        (GANState, "train_step"),
        (Monitor, "quick_fid"),
    )
    with timing(*watched, (RunFolder, "save")) as spent:
        train(*paths, settings, 0, choose_device(), work / "checkpoints")
    # The first score and checkpoint precede `run`.
    stepping, records, saves = spent["train_step"], spent["_log_losses"], spent["save"][1:]
    whole = sum(spent["run"]) - sum(spent["quick_fid"][1:])
    rest = whole - sum(stepping)
    yield Line(
        f"celeba64, time outside the step, eval_interval {settings.eval_interval:,}, no quick FIDs",
        f"{rest:.1f} s", f"{whole:.1f} s", f"{rest / whole:.1%}", "-", True,
    )  # fmt: skip
    steps = celeba.train.eval_interval / settings.batch_size
    always = steps * (rest - sum(records) - sum(saves)) / len(stepping)
    saving = statistics.fmean(saves)
    rest = always + trainer.RECORDS * statistics.fmean(records) + saving
    whole = steps * statistics.fmean(stepping) + rest
    parts = ("time outside the step", rest, 3), ("of that, checkpoints", saving, 2)
    for name, part, at_most in parts:
        yield Line(
            f"{name}, estimated for the preset at {celeba.train.eval_interval:,}",
            f"{part:.1f} s", f"{whole:.0f} s", f"{part / whole:.2%}", f"< {at_most}%",
            part / whole < at_most / 100,
        )  # fmt: skip
