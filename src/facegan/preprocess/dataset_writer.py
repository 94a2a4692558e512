"""The output of `preprocess`: arrays, index, report and pictures."""

import csv
import json
from collections import Counter
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from facegan.core.atomic import replacing
from facegan.core.errors import FaceganError
from facegan.core.events import Message, OnEvent, silent
from facegan.core.pictures import attempt
from facegan.params import Preprocess
from facegan.photos.inputs import shown
from facegan.preprocess.duplicates import DigestIndex, PerceptualIndex
from facegan.preprocess.npy_writer import ArrayWriter, Pixels
from facegan.preprocess.packing import Row

COLUMNS = ("path", "sha256", "width", "height", "status", "original")
KEPT, HELD_OUT, NOT_AN_IMAGE = "kept", "held-out", "not-an-image"
# Unusable inputs that messages name.
MAX_NAMED = 10
PREVIEW_ROWS, PREVIEW_COLUMNS = 8, 16


class DatasetWriter:
    """Writes the workers' results into `folder`, in order, and assigns each input its status."""

    def __init__(self, folder: Path, params: Preprocess, originals: dict[str, str]) -> None:
        self.folder, self.params, self.originals = folder, params, originals
        shape = (params.resolution, params.resolution, params.channels)
        self.statuses: Counter[str] = Counter()
        self.unusable: list[str] = []
        self.sides: Counter[int] = Counter()
        self.levels: Counter[int] = Counter()
        self.sum: NDArray[np.int64] = np.zeros(shape, np.int64)
        self.exact = DigestIndex()
        bits = params.near_duplicates
        self.near = None if bits is None else PerceptualIndex(bits)
        with ExitStack() as stack:
            stack.callback(self.exact.close)
            self.images, self.holdout = (
                stack.enter_context(ArrayWriter(folder / f"{name}.npy", shape))
                for name in ("images", "holdout")
            )
            file: TextIO = (folder / "index.csv").open("w", newline="", encoding="utf-8")
            stack.enter_context(file)
            # RFC 4180's line ends, csv's default, so that "\r" in a name is quoted too.
            self.index = csv.writer(file)
            self.index.writerow(COLUMNS)
            self.stack = stack.pop_all()

    def __enter__(self) -> "DatasetWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self.stack.close()

    @property
    def inputs(self) -> int:
        return self.statuses.total()

    def add(self, rows: list[Row], pixels: Pixels, on_event: OnEvent) -> None:
        """Add a worker's rows; `pixels` has one image for each row without a status."""
        statuses = [row.status or self._split(row) for row in rows]
        kinds = [status.partition(" of ")[0] for status in statuses]
        self.statuses.update(kinds)
        self.index.writerows(map(self._columns, rows, statuses))
        unusable = [row for row in rows if row.status not in (None, NOT_AN_IMAGE)]
        for row in unusable[: MAX_NAMED - len(self.unusable)]:
            self.unusable.append(f"{shown(row.path)} ({row.status})")
            on_event(Message(f"{shown(row.path)}: {row.status}"))
        usable = [(row, kind) for row, kind in zip(rows, kinds, strict=True) if not row.status]
        for array, split in ((self.images, KEPT), (self.holdout, HELD_OUT)):
            selected = [kind == split for _, kind in usable]
            if any(selected):
                self._add_images(array, pixels[selected])
        self.sides.update(min(r.width, r.height) for r, kind in usable if kind in (KEPT, HELD_OUT))

    def _columns(self, row: Row, status: str) -> tuple[object, ...]:
        size = (row.width, row.height) if row.width else ("", "")
        return row.path, row.sha256, *size, status, self.originals.get(row.path, "")

    def _add_images(self, array: ArrayWriter, images: Pixels) -> None:
        array.extend(images)
        self.sum += images.sum(axis=0, dtype=np.uint16)  # four times as fast as int64
        totals = images.reshape(len(images), -1).sum(axis=1, dtype=np.uint32)
        self.levels.update((totals // images[0].size).tolist())

    def _split(self, row: Row) -> str:
        """The status of a row with pixels: its split, or which photograph it duplicates."""
        # By the file's hash, so that adding photographs moves none to the other split.
        split = HELD_OUT if int(row.sha256[:16], 16) / 2**64 < self.params.holdout else KEPT
        first, first_split = self.exact.find_or_add(row.digest, row.path, split)
        if first is not None:
            # The same pixels stay in one split, even if the files differ in metadata.
            return f"duplicate of {first}" if self.params.duplicates == "drop" else first_split
        if self.near is not None:
            near = self.near.find_or_add(row.perceptual, row.path)
            if near is not None:
                return f"near-duplicate of {near}"
        return split

    def finish(self, data: str, on_event: OnEvent = silent) -> None:
        """Validate the totals, and write the report, the records and the pictures.

        Raises:
            FaceganError: if too many inputs are unusable or too few are kept.
        """
        usable = (KEPT, HELD_OUT, "duplicate", "near-duplicate")
        candidates = self.inputs - self.statuses[NOT_AN_IMAGE]
        rejected = candidates - sum(self.statuses[kind] for kind in usable)
        limit = self.params.max_rejected
        if rejected and rejected / candidates > limit:  # not a product: 0.29 * 100 < 29
            raise FaceganError(
                f"{data}: {rejected} of {candidates} inputs are unusable, more than "
                f"preprocess.max_rejected: {limit} allows; the first: {', '.join(self.unusable)}"
            )
        if self.images.count < 2:
            raise FaceganError(
                f"{data}: {self.images.count} photographs to train on, at least 2 are required; "
                "get images, archives or IDX files with: facegan fetch"
            )
        self._write_json("report.json", self._report(rejected))
        for name, array in (("dataset", self.images), ("holdout", self.holdout)):
            record = {
                "sha256": array.finish(),
                "shape": [array.count, *array.shape],
                "preprocessing": preprocessing(self.params),
            }
            self._write_json(f"{name}.json", record)
        images = np.load(self.folder / "images.npy", mmap_mode="r")
        kept = self.images.count + self.holdout.count
        attempt(self.folder / "preview.png", partial(save_preview, images), on_event)
        attempt(self.folder / "mean.png", partial(save_mean, self.sum, kept), on_event)
        _write_histogram("short_side", self.sides, self.folder / "sizes.csv")
        _write_histogram("level", self.levels, self.folder / "brightness.csv")

    def _write_json(self, name: str, content: dict[str, Any]) -> None:
        (self.folder / name).write_text(json.dumps(content, indent=2) + "\n", "utf-8")

    def _report(self, rejected: int) -> dict[str, Any]:
        return {
            "inputs": self.inputs,
            "rejected": rejected,
            "statuses": dict(sorted(self.statuses.items())),
            "resolution": self.params.resolution,
            "channels": self.params.channels,
        }


def _write_histogram(name: str, counts: Counter[int], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerows([(name, "photographs"), *sorted(counts.items())])


def preprocessing(params: Preprocess) -> str:
    """How photographs become pixels, in words; part of every score's protocol."""
    jpeg = features.version("libjpeg_turbo") or features.version("jpg")
    return (
        f"crop {params.crop}, {params.resample}, JPEG {params.jpeg} by libjpeg {jpeg}, "
        f"over grey level {params.background}"
    )


def save_preview(images: Pixels, path: Path) -> None:
    """Write a contact sheet of evenly spaced images out of uint8 (N, H, W, C)."""
    count = min(PREVIEW_ROWS * PREVIEW_COLUMNS, len(images))
    selected = images[np.linspace(0, len(images) - 1, count).astype(int)]
    columns = min(PREVIEW_COLUMNS, count)
    rows = -(-count // columns)
    height, width, channels = images.shape[1:]
    sheet = np.zeros((rows * columns, height, width, channels), np.uint8)
    sheet[:count] = selected
    sheet = sheet.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    _save_png(sheet.reshape(rows * height, columns * width, channels), path)


def save_mean(total: NDArray[np.int64], count: int, path: Path) -> None:
    """Write the mean of `count` images whose pixels sum to `total` (H, W, C)."""
    _save_png(np.rint(total / count).astype(np.uint8), path)


def _save_png(pixels: Pixels, path: Path) -> None:
    image = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
    with replacing(path) as temporary:  # compress_level: a third of the time for 4% more bytes
        image.save(temporary, "PNG", compress_level=1)
