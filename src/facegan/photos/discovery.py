"""Every input below a root, in order, and its bytes."""

import os
from collections.abc import Iterator
from typing import BinaryIO

from facegan.core.parsing import parse_json
from facegan.photos import archives, formats, idx
from facegan.photos.copies import is_machine_made
from facegan.photos.inputs import MANIFEST, REPOSITORY, Input, Root, Unusable, safe_name

# Bytes above which a file's first bytes are looked at before it is read.
LARGE = 2**24


def find(root: Root) -> Iterator[Input]:
    """All inputs: sorted by file, within a file in its own order; last those that `fetch` skipped.

    Raises:
        FaceganError: if the root does not exist.
    """
    for item in _find(root):
        is_copy = is_machine_made(item.path)
        yield item._replace(status="machine-made", content=None) if is_copy else item


def _find(root: Root) -> Iterator[Input]:
    for file, status in root.files():
        if status == REPOSITORY:  # DVC does not record it: the index may not depend on it
            continue
        if status is not None:
            yield Input(safe_name(file), file, status=status)
        elif archives.is_archive(file) or archives.is_renamed(root, file):
            yield from archives.members(root, file)
        elif not file.lower().endswith(formats.ENCODED) and idx.is_idx(root, file):
            yield from idx.images(root, file)
        else:
            yield Input(safe_name(file), file)
    for path, status in manifest(root).get("skipped", {}).items():
        if status != REPOSITORY:
            yield Input(path, path, status=status)


def count(root: Root) -> int:
    """The number of inputs that `find` yields."""
    return sum(1 for _ in find(root))


def manifest(root: Root) -> dict[str, dict[str, str]]:
    """What `fetch` recorded about the folder; empty if it was not written by `fetch`."""
    try:
        with root.open(MANIFEST) as stream:
            content = parse_json(stream.read())
        return {k: dict(content.get(k, {})) for k in ("originals", "skipped")}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


class Reader:
    """Reads inputs. Keeps the last archive open, because its members are read consecutively."""

    def __init__(self, root: Root) -> None:
        self.root, self.file = root, ""
        self.stream: BinaryIO | None = None

    def read(self, item: Input) -> bytes:
        """The bytes of an input: an encoded file, or an IDX image's pixels.

        Raises:
            Unusable: if they cannot be read.
        """
        if item.status is not None:
            raise Unusable(item.status)
        if item.content is not None:
            return item.content
        try:
            if item.span is not None:
                return archives.read_span(self._open(item.file), item.span)
            with self.root.open(item.file) as stream:
                return _read_all(stream, item.path)
        except FileNotFoundError:
            raise Unusable("vanished") from None
        except PermissionError:
            raise Unusable("no-permission") from None
        except (OSError, ValueError, OverflowError):  # an archive with an implausible offset
            raise Unusable("unreadable") from None

    def _open(self, file: str) -> BinaryIO:
        if self.stream is None or file != self.file:
            self.close()
            self.stream, self.file = self.root.open(file), file
        return self.stream

    def close(self) -> None:
        if self.stream is not None:
            self.stream.close()
            self.stream = None


def _read_all(stream: BinaryIO, path: str) -> bytes:
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    if size > LARGE:
        head = stream.read(formats.HEAD)
        status = formats.status_of_unread(head, path)
        is_known = formats.decoded_format(head) or status == "unreadable"
        if size > archives.MAX_BYTES and is_known:
            raise Unusable("bomb")
        if not formats.decoded_format(head):
            raise Unusable(status)
        stream.seek(0)
    return stream.read()
