"""Photographs -> packed array, against what a user of torchvision would write."""

import io
import itertools
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from benchmarks.harness import SHARED_FACES, Line, Skipped, compare
from facegan.data.batches import Batches
from facegan.data.dataset import load_images
from facegan.params import Preprocess, load_params
from facegan.preprocess.stage import preprocess
from facegan.preprocess.workers import cores

FACES, LARGE, SIDE = 10_000, 240, 2000
MEMORY = (10_000, 100_000)
SIZE = 64


def run() -> Iterator[Line]:
    """Speed on CelebA's and on large photographs, memory, and reading back."""
    if not SHARED_FACES.exists():
        raise Skipped(f"{SHARED_FACES} is not there; it has the photographs")
    with TemporaryDirectory() as folder:
        work = Path(folder)
        yield from _celeba(work)
        yield from _large(work)
        yield from _memory(work)


def celeba64(**changes: object) -> Preprocess:
    with resources.as_file(resources.files("facegan") / "presets" / "celeba64.yaml") as path:
        params = load_params(path).preprocess
    return params.model_validate({**params.model_dump(), **changes})


def pack(data: Path, out: Path, params: Preprocess) -> None:
    shutil.rmtree(out, ignore_errors=True)
    preprocess(str(data), out, params)


def _image_folder(data: Path) -> DataLoader[tuple[torch.Tensor, torch.Tensor]]:
    steps = [transforms.Resize(SIZE), transforms.CenterCrop(SIZE), transforms.ToTensor()]
    images = datasets.ImageFolder(str(data), transforms.Compose(steps))
    return DataLoader(images, batch_size=128, num_workers=cores())


def _celeba(work: Path) -> Iterator[Line]:
    data, out = work / "celeba", work / "packed"
    write_many(partial(enlarge, data / "faces"), 2 * FACES)
    # torchvision's Resize is bilinear unless told otherwise.
    for choice, least in (("bilinear", 1.5), ("lanczos", 1.0)):
        yield compare(
            f"{2 * FACES:,} photographs of 178x218 => {SIZE}, {choice}, against ImageFolder",
            lambda choice=choice: pack(data, out, celeba64(resample=choice)),  # type: ignore[misc]
            lambda: torch.cat([images for images, _ in _image_folder(data)]),
            at_least=least,
        )
    images = load_images(out)
    batches = Batches(images, 128, seed=0)
    yield compare(
        "an epoch's batches from images.npy, against those from the JPEG folder",
        lambda: [float(x.sum()) for x in itertools.islice(batches, batches.steps_per_epoch)],
        lambda: [float(x.sum()) for x, _ in _image_folder(data)],
        at_least=20,
    )


def _large(work: Path) -> Iterator[Line]:
    data, outs = work / "large", {name: work / name for name in ("scaled", "full")}
    write_many(partial(_mosaic, data), LARGE)
    yield compare(
        f"{LARGE} photographs of {SIDE}x{SIDE} => {SIZE}, against full decoding",
        lambda: pack(data, outs["scaled"], celeba64(holdout=0.0)),
        lambda: pack(data, outs["full"], celeba64(holdout=0.0, jpeg="full")),
        at_least=4,
    )
    scaled, full = (np.load(out / "images.npy").astype(int) for out in outs.values())
    difference = np.abs(scaled - full).mean(axis=(1, 2, 3))
    worst = int(difference.argmax())
    name = sorted(path.name for path in data.iterdir())[worst]
    yield Line(
        "mean absolute difference to full decoding, in grey levels of 255",
        f"{difference.mean():.2f}",
        "0",
        f"worst {difference.max():.2f}: {name}",
        "mean < 1",
        bool(difference.mean() < 1),
    )


def _memory(work: Path) -> Iterator[Line]:
    data = work / "many"
    peaks = []
    for count in MEMORY:
        write_many(partial(_variants, data), count)
        peaks.append(_peak(data, work / "many packed"))
    small, large = peaks
    yield Line(
        "peak memory of all processes, {:,} and {:,} photographs".format(*MEMORY),
        f"{large / 1e6:.0f} MB",
        f"{small / 1e6:.0f} MB",
        f"{large / small:.2f}x",
        "<= 1.1x, < 1 GB",
        large <= 1.1 * small and large < 1e9,
    )


def _peak(data: Path, out: Path) -> int:
    """The highest sum of resident bytes of a preprocess command and its workers."""
    shutil.rmtree(out, ignore_errors=True)
    params = out.with_suffix(".yaml")
    preset = resources.files("facegan") / "presets" / "celeba64.yaml"
    params.write_text(preset.read_text("utf-8"), "utf-8")
    command = [sys.executable, "-m", "facegan", "preprocess", str(data), str(out)]
    process = subprocess.Popen([*command, "--params", str(params)], stderr=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        peak = max(peak, _resident(psutil.Process(process.pid)))
        time.sleep(0.05)
    assert process.returncode == 0
    return peak


def _resident(parent: psutil.Process) -> int:
    try:
        family = [parent, *parent.children(recursive=True)]
        return sum(int(each.memory_info().rss) for each in family)
    except psutil.NoSuchProcess:
        return 0


def write_many(make: partial[None], count: int) -> None:
    """Call `make(number)` for every number, on all cores."""
    Path(make.args[0]).mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(cores()) as pool:
        list(pool.map(make, range(count), chunksize=10))
    os.sync()  # or the disk is still at it while we measure


def _face(number: int) -> Image.Image:
    archive = _archive(os.getpid())
    names = archive.namelist()
    return Image.open(io.BytesIO(archive.read(names[number % len(names)])))


@cache
def _archive(process: int) -> zipfile.ZipFile:
    # One for a process: two that share a file handle move each other's position.
    return zipfile.ZipFile(SHARED_FACES)


def enlarge(folder: Path, number: int) -> None:
    """A face in CelebA's size; the second ten thousand are mirrored."""
    face = _face(number).resize((178, 218), Image.Resampling.BICUBIC)
    if number >= FACES:
        face = ImageOps.mirror(face)
    face.save(folder / f"{number:06}.jpg", quality=92)


def _mosaic(folder: Path, number: int) -> None:
    """A face that fills the picture, over which many small ones give fine detail."""
    picture = _face(number).crop((0, 10, 89, 99)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    tiles = Image.new("RGB", (SIDE, SIDE))
    for index, (x, y) in enumerate(itertools.product(range(0, SIDE, 89), range(0, SIDE, 109))):
        tiles.paste(_face(number * 500 + index), (x, y))
    Image.blend(picture, tiles, 0.3).save(folder / f"{number:03}.jpg", quality=92)


def _variants(folder: Path, number: int) -> None:
    """A face turned, mirrored or brightened, so that no two are the same."""
    path = folder / f"{number:06}.jpg"
    if not path.exists():
        face, variant = _face(number), number // FACES
        face = ImageOps.mirror(face) if variant % 2 else face
        face.point(lambda level: level + 3 * variant).save(path, quality=85)
