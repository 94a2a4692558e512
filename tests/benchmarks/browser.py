"""The exported page: its size, and how fast it draws on one core in Chromium."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.harness import Line, Skipped
from benchmarks.training import preset
from browser import chromium, python_server
from facegan.core.errors import FaceganError
from facegan.core.events import silent
from facegan.export import folder
from facegan.models.architectures import build_generator, initialise
from facegan.sample.opening import Opened

PRESETS = {"celeba64": (25.0, 20.0), "digits": (25.0, 20.0)}  # MB at most, images/s at least
# One image after the other by a worker of the page's own, as the page draws them.
MEASURE = """async ([warm, count]) => {
  const worker = new Worker("worker.js", { type: "module" });
  const answer = () => new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => {
      if (data.error) reject(data.error);
      if (data.ready || data.pixels) resolve(data);
    };
  });
  await answer();
  const { randn } = await import("./latents.js");
  const { latent_dim } = await (await fetch("generator.json")).json();
  let begin;
  for (let seed = -warm; seed < count; seed++) {
    if (seed === 0) begin = performance.now();
    const drawn = answer();
    worker.postMessage({ z: randn(seed >>> 0, latent_dim) });
    await drawn;
  }
  return 1000 * count / (performance.now() - begin);
}"""
WARM, COUNT, ROUNDS = 5, 60, 3


def run() -> Iterator[Line]:
    try:
        folder.require()
    except FaceganError as error:
        raise Skipped(str(error)) from None
    for name, limits in PRESETS.items():
        with TemporaryDirectory() as place, one_core():
            yield from _measure(name, *limits, Path(place) / "page")


@contextmanager
def one_core() -> Iterator[None]:
    """This process, and those that it starts, on one core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def _measure(name: str, megabytes: float, rate: float, out: Path) -> Iterator[Line]:
    params = preset(name)
    train, pixels = params.train, params.preprocess
    network = build_generator(
        train.architecture, size=pixels.resolution, channels=pixels.channels,
        latent_dim=train.latent_dim, base_channels=train.base_channels,
    )  # fmt: skip
    initialise(train.architecture, network, torch.Generator().manual_seed(0))
    folder.export(Opened(network.eval(), "0" * 64), out, silent)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / 1e6
    yield Line(f"{name}: page", f"{size:.1f} MB", "", "", f"<= {megabytes:g} MB", size <= megabytes)
    with python_server(out) as address, chromium() as browser:
        page = browser.new_page()
        page.goto(address)
        page.locator("#random-faces button:last-child[data-drawn]").wait_for(timeout=120_000)
        rates = sorted(page.evaluate(MEASURE, [WARM, COUNT]) for _ in range(ROUNDS))
    median = rates[ROUNDS // 2]
    rounds = " ".join(f"{value:.0f}" for value in rates)
    yield Line(
        f"{name}: drawing, one core, WebAssembly", f"{median:.0f}/s", "", f"{rounds} /s",
        f">= {rate:g}/s", median >= rate,
    )  # fmt: skip
