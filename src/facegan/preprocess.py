"""Photographs -> one packed uint8 array, a held-out part, an index and a report."""

import csv
import hashlib
import json
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, features

from facegan import photographs
from facegan.atomic import refuse_foreign, replacing
from facegan.errors import FaceganError
from facegan.events import OnEvent, silent
from facegan.params import Preprocess

Pixels = NDArray[np.uint8]


class ArrayWriter:
    """Writes a `.npy` of uint8 (N, *shape) one row at a time, N unknown until the end.

    Memory does not grow with N. The header has room for any N (numpy pads it for appending).
    """

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self.path, self.shape, self.count = path, shape, 0
        self.file = path.open("w+b")
        self._write_header()

    def _write_header(self) -> None:
        header = {"descr": "|u1", "fortran_order": False, "shape": (self.count, *self.shape)}
        np.lib.format.write_array_header_1_0(self.file, header)

    def append(self, row: Pixels) -> None:
        assert row.shape == self.shape and row.dtype == np.uint8
        self.file.write(row.tobytes())
        self.count += 1

    def finish(self) -> str:
        """Put the count into the header; the sha256 of the whole file."""
        self.file.seek(0)
        self._write_header()
        self.file.seek(0)
        return hashlib.file_digest(self.file, "sha256").hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.file.close()


def preprocess(data: Path, out: Path, params: Preprocess, on_event: OnEvent = silent) -> None:
    """Pack every photograph below `data` into `out`.

    Writes `images.npy` and `holdout.npy` (uint8, (N, size, size, channels)), `index.csv`
    (source, sha256, width, height, verdict of every input, in order) and `report.json`.

    Raises:
        FaceganError: if there is no photograph, or one cannot be read. `out` is then untouched.
    """
    _refuse_overlap(data, out)
    refuse_foreign(out, "report.json")
    total = photographs.count(data)
    with replacing(out) as folder:
        folder.mkdir()
        report = _pack(data, folder, params, total, on_event)
        (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", "utf-8")


def _refuse_overlap(data: Path, out: Path) -> None:
    source, place = data.resolve(), out.resolve()
    if source == place or source in place.parents or place in source.parents:
        raise FaceganError(f"{data}: is, contains or lies in {out}, where the images would go")


def _pack(
    data: Path, folder: Path, params: Preprocess, total: int, on_event: OnEvent
) -> dict[str, Any]:
    shape = (params.resolution, params.resolution, params.channels)
    verdicts: Counter[str] = Counter()
    with (
        ArrayWriter(folder / "images.npy", shape) as images,
        ArrayWriter(folder / "holdout.npy", shape) as holdout,
        (folder / "index.csv").open("w", newline="", encoding="utf-8") as file,
    ):
        index = csv.writer(file, lineterminator="\n")
        index.writerow(["source", "sha256", "width", "height", "verdict"])
        for done, photograph in enumerate(photographs.read(data), start=1):
            width = height = ""
            verdict = "not-an-image"
            if photograph.is_image:
                image = photograph.decode()
                width, height = map(str, image.size)
                verdict = _verdict(photograph.sha256, params.holdout)
                writer = images if verdict == "kept" else holdout
                writer.append(pack(image, params.resolution, params.channels))
            index.writerow([photograph.source, photograph.sha256, width, height, verdict])
            verdicts[verdict] += 1
            on_event({"event": "progress", "done": done, "total": total})
        if images.count < 2:
            raise FaceganError(
                f"{data}: {images.count} photographs to train on, at least 2 are needed; "
                "bring JPEG or PNG files, a zip of them or IDX files in with: facegan fetch"
            )
        digests = {"images.npy": images.finish(), "holdout.npy": holdout.finish()}
    return {
        "inputs": total,
        "verdicts": dict(sorted(verdicts.items())),
        "resolution": params.resolution,
        "channels": params.channels,
        "recipe": recipe(),
        "sha256": digests,
    }


def recipe() -> str:
    """How photographs become pixels, in words: part of every score's protocol."""
    jpeg = features.version("libjpeg_turbo") or features.version("jpg")
    return f"centre crop, Lanczos, full decoding by libjpeg {jpeg}"


def _verdict(sha256: str, holdout: float) -> str:
    # By content, so that photographs added later move none from one side to the other.
    return "held-out" if int(sha256[:16], 16) / 2**64 < holdout else "kept"


def pack(image: Image.Image, size: int, channels: int) -> Pixels:
    """The upright image's central square, antialiased: uint8 (size, size, channels)."""
    image = ImageOps.exif_transpose(image).convert("L" if channels == 1 else "RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    # Cropped first, because a box's filter would reach beyond it.
    small = image.crop(box).resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(small, dtype=np.uint8).reshape(size, size, channels)
