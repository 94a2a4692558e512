"""Inputs, and where they are: a local folder or a bucket."""

import errno
import fnmatch
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol
from urllib.parse import quote

from facegan.core.errors import FaceganError
from facegan.photos import s3
from facegan.photos.formats import DATA, DATA_NAMES

# Written by `fetch` into the folder; not an input.
MANIFEST = "source.json"
# Version control's own files, of which DVC records nothing, or which it refuses. `.dvc` hides the
# whole folder around it from DVC. Their objects are not photographs.
REPOSITORY_NAMES = frozenset(
    (".bzr", ".dvc", ".dvcignore", ".git", ".hg", ".jj", ".svn", "CVS", "_darcs")
)
# Statuses of inputs that are no photographs, and stop nothing.
OTHERS = ("not-an-image", "video", "machine-made", *DATA.values(), *DATA_NAMES)
REPOSITORY = "repository"  # the status of a file or folder with such a name
# Written by file managers and network drives into folders that they show. `.dvcignore` has the
# same patterns, so that DVC sees no change either.
CLUTTER = (
    *(".DS_Store", "._*", ".AppleDouble", ".Spotlight-V100", ".Trashes", ".fseventsd"),
    *("[Tt]humbs.db", "ehthumbs.db", "[Dd]esktop.ini", ".directory", ".nfs*"),
)
_clutter = re.compile("|".join(map(fnmatch.translate, CLUTTER)))
# Bytes of a name, on every common file system; and of a suffix that is kept when it is shortened.
MAX_PART, MAX_SUFFIX = 255, 12
# How parts of a path are stored that would leave the folder or are no names.
ESCAPED_PARTS = {"": "%", ".": "%2E", "..": "%2E%2E"}


class Span(NamedTuple):
    """Where in a file an input's bytes are.

    Attributes:
        offset: of the first byte; of the local header for a zip member.
        length: bytes as stored.
        size: bytes once inflated.
        method: the zip compression method, 0 (stored) or 8 (deflated); None outside zips.
        crc: the CRC-32 recorded in the zip.
    """

    offset: int
    length: int
    size: int
    method: int | None = None
    crc: int = 0


class Input(NamedTuple):
    """One input, not yet decoded. A tuple, because tuples pickle fastest.

    Attributes:
        path: relative to the root; `archive.zip/member`, `file-idx3-ubyte#7`.
        file: the file that contains it, relative to the root.
        span: the part of that file; None for all of it.
        content: its bytes if already read, as from a stream, which can be read only once.
        shape: (height, width) of raw grey pixels; None for an encoded image.
        status: why it is unusable, if known without reading it.
    """

    path: str
    file: str
    span: Span | None = None
    content: bytes | None = None
    shape: tuple[int, int] | None = None
    status: str | None = None


class Unusable(Exception):
    """An input is not a usable photograph. The message is its status in the index."""


class Root(Protocol):
    """Where photographs are. Workers get a copy and read the files themselves."""

    def files(self) -> Iterator[tuple[str, str | None]]:
        """Every file, sorted by path, with a status if it cannot contain photographs.

        Without what file managers write. A repository's own folder is one entry.
        """

    def open(self, file: str) -> BinaryIO:
        """A file, open for reading and seeking."""


