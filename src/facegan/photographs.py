"""A folder of photographs, read in place: image files, zips of them, and IDX files."""

import gzip
import hashlib
import io
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from facegan.errors import FaceganError

ENCODED = (".jpg", ".jpeg", ".png")
# `fetch` leaves this file in the folder; it is no input of the user's.
MANIFEST = "source.json"
# IDX (LeCun, Cortes and Burges, "The MNIST database"): two zero bytes, 8 for uint8, 3 dimensions.
IDX_IMAGES = b"\x00\x00\x08\x03"


@dataclass(frozen=True)
class Photograph:
    """One input, not yet decoded.

    Attributes:
        source: path below the folder; `archive.zip/member`, `file-idx3-ubyte#7`.
        content: the encoded file, or an IDX image's raw bytes.
        shape: (height, width) of raw grey pixels; None where `content` is an encoded file.
    """

    source: str
    content: bytes
    shape: tuple[int, int] | None = None

    @property
    def is_image(self) -> bool:
        name = self.source.rpartition("/")[2].lower()
        # macOS puts a "._" file beside each photograph in a zip; it holds no picture.
        return self.shape is not None or (name.endswith(ENCODED) and not name.startswith("._"))

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    def decode(self) -> Image.Image:
        """Decode in full, in the file's own mode.

        Raises:
            FaceganError: if the content is no readable image.
        """
        if self.shape is not None:
            height, width = self.shape
            return Image.frombytes("L", (width, height), self.content)
        try:
            image = Image.open(io.BytesIO(self.content), formats=("JPEG", "PNG"))
            image.load()
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise FaceganError(f"{self.source}: not a readable JPEG or PNG ({error})") from None
        return image


def count(folder: Path) -> int:
    """How many inputs `read` will give, found without reading them."""
    total = 0
    for path in _files(folder):
        if path.suffix.lower() == ".zip":
            with _open_zip(path, folder) as archive:
                total += sum(not member.is_dir() for member in archive.infolist())
        elif _is_idx(path):
            with _open_idx(path) as file:
                total += _idx_shape(file, path)[0]
        else:
            total += 1
    return total


def read(folder: Path) -> Iterator[Photograph]:
    """All inputs below `folder`, sorted by path, then by name or number within a file.

    Raises:
        FaceganError: if `folder` or an archive in it cannot be read.
    """
    for path in _files(folder):
        source = path.relative_to(folder).as_posix()
        if path.suffix.lower() == ".zip":
            yield from _read_zip(path, folder, source)
        elif _is_idx(path):
            yield from _read_idx(path, source)
        else:
            yield Photograph(source, path.read_bytes())


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FaceganError(f"{folder}: no such folder; bring photographs in with: facegan fetch")
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted((p for p in files if p != folder / MANIFEST), key=lambda path: path.as_posix())


def _open_zip(path: Path, folder: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise FaceganError(f"{path}: not a readable zip ({error})") from None


def _read_zip(path: Path, folder: Path, source: str) -> Iterator[Photograph]:
    with _open_zip(path, folder) as archive:
        for member in sorted(archive.infolist(), key=lambda info: info.filename):
            if member.is_dir():
                continue
            try:
                content = archive.read(member)
            except (OSError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
                message = f"{path}/{member.filename}: cannot be read from the zip ({error})"
                raise FaceganError(message) from None
            yield Photograph(f"{source}/{member.filename}", content)


def _open_idx(path: Path) -> gzip.GzipFile | io.BufferedReader:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _is_idx(path: Path) -> bool:
    if path.suffix.lower() in ENCODED:
        return False
    try:
        with _open_idx(path) as file:
            return file.read(4) == IDX_IMAGES
    except (OSError, EOFError, zlib.error):
        return False


def _idx_shape(file: gzip.GzipFile | io.BufferedReader, path: Path) -> tuple[int, int, int]:
    try:
        _, number, height, width = struct.unpack(">4I", file.read(16))
    except (OSError, EOFError, struct.error, zlib.error) as error:
        raise FaceganError(f"{path}: not a whole IDX file ({error})") from None
    return number, height, width


def _read_idx(path: Path, source: str) -> Iterator[Photograph]:
    with _open_idx(path) as file:
        number, height, width = _idx_shape(file, path)
        try:
            for index in range(number):
                content = file.read(height * width)
                if len(content) != math.prod((height, width)):
                    raise EOFError(f"{index} of {number} images are there")
                yield Photograph(f"{source}#{index}", content, (height, width))
            if file.read(1):  # reading to the end checks gzip's checksum, too
                raise EOFError(f"more than {number} images are there")
        except (OSError, EOFError, zlib.error) as error:
            raise FaceganError(f"{path}: not a whole IDX file ({error})") from None
