"""What an input is, and where inputs lie: a local folder or a bucket."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol
from urllib.parse import quote

from facegan.core.errors import FaceganError
from facegan.photos import s3

# `fetch` leaves this file in the folder; it is no input of the user's.
MANIFEST = "source.json"


class Span(NamedTuple):
    """Where in a file an input's bytes lie.

    Attributes:
        offset: of the first byte; of its local header for a zip's member.
        length: bytes, as they are stored.
        size: bytes, once inflated.
        method: how a zip stores it: 0 or 8 (deflated); None for plain bytes of a file.
        crc: the CRC-32 that a zip records.
    """

    offset: int
    length: int
    size: int
    method: int | None = None
    crc: int = 0


class Input(NamedTuple):
    """One input, not yet decoded. A tuple, because that travels to the workers fastest.

    Attributes:
        path: below the folder; `archive.zip/member`, `file-idx3-ubyte#7`.
        file: the file that it lies in, below the folder.
        span: the part of that file; None for all of it.
        content: its bytes, where they were read already, because a stream is read once.
        shape: (height, width) of raw grey pixels; None for an encoded image.
        status: why it is no photograph, where that is known without its bytes.
    """

    path: str
    file: str
    span: Span | None = None
    content: bytes | None = None
    shape: tuple[int, int] | None = None
    status: str | None = None


class Unusable(Exception):
    """An input that is no usable photograph. The message is the status that the index shows."""


class Root(Protocol):
    """Where photographs lie. Workers get a copy and read on their own."""

    def files(self) -> Iterator[tuple[str, str | None]]:
        """Every file, sorted by path; with a status where it can't be one of photographs."""

    def open(self, file: str) -> BinaryIO:
        """A file, to be read and sought in."""


@dataclass(frozen=True)
class Folder:
    """A local folder."""

    path: Path

    def files(self) -> Iterator[tuple[str, str | None]]:
        if not self.path.is_dir():
            raise FaceganError(
                f"{self.path}: no such folder; bring photographs in with: facegan fetch"
            )
        return self._walk()

    def _walk(self) -> Iterator[tuple[str, str | None]]:
        left: list[tuple[str, str | None]] = [("", None)]  # the next one last
        while left:
            path, status = left.pop()
            if status is None and (not path or path.endswith("/")):
                left += self._entries(path)
            elif path != MANIFEST:
                yield path.removesuffix("/") or ".", status

    def _entries(self, below: str) -> list[tuple[str, str | None]]:
        """What is in a folder, the last first, folders with a slash. They sort as their files."""
        try:
            with os.scandir(self.path / below) as found:
                # Links are not followed: they may lead out of the folder, or round in circles.
                entries = [
                    (f"{below}{e.name}/", None)
                    if e.is_dir(follow_symlinks=False)
                    else (below + e.name, _kind(e))
                    for e in found
                ]
        except PermissionError:
            return [(below, "no-permission")]
        except FileNotFoundError:
            return [(below, "vanished")]
        except OSError:
            return [(below, "unreadable")]
        return sorted(entries, reverse=True)

    def open(self, file: str) -> BinaryIO:
        return (self.path / file).open("rb")


def _kind(entry: os.DirEntry[str]) -> str | None:
    if entry.is_symlink():
        return "link"
    return None if entry.is_file(follow_symlinks=False) else "not-a-file"


@dataclass(frozen=True)
class Bucket:
    """The objects below `s3://bucket/prefix`."""

    url: str

    def files(self) -> Iterator[tuple[str, str | None]]:
        return ((obj.path, None) for obj in s3.list_objects(self.url) if obj.path != MANIFEST)

    def open(self, file: str) -> BinaryIO:
        return s3.open_object(self.url, file)


def open_root(place: str) -> Root:
    """The folder, or the `s3://bucket/prefix`, that photographs lie in."""
    return Bucket(place) if place.startswith("s3://") else Folder(Path(place))


def safe_name(path: str) -> str:
    """A path that is UTF-8: bytes that aren't are written %XX, as in a URL.

    Args:
        path: as `os.fsdecode` gives it. One that is UTF-8 comes back as it is.

    >>> safe_name(os.fsdecode(b"caf\\xe9.jpg"))
    'caf%E9.jpg'
    """
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        # Percent signs too, so that no two names become one.
        return "".join(quote(os.fsencode(c)) if _escaped(c) else c for c in path)
    return path


def _escaped(character: str) -> bool:
    return character == "%" or "\udc80" <= character <= "\udcff"


def shown(path: str) -> str:
    """A path on one line, whatever is in it."""
    return path if path.isprintable() else repr(path)
