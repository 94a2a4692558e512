"""Zip and tar archives, read in place: nothing is unpacked to disk."""

import gzip
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, BinaryIO, Literal, Self, cast

from facegan.photos.inputs import Input, Root, Span, Unusable, safe_name

PLAIN_TAR, STREAMED_TAR = (".tar",), (".tar.gz", ".tgz")
SUFFIXES = (".zip", *PLAIN_TAR, *STREAMED_TAR)
# Bytes of one encoded photograph; anything larger is treated as a decompression bomb.
MAX_BYTES = 2**29
# Types of tar headers that carry the next member's name, and the limit of their bytes.
LONG_NAMES, MAX_NAME = (b"L", b"K", b"x", b"g", b"X"), 2**20
# A larger stated size is invalid: tarfile would search for the member's end forever.
MAX_MEMBER = 2**36
# Local header of a zip member (APPNOTE.TXT 4.3.7): lengths of name and extra field.
LOCAL_HEADER = struct.Struct("<4s22xHH")


def is_archive(file: str) -> bool:
    return file.lower().endswith(SUFFIXES)


def members(root: Root, file: str) -> Iterator[Input]:
    """The inputs in an archive, in archive order. Read errors become an input with a status."""
    try:
        with root.open(file) as stream:
            if file.lower().endswith(".zip"):
                yield from _zip_members(stream, file)
            else:
                yield from _tar_members(stream, file)
    except FileNotFoundError:
        yield Input(safe_name(file), file, status="vanished")
    except PermissionError:
        yield Input(safe_name(file), file, status="no-permission")
    except Exception:  # corrupt bytes make tarfile and zipfile raise almost anything
        yield Input(safe_name(file), file, status="unreadable")


def _zip_members(stream: BinaryIO, file: str) -> Iterator[Input]:
    with zipfile.ZipFile(stream) as archive:
        infos = archive.infolist()
    for info in infos:
        if info.is_dir():
            continue
        span = Span(
            info.header_offset, info.compress_size, info.file_size, info.compress_type, info.CRC
        )
        path = safe_name(f"{file}/{info.filename}")
        yield Input(path, file, span, status=_zip_status(info))


def _zip_status(info: zipfile.ZipInfo) -> str | None:
    if stat.S_ISLNK(info.external_attr >> 16):  # the upper half is the Unix mode
        return "link"
    if info.flag_bits & 1:
        return "encrypted"
    return _status(info.filename, max(info.file_size, info.compress_size))


class _StrictHeader(tarfile.TarInfo):
    """Rejects what tarfile accepts: a corrupt header as the end, and names of any length."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if buf == bytes(tarfile.BLOCKSIZE):
                raise  # the empty blocks at the end of an archive
            raise tarfile.ReadError(str(error)) from None
        limit = MAX_NAME if header.type in LONG_NAMES else MAX_MEMBER
        if not 0 <= header.size <= limit:
            raise tarfile.ReadError("implausible size")
        return header


def _tar_members(stream: BinaryIO, file: str) -> Iterator[Input]:
    streamed = file.lower().endswith(STREAMED_TAR)
    # Not tarfile's own gzip, which stops after the first of several gzip members.
    plain = cast(IO[bytes], gzip.GzipFile(fileobj=stream)) if streamed else stream
    mode: Literal["r|", "r:"] = "r|" if streamed else "r:"
    with tarfile.open(fileobj=plain, mode=mode, tarinfo=_StrictHeader) as archive:
        for info in archive:
            archive.members = []  # type: ignore[attr-defined]  # it would keep every member in memory
            if info.size < 0 or archive.offset <= info.offset:  # possible with a pax header
                raise tarfile.ReadError("points back to what was read")
            if not 0 <= info.size <= MAX_MEMBER:  # stated by a header before the member's own
                raise tarfile.ReadError("implausible size")
            if not info.isdir():
                yield _tar_member(archive, info, file, streamed)
    while streamed and plain.read(2**20):
        pass  # up to gzip's checksum, which is verified


def _tar_member(
    archive: tarfile.TarFile, info: tarfile.TarInfo, file: str, streamed: bool
) -> Input:
    status = _status(info.name, info.size)
    if info.issym() or info.islnk():
        status = "link"
    elif not info.isreg() or info.issparse():
        status = "not-a-file"
    content = None
    if streamed and status is None:
        member = archive.extractfile(info)
        content = member.read() if member else b""
        if len(content) != info.size:
            content, status = None, "truncated"
    path, span = safe_name(f"{file}/{info.name}"), Span(info.offset_data, info.size, info.size)
    return Input(path, file, span, content, status=status)


def _status(name: str, size: int) -> str | None:
    if is_archive(name):
        return "nested-archive"
    return "bomb" if size > MAX_BYTES else None


def read_span(stream: BinaryIO, span: Span) -> bytes:
    """The bytes of a member or of part of a file, inflated.

    Raises:
        Unusable: if they are truncated, corrupt or compressed in an unsupported way.
    """
    stream.seek(span.offset)
    if span.method is not None:
        header = stream.read(LOCAL_HEADER.size)
        if len(header) < LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
            raise Unusable("unreadable")
        _, name, extra = LOCAL_HEADER.unpack(header)
        stream.seek(name + extra, 1)
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
        raise Unusable("unreadable")
    try:
        # Bounded, because the size stated in an archive may be wrong.
        content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(stored, span.size + 1)
    except zlib.error:
        raise Unusable("unreadable") from None
    if len(content) != span.size:
        raise Unusable("unreadable")
    return content
