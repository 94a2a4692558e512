"""Zip and tar archives, read in place: nothing is unpacked to disk."""

import gzip
import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, BinaryIO, ClassVar, Self, cast

from facegan.photos import formats, zips
from facegan.photos.inputs import Input, Root, Span, Unusable, safe_name

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
# Names without a suffix, or with one after that of an archive: photos.zip (1), photos.tgz.part.
RENAMED = re.compile(r"^\.?[^.]+$|\.(zip|tar|tgz)\b")
# Bytes of one encoded photograph; anything larger is treated as a decompression bomb.
MAX_BYTES = 2**29
# Types of tar headers that carry the next member's name, and the limit of their bytes.
LONG_NAMES, MAX_NAME = (b"L", b"K", b"x", b"g", b"X"), 2**20
# What `frombuf` raises for an empty block; typeshed lacks it.
EndBlock: type[tarfile.HeaderError] = tarfile.EOFHeaderError  # type: ignore[attr-defined]
# Bytes of a tar without members, as tars are padded.
EMPTY_TAR = tarfile.RECORDSIZE
# A larger stated size is invalid: tarfile would search for the member's end forever.
MAX_MEMBER = 2**36


def is_archive(file: str) -> bool:
    return file.lower().endswith(SUFFIXES)


def is_renamed(root: Root, file: str) -> bool:
    """Whether a file is an archive by its first bytes, and its name does not contradict.

    Other names are not looked at, because many documents are zips.
    """
    name = file.lower().rpartition("/")[2]
    if RENAMED.search(name) is None or formats.SPLIT.search(name):
        return False
    try:
        with root.open(file) as stream:
            head = stream.read(formats.HEAD)
    except OSError:
        return False
    is_gzipped = head.startswith(b"\x1f\x8b") and "." in name
    return is_gzipped or head.startswith(b"PK\x03\x04") or head[257:262] == b"ustar"


def members(root: Root, file: str) -> Iterator[Input]:
    """The inputs in an archive, in archive order. Read errors become an input with a status.

    The first bytes decide how it is read, because suffixes are often wrong.
    """
    try:
        with root.open(file) as stream:
            head = stream.read(formats.HEAD)
            size = stream.seek(0, os.SEEK_END)
            stream.seek(0)
            if head and not any(head) and not (file.lower().endswith(".tar") and size <= EMPTY_TAR):
                raise Unusable("unreadable")  # a download that wrote nothing into its file
            if head.startswith(b"\x1f\x8b"):
                yield from _tar_members(stream, file, is_gzipped=True)
            elif _is_tar(head):
                yield from _tar_members(stream, file, is_gzipped=False)
            elif (status := formats.status_of_unread(head, f"{file}.7z")) != "unreadable":
                raise Unusable(status)
            elif head.startswith(b"PK") or file.lower().endswith(".zip"):
                yield from _zip_members(stream, file)
            else:
                raise Unusable("unreadable")
    except FileNotFoundError:
        yield Input(safe_name(file), file, status="vanished")
    except PermissionError:
        yield Input(safe_name(file), file, status="no-permission")
    except Unusable as error:
        yield Input(safe_name(file), file, status=str(error))
    except Exception:  # corrupt bytes make tarfile raise almost anything
        yield Input(safe_name(file), file, status="unreadable")


