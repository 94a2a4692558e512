"""The output of `preprocess`: arrays, index, report and pictures."""

import csv
import json
import math
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
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
from facegan.photos import colour
from facegan.photos.inputs import OTHERS, shown
from facegan.preprocess.duplicates import DigestIndex, PerceptualIndex
from facegan.preprocess.npy_writer import ArrayWriter, Pixels
from facegan.preprocess.packing import Row

COLUMNS = ("path", "sha256", "width", "height", "status", "original")
KEPT, HELD_OUT = "kept", "held-out"
USABLE = (KEPT, HELD_OUT, "duplicate", "near-duplicate")
# Statuses of photographs in formats that are not read start with this.
UNSUPPORTED = "unsupported-"
# Rows written at a time, at most 257 because their pixels are summed in 16 bits.
CHUNK = 64
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
        self.messages = 0
        # Paths without suffix -> how messages name the photographs of unsupported formats.
        self.unread: dict[str, list[str]] = {}
        self.colours: Counter[str] = Counter()
        self.sides: Counter[int] = Counter()
        self.levels: Counter[int] = Counter()
        self.sum: NDArray[np.int64] = np.zeros(shape, np.int64)
        self.exact = DigestIndex()
        bits = params.near_duplicates
        self.near = None if bits is None else PerceptualIndex(bits)
        with ExitStack() as stack:
            stack.callback(self.exact.close)
            self.postponed = None if bits is None else stack.enter_context(_Postponed(shape))
            self.images, self.holdout = (
                stack.enter_context(ArrayWriter(folder / f"{name}.npy", shape))
                for name in ("images", "holdout")
            )
            file: TextIO = (folder / "index.csv").open("w", newline="", encoding="utf-8")
            stack.enter_context(file)
            self.index_file = file
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
        return self.statuses.total() + (len(self.postponed.rows) if self.postponed else 0)

    def add(self, rows: list[Row], pixels: Pixels, on_event: OnEvent) -> None:
        """Add a worker's rows; `pixels` has one image for each row without a status."""
        for row in rows:
            if row.status is not None and row.status.partition(" of ")[0] not in (*OTHERS, *USABLE):
                self._note_unusable(row, on_event)
        if self.postponed is not None:
            self.postponed.add(rows, pixels)
        else:
            self._write(rows, [row.status or self._split(row) for row in rows], pixels)

    def _note_unusable(self, row: Row, on_event: OnEvent) -> None:
        named = f"{shown(row.path)} ({row.status})"
        if str(row.status).startswith(UNSUPPORTED):
            self.unread.setdefault(_stem(row.path), []).append(named)
        elif len(self.unusable) < MAX_NAMED:
            self.unusable.append(named)
        self.messages += 1
        if self.messages <= MAX_NAMED:
            on_event(Message(f"{shown(row.path)}: {row.status}"))

    def _write(self, rows: Sequence[Row], statuses: list[str], pixels: Pixels) -> None:
        kinds = [status.partition(" of ")[0] for status in statuses]
        self.statuses.update(kinds)
        self.index.writerows(map(self._columns, rows, statuses))
        usable = [(row, kind) for row, kind in zip(rows, kinds, strict=True) if not row.status]
        for array, split in ((self.images, KEPT), (self.holdout, HELD_OUT)):
            selected = [kind == split for _, kind in usable]
            if any(selected):
                self._add_images(array, pixels[selected])
        packed = [row for row, kind in usable if kind in (KEPT, HELD_OUT)]
        self.sides.update(min(row.width, row.height) for row in packed)
        self.colours.update(row.colour for row in packed if row.colour)

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
        for rows, pixels in self.postponed.chunks(self._split) if self.postponed else ():
            self._write(*rows, pixels)
        candidates = self.inputs - sum(self.statuses[kind] for kind in OTHERS)
        unread = self._unpaired()
        paired = sum(map(len, self.unread.values())) - len(unread)
        rejected = candidates - sum(self.statuses[kind] for kind in USABLE) - paired
        limit = self.params.max_rejected
        if rejected and rejected / candidates > limit:  # not a product: 0.29 * 100 < 29
            first = ", ".join([*self.unusable, *unread][:MAX_NAMED])
            raise FaceganError(
                f"{data}: {rejected} of {candidates} inputs are unusable, more than "
                f"preprocess.max_rejected: {limit} allows; the first: {first}"
            )
        if self.images.count < 2:
            raise FaceganError(
                f"{data}: {self.images.count} photographs to train on, at least 2 are required; "
                "get images, archives or IDX files with: facegan fetch"
            )
        quiet = KEPT, HELD_OUT, "not-an-image"  # a README is nothing to report
        others = sorted((kind, n) for kind, n in self.statuses.items() if kind not in quiet)
        if others:
            text = ", ".join(f"{number:,} {kind}" for kind, number in others)
            on_event(Message(f"not packed: {text}; index.csv names them"))
        self._write_json("report.json", self._report(rejected))
        for name, array in (("dataset", self.images), ("holdout", self.holdout)):
            record = {
                "sha256": array.finish(),
                "shape": [array.count, *array.shape],
                "preprocessing": preprocessing(self.params, bool(self.colours[colour.CONVERTED])),
            }
            self._write_json(f"{name}.json", record)
        images = np.load(self.folder / "images.npy", mmap_mode="r")
        kept = self.images.count + self.holdout.count
        attempt(self.folder / "preview.png", partial(save_preview, images), on_event)
        attempt(self.folder / "mean.png", partial(save_mean, self.sum, kept), on_event)
        _write_histogram("short_side", self.sides, self.folder / "sizes.csv")
        _write_histogram("level", self.levels, self.folder / "brightness.csv")

    def _unpaired(self) -> list[str]:
        """The photographs of unsupported formats that have no usable one of the same name beside
        them, as a camera's RAW file may have a JPEG."""
        if not self.unread:
            return []
        self.index_file.flush()
        with (self.folder / "index.csv").open(newline="", encoding="utf-8") as file:
            usable = (
                _stem(row["path"])
                for row in csv.DictReader(file)
                if row["status"].partition(" of ")[0] in USABLE
            )
            paired = self.unread.keys() & usable
        return [text for stem, texts in self.unread.items() if stem not in paired for text in texts]

    def _write_json(self, name: str, content: dict[str, Any]) -> None:
        (self.folder / name).write_text(json.dumps(content, indent=2) + "\n", "utf-8")

    def _report(self, rejected: int) -> dict[str, Any]:
        return {
            "inputs": self.inputs,
            "rejected": rejected,
            "statuses": dict(sorted(self.statuses.items())),
            "profiles": {name: self.colours[name] for name in (colour.CONVERTED, colour.IGNORED)},
            "resolution": self.params.resolution,
            "channels": self.params.channels,
        }


