"""Generated photographs, and what `preprocess`, `reference` and `train` cost on many of them."""

import io
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache, partial
from importlib import resources
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import torch
import yaml
from PIL import Image

from benchmarks import cost
from benchmarks.harness import Line
from facegan.data.batches import Batches
from facegan.data.dataset import data_sha256, preprocessing
from facegan.features.extractors import EfficientNetLite0
from facegan.features.frechet import FeatureMoments, Statistics
from facegan.params import load_params
from facegan.preprocess.workers import cores

SIZE = (89, 109)  # of the photographs of ../shared/faces
BASES, BASE_SIZE = 64, (178, 218)
QUALITY = 88
ENCODED, STEPS = 2_000, 8
ARCHIVE = 100_000  # photographs in a zip
BATCH, BATCHES = 64, 500
FACEGAN = Path(sys.executable).with_name("facegan")


def written(folder: Path, count: int) -> Path:
    """A folder with that many photographs, below `folder`; one that is there is used again."""
    photographs = folder / f"photographs-{count}"
    write(photographs, count)
    os.sync()  # or the disk is still at it while we measure
    return photographs


def write(folder: Path, count: int) -> None:
    """Write photographs 0 to `count` - 1 that are not there yet; the same bytes at each call."""
    folder.mkdir(parents=True, exist_ok=True)
    lacking = range(sum(1 for _ in folder.iterdir()), count)
    with ProcessPoolExecutor(cores()) as pool:
        list(pool.map(partial(_write, folder), lacking, chunksize=500))


def _write(folder: Path, number: int) -> None:
    (folder / f"{number:07}.jpg").write_bytes(photograph(number))


def photograph(number: int) -> bytes:
    """A JPEG of which no other number has the pixels, up to a million.

    Each encoded picture serves many times: its quantisation table differs, and so the contrast of
    its low frequencies. Decoding costs the same, and encoding a million would take as long as all
    that is measured.
    """
    encoded, variant = bytearray(_encoded(number % ENCODED)), number // ENCODED
    table = encoded.index(b"\xff\xdb") + 5  # after marker, length and identifier
    for entry in (1, 2, 4):
        variant, steps = divmod(variant, STEPS)
        encoded[table + entry] += steps
    assert variant == 0, f"no photograph {number}"
    return bytes(encoded)


@cache
def _encoded(number: int) -> bytes:
    """Two crops of base pictures, blended."""
    random = np.random.default_rng((1, number))
    first, second = (_crop(random) for _ in range(2))
    file = io.BytesIO()
    Image.blend(first, second, random.uniform(0.2, 0.8)).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def _crop(random: np.random.Generator) -> Image.Image:
    base = _base(int(random.integers(BASES)))
    x, y = (int(random.integers(b - s + 1)) for b, s in zip(BASE_SIZE, SIZE, strict=True))
    crop = base.crop((x, y, x + SIZE[0], y + SIZE[1]))
    return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.integers(2) else crop


@cache
def _base(number: int) -> Image.Image:
    """Noise of all frequencies, the higher the weaker, as photographs have."""
    random = np.random.default_rng((0, number))
    total = np.zeros((BASE_SIZE[1], BASE_SIZE[0], 3))
    for octave in range(2, 8):
        noise = random.integers(0, 256, (2**octave, 2**octave, 3), np.uint8)
        layer = Image.fromarray(noise).resize(BASE_SIZE, Image.Resampling.BICUBIC)
        total += (np.asarray(layer) - 127.5) * 1.8 / octave**1.5
    return Image.fromarray((127.5 + total).clip(0, 255).astype(np.uint8))


def pack(photographs: Path, archives: Path, count: int) -> None:
    """The same photographs in zips, stored as they are."""
    archives.mkdir()
    for first in range(0, count, ARCHIVE):
        with ZipFile(archives / f"{first:07}.zip", "w") as archive:
            for number in range(first, min(first + ARCHIVE, count)):
                name = f"{number:07}.jpg"
                archive.write(photographs / name, name)