@dataclass(frozen=True)
class Folder:
    """A local folder."""

    path: Path

    def files(self) -> Iterator[tuple[str, str | None]]:
        if not self.path.is_dir():
            raise FaceganError(f"{self.path}: no such folder; get photographs with: facegan fetch")
        return self._walk()

    def _walk(self) -> Iterator[tuple[str, str | None]]:
        stack: list[tuple[str, str | None]] = [("", None)]  # a stack; the next path is last
        while stack:
            path, status = stack.pop()
            if status is None and (not path or path.endswith("/")):
                stack += self._entries(path)
            elif path != MANIFEST:
                yield path.removesuffix("/") or ".", status

    def _entries(self, below: str) -> list[tuple[str, str | None]]:
        """A folder's entries, reversed; folders end in a slash, to sort as their files do."""
        try:
            with os.scandir(self.path / below) as scanned:
                # As DVC does: links to files are read, links to folders are not followed.
                entries = [
                    (f"{below}{e.name}/", None)
                    if e.is_dir(follow_symlinks=False) and e.name not in REPOSITORY_NAMES
                    else (below + e.name, _kind(e))
                    for e in scanned
                    if not is_clutter(e.name)
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
    if entry.name in REPOSITORY_NAMES:
        return REPOSITORY
    with suppress(OSError):  # a cycle of links, a target without permission
        if entry.is_file():
            return None
    return "link" if entry.is_symlink() else "not-a-file"


def is_clutter(path: str) -> bool:
    """Whether a relative path is, or is below, what a file manager wrote."""
    return any(map(_clutter.match, path.split("/")))


def repository_of(path: str) -> str | None:
    """The part of a relative path that is a repository's own; None if no part is.

    >>> repository_of("faces/.git/objects/1a")
    'faces/.git'
    """
    parts = path.split("/")
    ends = (n for n, part in enumerate(parts, start=1) if part in REPOSITORY_NAMES)
    end = next(ends, None)
    return None if end is None else "/".join(parts[:end])


@dataclass(frozen=True)
class SingleFile:
    """A local file: an archive, an IDX file or an image."""

    path: Path

    def files(self) -> Iterator[tuple[str, str | None]]:
        yield self.path.name, None

    def open(self, file: str) -> BinaryIO:
        if file != self.path.name:
            raise FileNotFoundError(errno.ENOENT, "not found", file)
        return self.path.open("rb")


@dataclass(frozen=True)
class Bucket:
    """The objects below `s3://bucket/prefix`."""

    url: str

    def files(self) -> Iterator[tuple[str, str | None]]:
        for obj in s3.list_objects(self.url):
            if obj.path != MANIFEST and not is_clutter(obj.path):
                yield obj.path, REPOSITORY if repository_of(obj.path) else obj.status

    def open(self, file: str) -> BinaryIO:
        return s3.open_object(self.url, file)


def open_root(address: str) -> Root:
    """The root for a folder's path or `s3://bucket/prefix`."""
    return Bucket(address) if address.startswith("s3://") else Folder(Path(address))


def safe_name(path: str) -> str:
    """Make a path valid UTF-8: other bytes are written as %XX, as in a URL.

    Args:
        path: as returned by `os.fsdecode`. Valid UTF-8 is returned unchanged.

    >>> safe_name(os.fsdecode(b"caf\\xe9.jpg"))
    'caf%E9.jpg'
    """
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        # Percent signs too, so that names stay distinct.
        return "".join(quote(os.fsencode(c)) if _escaped(c) else c for c in path)
    return path


def stored_name(path: str) -> str:
    """The path in a folder under which any path or S3 key can be stored.

    Names that are longer than file systems allow are cut, with a hash to keep them distinct.

    >>> stored_name("a//../b.jpg")
    'a/%/%2E%2E/b.jpg'
    """
    return "/".join(map(_stored_part, safe_name(path).split("/")))


def _stored_part(part: str) -> str:
    part = ESCAPED_PARTS.get(part, part).replace("\0", "%00")
    raw = part.encode("utf-8")
    if len(raw) <= MAX_PART:
        return part
    _, dot, suffix = part.rpartition(".")
    kept = dot + suffix if len(suffix.encode("utf-8")) <= MAX_SUFFIX else ""
    kept = f"~{hashlib.sha256(raw).hexdigest()[:16]}{kept}"
    return raw[: MAX_PART - len(kept.encode("utf-8"))].decode("utf-8", "ignore") + kept


def _escaped(character: str) -> bool:
    return character == "%" or "\udc80" <= character <= "\udcff"


def shown(path: str) -> str:
    """A path for messages, always on one line."""
    return path if path.isprintable() else repr(path)