def _write_histogram(name: str, counts: Counter[int], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerows([(name, "photographs"), *sorted(counts.items())])


def preprocessing(params: Preprocess, has_converted: bool) -> str:
    """How photographs become pixels, in words; part of every score's protocol.

    Args:
        has_converted: whether colours of any photograph were converted to sRGB.
    """
    jpeg = features.version("libjpeg_turbo") or features.version("jpg")
    colours = f", colours to sRGB by {colour.littlecms()}" if has_converted else ""
    return (
        f"crop {params.crop}, {params.resample}, JPEG {params.jpeg} by libjpeg {jpeg}, "
        f"over grey level {params.background}{colours}"
    )


def _stem(path: str) -> str:
    folder, slash, name = path.lower().rpartition("/")
    return folder + slash + (name.rpartition(".")[0] or name)


class _Postponed:
    """Rows, and their pixels on disk, until the largest of near duplicates are known."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape, self.rows = shape, list[Row]()
        self.file = tempfile.TemporaryFile()  # noqa: SIM115  # closed by __exit__

    def __enter__(self) -> "_Postponed":
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def add(self, rows: list[Row], pixels: Pixels) -> None:
        self.rows += rows
        self.file.write(pixels.tobytes())

    def chunks(
        self, split: Callable[[Row], str]
    ) -> Iterator[tuple[tuple[list[Row], list[str]], Pixels]]:
        """Rows, their statuses and pixels, in order; `split` is called for the largest first."""
        rows, self.rows = self.rows, []
        statuses = [row.status or "" for row in rows]
        usable = [number for number, row in enumerate(rows) if row.status is None]
        for number in sorted(usable, key=lambda n: -rows[n].width * rows[n].height):
            statuses[number] = split(rows[number])
        self.file.seek(0)
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            count = sum(row.status is None for row in chunk)
            raw = self.file.read(count * math.prod(self.shape))
            pixels = np.frombuffer(raw, np.uint8).reshape(count, *self.shape)
            yield (chunk, statuses[start : start + CHUNK]), pixels


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