class Stages:
    """The stages' commands on one number of photographs.

    Args:
        folder: of what they write.
        limit: CPU seconds that each stage has after its first images; None for all.
    """

    def __init__(self, folder: Path, count: int, limit: float | None) -> None:
        self.folder, self.count, self.limit = folder, count, limit
        self.dataset = folder / f"dataset-{count}"
        self.statistics = [folder / f"{name}-{count}.safetensors" for name in ("quick", "official")]
        self.params = folder / "params.yaml"
        preset = resources.files("facegan") / "presets" / "celeba64.yaml"
        self.params.write_text(preset.read_text("utf-8"), "utf-8")

    def preprocess(self, data: Path) -> Line:
        spent = self._run("preprocess", data, self.dataset)
        if spent.progress[-1][0] < spent.total:
            return self._line("preprocess", spent)
        return cost.line(f"preprocess, {data.name}", spent, self.count)

    def reference(self) -> Iterator[Line]:
        """Both extractors, or as far as they come; the quick one is first."""
        spent = self._run("reference", self.dataset, *self.statistics)
        quick = [entry for entry in spent.progress if entry[0] <= self.count]
        official = [entry for entry in spent.progress if entry[0] > self.count]
        for name, part in (("quick", quick), ("official", official)):
            if part:
                yield self._line(f"reference, {name}", replace(spent, progress=part))

    def train(self) -> Line:
        """An epoch, or the part of it that the limit allows."""
        content = yaml.safe_load(self.params.read_text())
        changes = {"epochs": 1, "eval_interval": 10 * self.count, "quick_num_samples": 100}
        content["train"] |= changes
        params = self.folder / "train.yaml"
        params.write_text(yaml.safe_dump(content))
        out = self.folder / f"train-{self.count}"
        paths = (self.dataset, self._invented_statistics(), out)
        spent = self._run("train", *paths, params=params)
        return self._line("train", spent)

    def _invented_statistics(self) -> Path:
        """Quick statistics of noise, so that `train` need not wait for those of all images.

        A quick FID then costs the same, and its value means nothing.
        """
        moments = FeatureMoments(EfficientNetLite0.num_features)
        generator = torch.Generator().manual_seed(0)
        moments.update(torch.rand(2000, EfficientNetLite0.num_features, generator=generator))
        parts = {"data": "images", "holdout": "holdout"}
        extractor = load_params(self.params).reference.quick
        metadata = {
            **{key: data_sha256(self.dataset, part) for key, part in parts.items()},
            **{"count": self.count, "shape": [64, 64, 3]},
            "preprocessing": preprocessing(self.dataset),
            "extractor": {**extractor.model_dump(), "dtype": "float32"},
        }
        path = self.folder / f"invented-{self.count}.safetensors"
        Statistics.from_moments(moments, metadata).save(path)
        return path

    def _run(self, stage: str, *paths: Path, params: Path | None = None) -> cost.Cost:
        log = self.folder / f"{stage}-{self.count}.log"
        command: list[str | Path] = [FACEGAN, stage, *paths, "--params", params or self.params]
        environment = {"FACEGAN_CHECKPOINTS": str(self.folder / f"checkpoints-{self.count}")}
        environment |= {"MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlflow.db"}
        # Threads that wait for each other count as CPU time, the more the busier the machine is.
        environment |= {"OMP_NUM_THREADS": "1"}
        return cost.run(command, log, environment, self.folder, self.limit)

    def _line(self, stage: str, spent: cost.Cost) -> Line:
        cpu, wall = spent.per_image()
        done = spent.progress[-1][0]
        return Line(
            f"{stage}, {self.count:,} images: {done:,} of {spent.total:,} done",
            f"{spent.cpu:,.1f} s CPU, {spent.wall:,.1f} s",
            "",
            f"{1e3 * cpu:.3g} ms CPU, {1e3 * wall:.3g} ms for one more, "
            f"{spent.memory / 1e6:,.0f} MB",
            "",
            True,
        )

    def batches(self) -> Iterator[Line]:
        """Images a second in random order, from the disk and then from memory."""
        path = self.dataset / "images.npy"
        os.sync()
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        images = torch.from_numpy(np.load(path, mmap_mode="c"))
        steps = min(BATCHES, len(images) // BATCH)
        for name in ("from the disk", "from memory"):
            batches = Batches(images, BATCH, seed=0)
            next(batches)  # draws the epoch's order
            began = time.perf_counter()
            for _ in range(steps - 1):
                float(next(batches)[0, 0, 0, 0])
            rate = (steps - 1) * BATCH / (time.perf_counter() - began)
            figure = f"{rate:,.0f} images/s"
            yield Line(f"batches, {self.count:,} images, {name}", figure, "", figure, "", True)
