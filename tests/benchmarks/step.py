"""What bounds the training step: images per second, share of the matrix peak, time by kernel.

    python -m benchmarks.step PRESET [train.KEY=VALUE ...]

One row for each combination of comma-separated values: `train.batch_size=64,128`. The counted
operations are those of steps without penalty, so the share is a lower bound.
"""

import itertools
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial

import torch
import yaml
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness import seconds
from facegan.cli.device import choose_device, keep_freed_memory
from facegan.params import Params, preset_text, validated
from facegan.train.cuda_graphs import WARM_UP
from facegan.train.gan_state import GANState

SECONDS = 2.0
# Of the matrix product whose rate counts as the peak.
SIDE, PRODUCTS = 8192, 20
KINDS = {
    "convolutions and products": ("conv", "gemm", "cudnn", "cutlass", "xmma", "wgrad", "dgrad"),
    "optimizer and EMA": ("multi_tensor", "fused_adam", "foreach"),
    "reductions": ("reduce", "norm", "welford"),
    "copies and casts": ("copy", "memcpy", "cat", "nchw", "nhwc", "transpose"),
    "element by element": ("elementwise", "fill", "where"),
}
TOP = 8


def main(preset: str, *settings: str) -> None:
    """Print a table, and then the kernels of its last row."""
    keep_freed_memory()
    peak = _peak()
    print(f"peak: {peak / 1e12:.0f} TFLOP/s, {_name()}, torch {torch.__version__}", flush=True)
    print("| settings | images/s | ms per step | TFLOP/s | share of peak | GB |")
    print("|---|---|---|---|---|---|", flush=True)
    for name, params in variants(preset, settings):
        gan, row = _measure(params, peak)
        print(f"| {name} | {row} |", flush=True)
    _print_kernels(gan, _images(params, gan.device))


def variants(preset: str, settings: tuple[str, ...]) -> Iterator[tuple[str, Params]]:
    """Names and parameters of all combinations of `KEY=VALUE,VALUE` settings.

    Raises:
        FaceganError: if a key or a value is not valid.
    """
    keys = [setting.split("=", 1)[0] for setting in settings]
    values = [setting.split("=", 1)[1].split(",") for setting in settings]
    for chosen in itertools.product(*values):
        content = yaml.safe_load(preset_text(preset))
        for key, value in zip(keys, chosen, strict=True):
            section, name = key.split(".")
            content[section][name] = yaml.safe_load(value)
        pairs = zip(keys, chosen, strict=True)
        yield " ".join(f"{key}={value}" for key, value in pairs) or preset, validated(content)


def _name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def _peak() -> float:
    """FLOP/s of a large matrix product in bfloat16."""
    device = choose_device()
    side, count = (SIDE, PRODUCTS) if device.type == "cuda" else (1024, 1)
    matrix = torch.randn(side, side, device=device, dtype=torch.bfloat16)

    def products() -> None:
        for _ in range(count):
            product = matrix @ matrix
        float(product[0, 0])

    products()
    return 2 * side**3 * count / min(seconds(products) for _ in range(3))


def _images(params: Params, device: torch.device) -> torch.Tensor:
    size, channels = params.preprocess.resolution, params.preprocess.channels
    shape = params.train.batch_size, size, size, channels
    return torch.randint(0, 256, shape, dtype=torch.uint8, device=device)


def _gan(params: Params) -> GANState:
    size, channels = params.preprocess.resolution, params.preprocess.channels
    return GANState(params.train, size, channels, 0, choose_device())


def _measure(params: Params, peak: float) -> tuple[GANState, str]:
    images, interval = _images(params, choose_device()), params.train.lazy_reg_interval
    flop = _flop(partial(_gan(params)._step, False), images)
    gan = _gan(params)
    for _ in range((WARM_UP + 2) * interval):
        metrics = gan.train_step(images)
    metrics.tolist()  # synchronises
    steps, began = 0, time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        for _ in range(interval):
            metrics = gan.train_step(images)
        metrics.tolist()
        steps += interval
    step = (time.perf_counter() - began) / steps
    memory = torch.cuda.max_memory_reserved() / 1e9 if gan.device.type == "cuda" else 0
    rate = flop / step
    return gan, (
        f"{len(images) / step:,.0f} | {step * 1e3:.2f} | {rate / 1e12:.1f} | {rate / peak:.1%} | "
        f"{memory:.1f}"
    )


def _flop(step: partial[torch.Tensor], images: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        step(images)
    return int(counter.get_total_flops())


def _print_kernels(gan: GANState, images: torch.Tensor) -> None:
    """Device time of the last row's kernels, by kind and by name."""
    if gan.device.type != "cuda":
        return
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(2 * gan.params.lazy_reg_interval):
            metrics = gan.train_step(images)
        metrics.tolist()
    times, kinds = Counter[str](), Counter[str]()
    for event in profiler.key_averages():
        spent = event.self_device_time_total
        times[event.key] += spent
        kinds[_kind(event.key)] += spent
    total = sum(times.values()) or 1
    for title, counted in (("kind", kinds), ("kernel", times)):
        print(f"| {title} | share of device time |\n|---|---|")
        for name, spent in counted.most_common(TOP):
            print(f"| {name[:90]} | {spent / total:.1%} |", flush=True)


def _kind(kernel: str) -> str:
    lower = kernel.lower()
    return next((kind for kind, words in KINDS.items() if any(w in lower for w in words)), "other")


if __name__ == "__main__":
    main(*sys.argv[1:])
