import io
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest

from facegan.photos import discovery, zips
from facegan.photos.inputs import Folder, Unusable
from samples import read_input, zipped

MEMBERS = {f"{n}.jpg": bytes([n]) * 100 for n in range(5)}
WRAP = 2**32


def listed(content: bytes) -> dict[str, bytes | str]:
    """Name -> bytes of each member, or the status of the archive."""
    stream, found = io.BytesIO(content), dict[str, bytes | str]()
    try:
        for member in zips.members(stream):
            stream.seek(member.span.offset)
            assert zips.skip_local_header(stream)
            stored = stream.read(member.span.length)
            deflated = member.span.method == zipfile.ZIP_DEFLATED
            found[member.name] = zlib.decompress(stored, -15) if deflated else stored
    except Unusable as error:
        found[""] = str(error)
    return found


def one(name: str = "x.jpg", extra: bytes = b"", comment: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for member, content in MEMBERS.items():
            archive.writestr(member, content)
        info = zipfile.ZipInfo(name)
        info.extra, info.comment = extra, comment
        archive.writestr(info, b"x")
    return buffer.getvalue()


@pytest.mark.parametrize("options", [{}, {"method": zipfile.ZIP_STORED}])
def test_members_are_those_of_zipfile(options: dict[str, Any]) -> None:
    assert listed(zipped(MEMBERS, **options)) == MEMBERS
    assert listed(zipped({})) == {}


def test_one_name_that_is_not_utf8_costs_nothing() -> None:
    content = one("Jos\u00e9.jpg").replace("Jos\u00e9.jpg".encode(), b"Jos\xe9X.jpg")
    assert listed(content) == MEMBERS | {os.fsdecode(b"Jos\xe9X.jpg"): b"x"}


@pytest.mark.parametrize(
    ("raw", "name"),
    [(b"caf\xc3\xa9.jpg", "caf\u00e9.jpg"), (b"caf\x82_.jpg", "caf\u00e9_.jpg")],
    ids=["UTF-8", "cp437"],
)
def test_names_without_the_flag_are_utf8_if_valid(raw: bytes, name: str) -> None:
    content = one("Aaaaa.jpg").replace(b"Aaaaa.jpg", raw)
    assert listed(content) == MEMBERS | {name: b"x"}


@pytest.mark.parametrize("length", [0, 3, 5, 40, 65535])
def test_an_extra_field_of_a_wrong_length_costs_nothing(length: int) -> None:
    marker = struct.pack("<HH", 0xBEEF, 4) + b"abcd"
    content = one(extra=marker).replace(marker, struct.pack("<HH", 0xBEEF, length) + b"abcd")
    assert listed(content) == MEMBERS | {"x.jpg": b"x"}


def test_a_comment_may_contain_an_end_record() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", b"a")
        archive.comment = b"PK\x05\x06"
    assert listed(buffer.getvalue()) == {"a": b"a"}
    for comment in (b"PK\x05\x06" * 9, b"made by PK\x05\x06, which is a good program"):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("x.jpg", b"x")
            archive.comment = comment
        assert listed(buffer.getvalue()) == {"x.jpg": b"x"}
    assert listed(one(comment=b"PK\x05\x06" * 9)) == MEMBERS | {"x.jpg": b"x"}


def test_bytes_before_and_after_the_archive_are_ignored() -> None:
    content = zipped(MEMBERS)
    assert listed(b"#!/bin/sh\n" * 99 + content) == MEMBERS
    assert listed(content + bytes(1000)) == MEMBERS


def test_zip64_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 10)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)
    content = zipped(MEMBERS)
    assert b"PK\x06\x06" in content
    assert listed(content) == MEMBERS
    assert listed(b"before" + content) == MEMBERS


def test_a_damaged_directory_gives_the_members_before_and_a_status() -> None:
    content = zipped(MEMBERS)
    third = content.index(
        b"PK\x01\x02", content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 1) + 1
    )
    damaged = content[:third] + b"XX" + content[third + 2 :]
    assert listed(damaged) == {
        "0.jpg": MEMBERS["0.jpg"],
        "1.jpg": MEMBERS["1.jpg"],
        "": "truncated",
    }


def test_a_part_of_a_split_zip_is_named() -> None:
    content = bytearray(zipped(MEMBERS))
    struct.pack_into("<HH", content, content.rindex(b"PK\x05\x06") + 4, 2, 2)
    assert listed(bytes(content)) == {"": "unsupported-split-zip"}


def macos_zip(path: Path, sizes: list[int | bytes]) -> None:
    """A zip as macOS writes it: above 4 GiB, fields are cut to 32 bits. A number is the size of a
    video, a hole in the file."""
    central = b""
    with path.open("wb") as file:
        for number, content in enumerate(sizes):
            name = f"{number}.{'mov' if isinstance(content, int) else 'jpg'}".encode()
            size = content if isinstance(content, int) else len(content)
            crc = 0 if isinstance(content, int) else zlib.crc32(content)
            at = file.tell()
            fields = struct.pack("<HHHHHIII", 10, 0, 0, 0, 0, crc, size % WRAP, size % WRAP)
            file.write(b"PK\x03\x04" + fields + struct.pack("<HH", len(name), 0) + name)
            if isinstance(content, int):
                file.write(b"\0\0\0\x14ftypqt  ")
                file.seek(size - 12, os.SEEK_CUR)
            else:
                file.write(content)
            central += b"PK\x01\x02" + struct.pack("<H", 0x315) + fields
            central += (
                struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0o100644 << 16, at % WRAP) + name
            )
        start = file.tell()
        file.write(
            central
            + b"PK\x05\x06"
            + struct.pack("<HHHHIIH", 0, 0, len(sizes), len(sizes), len(central), start % WRAP, 0)
        )


@pytest.mark.parametrize(
    "sizes",
    [
        [b"a", 4_500_000_000, b"b"],
        [4_500_000_000, b"a", 4_500_000_000, b"b"],
        [b"a", 9_000_000_000, b"b", b"c"],
        [b"a", 2_000_000_000, 2_000_000_000, 2_000_000_000, b"b"],
        [b"a", 4_200_000_000, b"b"],
        [b"a", 4_500_000_000],
    ],
    ids=str,
)
def test_a_zip_over_4_gib_by_macos_is_read(sizes: list[int | bytes], tmp_path: Path) -> None:
    macos_zip(tmp_path / "a.zip", sizes)
    root = Folder(tmp_path)
    found = list[bytes | str]()
    for item in discovery.find(root):
        try:
            found.append(read_input(root, item))
        except Unusable as error:
            found.append(str(error))
    assert found == ["video" if isinstance(size, int) else size for size in sizes]