def _is_tar(head: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(head[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except EndBlock:
        return len(head) >= 2 * tarfile.BLOCKSIZE  # an empty tar
    except (tarfile.HeaderError, ValueError):
        return head[257:262] == b"ustar"
    return True


def _zip_members(stream: BinaryIO, file: str) -> Iterator[Input]:
    for member in zips.members(stream):
        path = safe_name(f"{file}/{member.name}")
        yield Input(path, file, member.span, status=_zip_status(stream, member))


def _zip_status(stream: BinaryIO, member: zips.Member) -> str | None:
    if member.link:
        return "link"
    if member.encrypted:
        return "encrypted"
    if is_archive(member.name):
        return "nested-archive"
    if max(member.span.size, member.span.length) <= MAX_BYTES:
        return None
    return _status_of_large(_zip_head(stream, member.span), member.name)


def _zip_head(stream: BinaryIO, span: Span) -> bytes:
    """The first bytes of a member; none if they cannot be read."""
    try:
        stream.seek(span.offset)
        if not zips.skip_local_header(stream):
            return b""
        stored = stream.read(min(span.length, formats.HEAD))
        if span.method != zipfile.ZIP_DEFLATED:
            return stored
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(stored, formats.HEAD)
    except (OSError, ValueError, OverflowError, zlib.error):
        return b""


def _status_of_large(head: bytes, name: str) -> str:
    """The status of an input above `MAX_BYTES`: only a photograph can be a bomb."""
    status = formats.status_of_unread(head, name)
    if formats.decoded_format(head) or status == "unreadable":
        return "bomb"
    return status


class _StrictHeader(tarfile.TarInfo):
    """Rejects what tarfile accepts: a corrupt header as the end, and names of any length.

    After the blocks that end an archive, anything but another archive joined to it is ignored.
    """

    has_ended: ClassVar[bool]  # of a subclass for each file

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            header = super().frombuf(buf, encoding, errors)
        except EndBlock:
            cls.has_ended = True
            raise
        except tarfile.HeaderError as error:
            if buf and cls.has_ended:
                raise EndBlock(str(error)) from None  # skipped like empty blocks
            if not buf and cls.has_ended:
                raise
            raise tarfile.ReadError(str(error)) from None
        cls.has_ended = False
        limit = MAX_NAME if header.type in LONG_NAMES else MAX_MEMBER
        if not 0 <= header.size <= limit:
            raise tarfile.ReadError("implausible size")
        return header


def _tar_members(stream: BinaryIO, file: str, is_gzipped: bool) -> Iterator[Input]:
    # Not tarfile's own gzip, which stops after the first of several gzip members.
    plain = cast(IO[bytes], gzip.GzipFile(fileobj=stream)) if is_gzipped else stream
    header = type("_Header", (_StrictHeader,), {"has_ended": False})
    names: set[int] = set()  # hashes, because names would fill the memory
    with tarfile.open(fileobj=plain, mode="r:", tarinfo=header, ignore_zeros=True) as archive:
        for info in archive:
            archive.members = []  # type: ignore[attr-defined]  # it would keep every member in memory
            if info.size < 0 or archive.offset <= info.offset:  # possible with a pax header
                raise tarfile.ReadError("points back to what was read")
            if not 0 <= info.size <= MAX_MEMBER:  # stated by a header before the member's own
                raise tarfile.ReadError("implausible size")
            if info.islnk() and hash(info.linkname) in names:
                status = f"duplicate of {safe_name(f'{file}/{info.linkname}')}"
                yield Input(safe_name(f"{file}/{info.name}"), file, status=status)
            elif not info.isdir():
                names.add(hash(info.name))
                yield _tar_member(archive, info, file, is_gzipped)
    while is_gzipped and plain.read(2**20):
        pass  # up to gzip's checksum, which is verified


def _tar_member(
    archive: tarfile.TarFile, info: tarfile.TarInfo, file: str, is_gzipped: bool
) -> Input:
    status = "nested-archive" if is_archive(info.name) else None
    if info.issym() or info.islnk():
        status = "link"
    elif not info.isreg() or info.issparse():
        status = "not-a-file"
    content = None
    if status is None and info.size > MAX_BYTES:
        member = archive.extractfile(info)
        status = _status_of_large(member.read(formats.HEAD) if member else b"", info.name)
    elif status is None and is_gzipped:
        member = archive.extractfile(info)
        content = member.read() if member else b""
        if len(content) != info.size:
            content, status = None, "truncated"
    path, span = safe_name(f"{file}/{info.name}"), Span(info.offset_data, info.size, info.size)
    return Input(path, file, span, content, status=status)


def read_span(stream: BinaryIO, span: Span) -> bytes:
    """The bytes of a member or of part of a file, inflated.

    Raises:
        Unusable: if they are truncated, corrupt or compressed in an unsupported way.
    """
    stream.seek(span.offset)
    if span.method is not None and not zips.skip_local_header(stream):
        raise Unusable("unreadable")
    stored = stream.read(span.length)
    if len(stored) < span.length:
        raise Unusable("truncated")
    content = _inflate(stored, span)
    if span.method is not None and zlib.crc32(content) != span.crc:
        raise Unusable("unreadable")
    return content


def _inflate(stored: bytes, span: Span) -> bytes:
    if span.method in (None, zipfile.ZIP_STORED):
        return stored
    if span.method != zipfile.ZIP_DEFLATED:
        raise Unusable("unsupported-compression")
    try:
        # Bounded, because the size stated in an archive may be wrong.
        content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(stored, span.size + 1)
    except zlib.error:
        raise Unusable("unreadable") from None
    if len(content) != span.size:
        raise Unusable("unreadable")
    return content
