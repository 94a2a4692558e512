"""Photographs -> one packed uint8 array, a held-out part, an index and a report."""

import csv
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray
from PIL import features

from facegan import photographs, pictures
from facegan.arrays import ArrayWriter, Pixels
from facegan.atomic import refuse_foreign, replacing
from facegan.duplicates import Seen, SeenNearly
from facegan.errors import FaceganError
from facegan.events import OnEvent, silent
from facegan.executors import PROCESSES, cores, in_order, open_executor
from facegan.inputs import Folder, Input, open_root, shown
from facegan.packing import Row, pack_inputs
from facegan.params import Preprocess

# Inputs that a worker gets at a time, at most 257 because their pixels are summed in 16 bits; bytes
# that it gives back, and bytes of inputs that had to be read before.
CHUNK, PIXEL_BYTES, CONTENT_BYTES = 64, 2**20, 2**22
# Chunks a worker that are begun before the next in order is there: with 2, workers stood idle.
AHEAD = 4
COLUMNS = ("path", "sha256", "width", "height", "verdict", "original")
KEPT, HELD_OUT, NOT_AN_IMAGE = "kept", "held-out", "not-an-image"
# As many unusable inputs are named.
MOST_NAMED = 10


def preprocess(
    data: str | Path,
    out: Path,
    params: Preprocess,
    executor: str = PROCESSES,
    workers: int | None = None,
    on_event: OnEvent = silent,
) -> None:
    """Pack every photograph below `data`, a folder or `s3://bucket/prefix`, into `out`.

    Writes `images.npy` and `holdout.npy` (uint8, (N, resolution, resolution, channels)),
    `index.csv` (path, sha256, width, height, verdict of every input, in order), `report.json`,
    the pictures `preview.png` and `mean.png`, and histograms of the photographs' short sides and
    mean grey levels for `dvc plots`. The bytes of all these don't depend on `executor` and
    `workers`.

    Args:
        executor: `processes`, or a Dask scheduler's address, whose workers read `data` themselves.
        workers: how many processes; as many as there are cores by default.
    Raises:
        FaceganError: if there are no photographs, or too many of the inputs are unusable. `out`
            is then untouched.
    """
    root = shared = open_root(str(data))
    if isinstance(root, Folder):
        _refuse_overlap(root.path, out)
        shared = Folder(root.path.absolute())  # workers may be at home elsewhere
    refuse_foreign(out, "report.json")
    total = photographs.count(root)
    size = min(CHUNK, PIXEL_BYTES // (params.resolution**2 * params.channels))
    calls = ((shared, chunk, params) for chunk in _chunks(photographs.find(root), size))
    few = min(workers or cores(), -(-total // size) or 1)
    with replacing(out) as folder, open_executor(executor, few) as found:
        folder.mkdir()
        with Ledger(folder, params, photographs.manifest(root).get("originals", {})) as ledger:
            for rows, pixels in in_order(found, AHEAD * found.tasks, pack_inputs, calls):
                ledger.add(rows, pixels, on_event)
                on_event({"event": "progress", "done": ledger.inputs, "total": total})
            ledger.finish(str(data))


def _refuse_overlap(data: Path, out: Path) -> None:
    source, place = data.resolve(), out.resolve()
    if source == place or source in place.parents or place in source.parents:
        raise FaceganError(f"{data}: is, contains or lies in {out}, where the images would go")


def _chunks(inputs: Iterator[Input], most: int) -> Iterator[list[Input]]:
    chunk: list[Input] = []
    size = 0
    for each in inputs:
        chunk.append(each)
        size += len(each.content or b"")
        if len(chunk) == most or size > CONTENT_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


class Ledger:
    """Writes what the workers found into `folder`, in order, and gives each input its verdict."""

    def __init__(self, folder: Path, params: Preprocess, originals: dict[str, str]) -> None:
        self.folder, self.params, self.originals = folder, params, originals
        shape = (params.resolution, params.resolution, params.channels)
        self.verdicts: Counter[str] = Counter()
        self.unusable: list[str] = []
        self.sides: Counter[int] = Counter()
        self.levels: Counter[int] = Counter()
        self.sum: NDArray[np.int64] = np.zeros(shape, np.int64)
        self.seen = Seen()
        near = params.near_duplicates
        self.nearly = None if near is None else SeenNearly(near)
        with ExitStack() as stack:
            stack.callback(self.seen.close)
            self.images, self.holdout = (
                stack.enter_context(ArrayWriter(folder / f"{name}.npy", shape))
                for name in ("images", "holdout")
            )
            file: TextIO = (folder / "index.csv").open("w", newline="", encoding="utf-8")
            stack.enter_context(file)
            self.index = csv.writer(
                file
            )  # its line ends are RFC 4180's, so that "\r" is quoted, too
            self.index.writerow(COLUMNS)
            self.stack = stack.pop_all()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *error: object) -> None:
        self.stack.close()

    @property
    def inputs(self) -> int:
        return self.verdicts.total()

    def add(self, rows: list[Row], pixels: Pixels, on_event: OnEvent) -> None:
        """Take a worker's rows; `pixels` has one image for each row without a verdict."""
        verdicts = [row.verdict or self._verdict(row) for row in rows]
        kinds = [verdict.partition(" of ")[0] for verdict in verdicts]
        self.verdicts.update(kinds)
        self.index.writerows(map(self._columns, rows, verdicts))
        unusable = [row for row in rows if row.verdict not in (None, NOT_AN_IMAGE)]
        for row in unusable[: MOST_NAMED - len(self.unusable)]:
            self.unusable.append(f"{shown(row.path)} ({row.verdict})")
            on_event({"event": "message", "text": f"{shown(row.path)}: {row.verdict}"})
        usable = [(row, kind) for row, kind in zip(rows, kinds, strict=True) if not row.verdict]
        for array, side in ((self.images, KEPT), (self.holdout, HELD_OUT)):
            ours = [kind == side for _, kind in usable]
            if any(ours):
                self._add_images(array, pixels[ours])
        self.sides.update(min(r.width, r.height) for r, kind in usable if kind in (KEPT, HELD_OUT))

    def _columns(self, row: Row, verdict: str) -> tuple[object, ...]:
        size = (row.width, row.height) if row.width else ("", "")
        return row.path, row.sha256, *size, verdict, self.originals.get(row.path, "")

    def _add_images(self, array: ArrayWriter, images: Pixels) -> None:
        array.extend(images)
        self.sum += images.sum(axis=0, dtype=np.uint16)  # four times as fast as in int64
        totals = images.reshape(len(images), -1).sum(axis=1, dtype=np.uint32)
        self.levels.update((totals // images[0].size).tolist())

    def _verdict(self, row: Row) -> str:
        # By the file's bytes, so that photographs added later move none to the other side.
        side = HELD_OUT if int(row.sha256[:16], 16) / 2**64 < self.params.holdout else KEPT
        before, its_side = self.seen.first(row.digest, row.path, side)
        if before is not None:
            # On one side, even if the files differ in what is no pixel.
            return f"duplicate of {before}" if self.params.duplicates == "drop" else its_side
        if self.nearly is not None:
            near = self.nearly.first(row.perceptual, row.path)
            if near is not None:
                return f"near-duplicate of {near}"
        return side

    def finish(self, data: str) -> None:
        """Check what there is, and write the report and the pictures.

        Raises:
            FaceganError: if too many inputs are unusable, or too few are left.
        """
        usable = (KEPT, HELD_OUT, "duplicate", "near-duplicate")
        meant = self.inputs - self.verdicts[NOT_AN_IMAGE]
        rejected = meant - sum(self.verdicts[kind] for kind in usable)
        most = self.params.max_rejected
        if rejected and rejected / meant > most:  # 0.29 * 100 is less than 29
            raise FaceganError(
                f"{data}: {rejected} of {meant} inputs are unusable, more than "
                f"preprocess.max_rejected: {most} allows; the first: {', '.join(self.unusable)}"
            )
        if self.images.count < 2:
            raise FaceganError(
                f"{data}: {self.images.count} photographs to train on, at least 2 are needed; "
                "bring images, an archive of them or IDX files in with: facegan fetch"
            )
        digests = {"images.npy": self.images.finish(), "holdout.npy": self.holdout.finish()}
        report = self._report(rejected, digests)
        (self.folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", "utf-8")
        images = np.load(self.folder / "images.npy", mmap_mode="r")
        pictures.save_preview(images, self.folder / "preview.png")
        kept = self.images.count + self.holdout.count
        pictures.save_mean(self.sum, kept, self.folder / "mean.png")
        _write_histogram("short_side", self.sides, self.folder / "sizes.csv")
        _write_histogram("level", self.levels, self.folder / "brightness.csv")

    def _report(self, rejected: int, digests: dict[str, str]) -> dict[str, Any]:
        return {
            "inputs": self.inputs,
            "rejected": rejected,
            "verdicts": dict(sorted(self.verdicts.items())),
            "resolution": self.params.resolution,
            "channels": self.params.channels,
            "recipe": recipe(self.params),
            "sha256": digests,
        }


def _write_histogram(name: str, counts: Counter[int], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerows([(name, "photographs"), *sorted(counts.items())])


def recipe(params: Preprocess) -> str:
    """How photographs become pixels, in words: part of every score's protocol."""
    jpeg = features.version("libjpeg_turbo") or features.version("jpg")
    return (
        f"crop {params.crop}, {params.filter}, JPEG {params.jpeg} by libjpeg {jpeg}, "
        f"over grey level {params.background}"
    )
