"""The members of a zip, as far as they can be found (APPNOTE.TXT; Info-ZIP reads the same).

Not `zipfile`: one member with an invalid name or extra field makes it refuse the whole archive, and
it does not read archives over 4 GiB by macOS, whose fields are cut to 32 bits.
"""

import os
import stat
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from facegan.photos.inputs import Span, Unusable

# Of the local header, only the lengths of name and extra field are used.
LOCAL = struct.Struct("<4s22xHH")
CENTRAL = struct.Struct("<4s4xHH4xIIIHHH4xII")
END = struct.Struct("<4sHHHHIIH")
END64, LOCATOR = struct.Struct("<4s12xIIQQQQ"), struct.Struct("<4s4xQ4x")
WRAP = 2**32
UTF8, ENCRYPTED = 0x800, 1


@dataclass
class Member:
    """One member; `name` as by `os.fsdecode`."""

    name: str
    span: Span
    encrypted: bool
    link: bool


@dataclass(frozen=True)
class _Directory:
    """Where the central directory is, and how many bytes precede the archive."""

    start: int
    end: int
    shift: int
    is_wrapped: bool


def members(stream: BinaryIO) -> Iterator[Member]:
    """The members in the order of the central directory, without folders.

    Raises:
        Unusable: if there is no central directory, or it ends early; after the members before.
    """
    directory = _find_directory(stream)
    found = _central(stream, directory)
    for member in _unwrapped(stream, found, directory) if directory.is_wrapped else found:
        if not member.name.endswith("/"):
            yield member


def skip_local_header(stream: BinaryIO) -> bool:
    """Move to a member's data; False if there is no local header here."""
    header = stream.read(LOCAL.size)
    if len(header) < LOCAL.size or not header.startswith(b"PK\x03\x04"):
        return False
    _, name, extra = LOCAL.unpack(header)
    stream.seek(name + extra, os.SEEK_CUR)
    return True


def _find_directory(stream: BinaryIO) -> _Directory:
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - END.size - 2**16))
    tail = stream.read()
    at = _find_end(tail)
    if at < 0:
        stream.seek(0)
        # The directory is at the end of a zip, so a truncated one has none.
        raise Unusable("truncated" if stream.read(4) == b"PK\x03\x04" else "unreadable")
    _, disk, first_disk, _, _, length, offset, _ = END.unpack_from(tail, at)
    end = size - len(tail) + at
    if at >= LOCATOR.size and tail[at - LOCATOR.size : at].startswith(b"PK\x06\x07"):
        (_, end64) = LOCATOR.unpack_from(tail, at - LOCATOR.size)
        end, length, offset = _end64(stream, end64, end - LOCATOR.size)
    elif (disk or first_disk) not in (0, 0xFFFF):
        raise Unusable("unsupported-split-zip")
    start = end - length
    if start < 0:
        raise Unusable("unreadable")
    shift = start - offset
    wrapped = shift > 0 and shift % WRAP == 0
    if shift < 0 or not _is_entry(stream, start, end):
        start, shift = offset, 0  # something is between the directory and its end
        if not _is_entry(stream, start, end):
            raise Unusable("unreadable")
    # The shift is 0 where only the directory's own offset fits into 32 bits.
    return _Directory(start, end, 0 if wrapped else shift, wrapped)


def _find_end(tail: bytes) -> int:
    """Position of the end record, -1 if there is none.

    The last one that states how many bytes follow: a comment may contain others. The last of all
    if none does, as in a zip with bytes behind it.
    """
    last = at = tail.rfind(b"PK\x05\x06", 0, len(tail) - END.size + 4)
    while at >= 0:
        if at + END.size + END.unpack_from(tail, at)[-1] == len(tail):
            return at
        at = tail.rfind(b"PK\x05\x06", 0, at)
    return last


def _end64(stream: BinaryIO, offset: int, locator: int) -> tuple[int, int, int]:
    """Position of the zip64 end record, length and offset of the directory."""
    for position in (offset, locator - END64.size):  # the second if bytes precede the archive
        stream.seek(max(0, position))
        record = stream.read(END64.size)
        if len(record) == END64.size and record.startswith(b"PK\x06\x06"):
            *_, length, start = END64.unpack(record)
            return max(0, position), length, start
    raise Unusable("unreadable")


def _is_entry(stream: BinaryIO, start: int, end: int) -> bool:
    stream.seek(start)
    return start == end or stream.read(4) == b"PK\x01\x02"


def _central(stream: BinaryIO, directory: _Directory) -> Iterator[Member]:
    """The entries of the central directory; offsets as stated."""
    position = directory.start
    while position < directory.end:
        stream.seek(position)
        header = stream.read(CENTRAL.size)
        if len(header) < CENTRAL.size or not header.startswith(b"PK\x01\x02"):
            raise Unusable("truncated")
        (_, flags, method, crc, packed, size, name, extra, comment, external, offset) = (
            CENTRAL.unpack(header)
        )
        raw, fields = stream.read(name), stream.read(extra)
        position += CENTRAL.size + name + extra + comment
        size, packed, offset = _zip64(fields, [size, packed, offset])
        link = stat.S_ISLNK(external >> 16)  # the upper half is the Unix mode
        span = Span(offset + directory.shift, packed, size, method, crc)
        yield Member(_name(raw, flags), span, bool(flags & ENCRYPTED), link)


def _name(raw: bytes, flags: int) -> str:
    """UTF-8 wherever it is valid, since macOS does not set the flag; else what the flag says."""
    raw = raw.partition(b"\0")[0]
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return os.fsdecode(raw) if flags & UTF8 else raw.decode("cp437")


def _zip64(extra: bytes, numbers: list[int]) -> list[int]:
    """Size, compressed size and offset: those of 0xFFFFFFFF are in the extra field."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        if kind == 1:
            wide = iter(struct.unpack_from(f"<{min(length, len(extra) - 4) // 8}Q", extra, 4))
            return [next(wide, n) if n == WRAP - 1 else n for n in numbers]
        extra = extra[4 + length :]
    return numbers


def _unwrapped(
    stream: BinaryIO, found: Iterator[Member], directory: _Directory
) -> Iterator[Member]:
    """Members with offsets and sizes above 4 GiB restored: they are in the order of the file."""
    before: Member | None = None
    for member in found:
        start = before.span.offset + LOCAL.size if before else 0
        offset = start + (member.span.offset - start) % WRAP
        while offset < directory.start and not _is_header(stream, offset, member.name):
            offset += WRAP
        member.span = member.span._replace(offset=offset)
        if before:
            yield _lengthened(before, offset)
        before = member
    if before:
        yield _lengthened(before, directory.start)


def _is_header(stream: BinaryIO, offset: int, name: str) -> bool:
    stream.seek(offset)
    header = stream.read(LOCAL.size)
    if len(header) < LOCAL.size or not header.startswith(b"PK\x03\x04"):
        return False
    _, length, _ = LOCAL.unpack(header)
    return _name(stream.read(length), 0) == _name(os.fsencode(name), 0)


def _lengthened(member: Member, end: int) -> Member:
    """A member with its sizes, given where the next one starts."""
    wraps = max(0, (end - member.span.offset - member.span.length) // WRAP)
    stored = member.span.method == zipfile.ZIP_STORED
    packed = member.span.length + wraps * WRAP
    size = packed if stored else max(member.span.size, packed if wraps else 0)
    member.span = member.span._replace(length=packed, size=size)
    return member
