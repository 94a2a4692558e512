"""Drawing: faces per second against the plain network, writing them, and the first face's wait."""

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import yaml

from benchmarks.harness import Line, compare, seconds
from facegan.cli.device import keep_freed_memory
from facegan.core.events import silent
from facegan.models.architectures import build_generator, initialise
from facegan.models.files import save_network
from facegan.params import Params, preset_text, validated
from facegan.sample.latents import latents
from facegan.sample.renderer import BATCH, Renderer
from facegan.sample.writing import Output, Pixels

PRESET, FACES, ROUNDS = "celeba64", 2000, 5
CONFIG_KEYS = ("architecture", "latent_dim", "base_channels")
FIRST_FACE = 3.0  # seconds


def run() -> Iterator[Line]:
    keep_freed_memory()
    params = _preset()
    config = {key: getattr(params.train, key) for key in CONFIG_KEYS}
    config |= {"size": params.preprocess.resolution, "channels": params.preprocess.channels}
    network = build_generator(**config).eval()
    initialise(config["architecture"], network, torch.Generator().manual_seed(0))
    render, seeds = Renderer(network), list(range(FACES))

    def draw() -> list[Pixels]:
        return list(render(latents(seeds, network.latent_dim)))

    def plain() -> None:
        with torch.no_grad():
            for batch in latents(seeds, network.latent_dim).split(BATCH):
                network(batch)

    render_s = statistics.median(seconds(draw) for _ in range(3))
    name = f"{FACES:,} images of {PRESET}, {render.dtype}, against the float32 network"
    yield compare(name, draw, plain, 4.0, ROUNDS)
    rate = FACES / render_s
    yield Line("images/s", f"{rate:.0f}", "", f"{rate:.0f}", ">= 1000", rate >= 1000)
    with TemporaryDirectory() as folder:
        yield from _writing(draw(), render_s, Path(folder))
        save_network(network.state_dict(), config, Path(folder) / "generator.safetensors")
        yield _first_face(Path(folder))


def _preset() -> Params:
    return validated(yaml.safe_load(preset_text(PRESET)))


def _writing(batches: list[Pixels], render_s: float, folder: Path) -> Iterator[Line]:
    for name in ("faces.zip", "faces.npy"):
        output = Output(str(folder / name), list(range(FACES)), None, False)
        write_s = seconds(lambda: output.write(iter(batches), lambda _: {}, "", silent))  # noqa: B023
        share = write_s / render_s
        yield Line(
            f"writing {name}, against generating", f"{write_s:.2f} s", f"{render_s:.2f} s",
            f"{share:.0%}", "<= 100%", share <= 1,
        )  # fmt: skip


def _first_face(folder: Path) -> Line:
    command = [sys.executable, "-m", "facegan", "sample", "generator.safetensors", "face.png"]
    environment = os.environ | {"FACEGAN_DEVICE": "cpu"}

    def work() -> None:
        subprocess.run([*command, "--count", "1"], cwd=folder, env=environment, check=True)

    work()  # files into the page cache
    wait = statistics.median(seconds(work) for _ in range(ROUNDS))
    text = f"{wait:.1f} s"
    return Line(
        "first face of a file, process included", text, "", text, f"<= {FIRST_FACE:g} s",
        wait <= FIRST_FACE,
    )  # fmt: skip
