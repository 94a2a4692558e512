"""What a visitor asks for -> pictures. Every number is checked here, whoever sends it."""

import base64
import io
import os
import threading
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch

from facegan.app.batching import Batcher, Pixels
from facegan.app.library import Library
from facegan.core.errors import FaceganError
from facegan.core.pictures import to_picture
from facegan.models.sampling import MAX_SEED
from facegan.sample import latents, metadata
from facegan.sample.renderer import BATCH
from facegan.sample.writing import COMPRESSION

MAX_COUNT = BATCH  # images at once
FRAMES = 2 * BATCH  # of a morph
MIN_TRUNCATION, MAX_TRUNCATION = 0.1, 3.0


def number(name: str, value: object, low: float, high: float) -> float:
    """`value`, if it is a number within bounds.

    Raises:
        FaceganError: if it is not; NaN is none.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
        return value
    raise FaceganError(f"{name} {value!r:.40}: valid: numbers from {low:g} to {high:g}")


def whole(name: str, value: object, low: int, high: int) -> int:
    """As `number`, for whole numbers; 5.0 is one."""
    if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
        found = int(value)
        if found == value:
            return found
    raise FaceganError(f"{name} {value!r:.40}: valid: whole numbers from {low} to {high}")


def check_truncation(value: object) -> float | None:
    """None: not truncated. Rounded, because names of files have it."""
    if value is None:
        return None
    return round(number("truncation", value, MIN_TRUNCATION, MAX_TRUNCATION), 2)


@dataclass(frozen=True)
class Face:
    """What draws a face again."""

    version: int
    seed: int
    truncation: float | None

    @classmethod
    def checked(cls, version: object, seed: object, truncation: object) -> Self:
        """
        Raises:
            FaceganError: if one of them is out of bounds; the version may be unknown.
        """
        return cls(
            whole("version", version, 1, 2**31),
            whole("seed", seed, 0, MAX_SEED),
            check_truncation(truncation),
        )

    @classmethod
    def of(cls, triple: object) -> Self:
        """What a browser kept of a face, as `triple` gives it."""
        if not isinstance(triple, list) or len(triple) != 3:
            raise FaceganError("not a face: it has version, seed and truncation")
        return cls.checked(*triple)

    @property
    def triple(self) -> list[int | float | None]:
        return [self.version, self.seed, self.truncation]

    @property
    def label(self) -> str:
        return f"seed {self.seed}"

    @property
    def file(self) -> str:
        truncation = "" if self.truncation is None else f"-truncation{self.truncation:g}"
        return f"version{self.version}-seed{self.seed:010}{truncation}.png"


class Studio:
    """Safe in any thread.

    Args:
        folder: for PNGs.
    """

    def __init__(self, library: Library, batcher: Batcher, folder: Path) -> None:
        self.library, self.batcher, self.folder = library, batcher, folder

    def faces(self, version: object, seed: object, count: object, truncation: object) -> list[Face]:
        """`count` faces of consecutive seeds, of which `draw` makes pictures.

        Raises:
            FaceganError: if an argument is out of bounds.
        """
        total = whole("count", count, 1, MAX_COUNT)
        first = whole("seed", seed, 0, MAX_SEED - total + 1)
        threshold = check_truncation(truncation)
        chosen = self.library.version(version).number
        return [Face(chosen, first + i, threshold) for i in range(total)]

    def draw(self, faces: Sequence[Face]) -> list[Path]:
        """PNGs of at most `MAX_COUNT` faces, with text chunks."""
        groups = dict[tuple[int, float | None], list[Face]]()
        for face in faces:
            groups.setdefault((face.version, face.truncation), []).append(face)
        paths = {face: path for group in groups.values() for face, path in self._draw(group)}
        return [paths[face] for face in faces]

    def _draw(self, faces: list[Face]) -> list[tuple[Face, Path]]:
        """Those of one version and truncation, in one batch."""
        opened, truncation = self.library.opened(faces[0].version), faces[0].truncation
        paths = [self.folder / opened.sha256[:16] / face.file for face in faces]
        missing = [(f, p) for f, p in zip(faces, paths, strict=True) if not _touch(p)]
        if missing:
            seeds = [face.seed for face, _ in missing]
            z = latents.latents(seeds, opened.network.latent_dim, truncation)
            images = self.batcher.render(opened.network, z)
            for (face, path), image in zip(missing, images, strict=True):
                _write(path, _png(image, metadata.describe(opened, [face.seed], truncation)))
        return list(zip(faces, paths, strict=True))

    def morph(
        self, version: object, first: object, second: object, share: object, truncation: object
    ) -> str:
        """The face on the great circle between two seeds: a PNG as data URI.

        Args:
            share: 0 is the first seed, 1 the second one.
        Raises:
            FaceganError: if an argument is out of bounds.
        """
        t = number("share", share, 0, 1)
        (image,), text = self._between(version, (first, second), [t], truncation)
        return data_uri(_png(image, text | {metadata.SHARE: f"{t:g}"}))

    def strip(self, version: object, first: object, second: object, truncation: object) -> str:
        """`FRAMES` such faces, from one seed to the other, below each other: a data URI.

        Each has its first and its last row twice, because browsers mix neighbouring rows.
        """
        shares = np.linspace(0, 1, FRAMES).tolist()
        images, text = self._between(version, (first, second), shares, truncation)
        padded = np.pad(images, ((0, 0), (1, 1), (0, 0), (0, 0)), "edge")
        return data_uri(_png(padded.reshape(-1, *padded.shape[2:]), text))

    def _between(
        self, version: object, ends: tuple[object, object], shares: list[float], truncation: object
    ) -> tuple[Pixels, dict[str, str]]:
        seeds = [whole("seed", seed, 0, MAX_SEED) for seed in ends]
        threshold, opened = check_truncation(truncation), self.library.opened(version)
        start, end = latents.latents(seeds, opened.network.latent_dim, threshold)
        z = latents.slerp(start, end, torch.tensor(shares, dtype=torch.float32))
        batches = [self.batcher.render(opened.network, batch) for batch in z.split(BATCH)]
        return np.concatenate(batches), metadata.describe(opened, seeds, threshold)

    def zip(self, faces: Sequence[Face]) -> Path:
        """A zip of faces that are drawn already."""
        path = self.folder / f"{self.library.name}-{os.urandom(8).hex()}" / "faces.zip"
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:  # stored: a PNG is compressed
            for face in faces:
                (picture,) = self.draw([face])
                archive.writestr(zipfile.ZipInfo(face.file), picture.read_bytes())
        _write(path, buffer.getvalue())
        return path


def data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _png(image: Pixels, text: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    info = metadata.png_info(text)
    to_picture(image).save(buffer, "PNG", pnginfo=info, compress_level=COMPRESSION)
    return buffer.getvalue()


def _touch(path: Path) -> bool:
    """Whether there is such a file; old files are deleted, and this one is used now."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _write(path: Path, content: bytes) -> None:
    """Not `core.atomic`, which waits for the disk: nobody needs these files after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{threading.get_ident()}")
    temporary.write_bytes(content)
    temporary.replace(path)
