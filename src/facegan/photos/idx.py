"""IDX files, plain or gzipped (LeCun, Cortes and Burges, "The MNIST database")."""

import gzip
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from facegan.photos.inputs import Input, Root, Span, Unusable, safe_name

# Two zero bytes, 8 for uint8, 3 dimensions.
MAGIC = b"\x00\x00\x08\x03"
HEADER = struct.Struct(">4s3I")
MAX_PIXELS = 2**20  # per image


def is_idx(root: Root, file: str) -> bool:
    try:
        with root.open(file) as stream, _plain(stream, file) as plain:
            return plain.read(4) == MAGIC
    except (OSError, EOFError, zlib.error):
        return False


def images(root: Root, file: str) -> Iterator[Input]:
    """The images in an IDX file; one input with a status if header and content disagree."""
    try:
        with root.open(file) as stream, _plain(stream, file) as plain:
            count, height, width = _checked_header(plain)
        with root.open(file) as stream, _plain(stream, file) as plain:
            yield from _images(plain, file, count, (height, width))
    except FileNotFoundError:
        yield Input(safe_name(file), file, status="vanished")
    except (OSError, EOFError, zlib.error, Unusable) as error:
        status = "truncated" if isinstance(error, EOFError) else "unreadable"
        yield Input(safe_name(file), file, status=status)


def _plain(stream: BinaryIO, file: str) -> BinaryIO | gzip.GzipFile:
    return gzip.GzipFile(fileobj=stream) if file.lower().endswith(".gz") else stream


def _checked_header(plain: BinaryIO | gzip.GzipFile) -> tuple[int, int, int]:
    """(count, height, width), after reading the whole file.

    Raises:
        EOFError: if there are fewer bytes than the header states.
        Unusable: if there are more, or the header is implausible.
    """
    header = plain.read(HEADER.size)
    if len(header) < HEADER.size:
        raise EOFError
    _, count, height, width = HEADER.unpack(header)
    if not 0 < height * width <= MAX_PIXELS:
        raise Unusable("unreadable")
    left = count * height * width
    # Reading to the end also verifies gzip's checksum.
    while chunk := plain.read(2**20):
        left -= len(chunk)
        if left < 0:
            raise Unusable("unreadable")
    if left:
        raise EOFError
    return count, height, width


def _images(
    plain: BinaryIO | gzip.GzipFile, file: str, count: int, shape: tuple[int, int]
) -> Iterator[Input]:
    streamed, size = isinstance(plain, gzip.GzipFile), shape[0] * shape[1]
    plain.seek(HEADER.size)
    for index in range(count):
        content = plain.read(size) if streamed else None
        span = Span(HEADER.size + index * size, size, size)
        yield Input(safe_name(f"{file}#{index}"), file, span, content, shape)
