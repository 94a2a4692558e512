import gzip
import io
import os
import signal
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facegan.core.errors import FaceganError
from facegan.photos import archives, discovery
from facegan.photos.inputs import Folder, Unusable
from samples import encoded, fill, noise, read_input, tarred, zipped

PHOTOGRAPHS = {f"{name}.png": encoded(noise(seed)) for seed, name in enumerate("abcd")}
ZIP, TAR = zipped(PHOTOGRAPHS), tarred(PHOTOGRAPHS)
TAR_GZ = gzip.compress(TAR)
KINDS = {"a.zip": ZIP, "a.tar": TAR, "a.tar.gz": TAR_GZ, "a.TGZ": TAR_GZ}
# Signatures of a zip's headers, and offsets of fields (APPNOTE.TXT 4.3.7, 4.3.12).
LOCAL, CENTRAL = b"PK\x03\x04", b"PK\x01\x02"
CENTRAL_FIELDS = {"version": 6, "flags": 8, "packed": 20, "size": 24, "offset": 42}


def read(name: str, content: bytes, folder: Path) -> dict[str, bytes | str]:
    """Path inside the archive -> bytes, or the status."""
    root = Folder(fill(folder / "data", {name: content}))
    found: dict[str, bytes | str] = {}
    for item in discovery.find(root):
        path = item.path.removeprefix(f"{name}/")
        assert path not in found
        try:
            found[path] = read_input(root, item)
        except Unusable as error:
            found[path] = str(error)
        path.encode("utf-8")
    return found


def patched(content: bytes, **values: int) -> bytes:
    """A zip whose central directory states other values for its first member."""
    changed, start = bytearray(content), content.index(CENTRAL)
    for field, value in values.items():
        kind = "<H" if field in ("version", "flags") else "<I"
        struct.pack_into(kind, changed, start + CENTRAL_FIELDS[field], value)
    return bytes(changed)


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.fixture(autouse=True)
def no_endless_loop() -> Iterator[None]:
    """A tar can point back to what was already read."""

    def stop(*_: object) -> None:
        pytest.fail("still reading")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", KINDS)
def test_an_archive_is_read_in_place(name: str, tmp_path: Path) -> None:
    assert read(name, KINDS[name], tmp_path) == PHOTOGRAPHS
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == [
        "data",
        f"data/{name}",
    ]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zips_members_are_stored_or_deflated(method: int, tmp_path: Path) -> None:
    assert read("a.zip", zipped(PHOTOGRAPHS, method), tmp_path) == PHOTOGRAPHS


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_with_another_compression_are_named(method: int, tmp_path: Path) -> None:
    expected = dict.fromkeys(PHOTOGRAPHS, "unsupported-compression")
    assert read("a.zip", zipped(PHOTOGRAPHS, method), tmp_path) == expected


def test_a_zip_with_bytes_prepended_is_read(tmp_path: Path) -> None:
    assert read("a.zip", b"#!/bin/sh\n" * 9 + ZIP, tmp_path) == PHOTOGRAPHS


def test_a_zip_written_to_a_pipe_is_read(tmp_path: Path) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def tell(self) -> int:
            raise OSError

    # Sizes and checksums then follow each member.
    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", PHOTOGRAPHS["a.png"])
    assert read("a.zip", pipe.getvalue(), tmp_path) == {"a.png": PHOTOGRAPHS["a.png"]}


def test_a_gzip_of_several_members_is_read_completely(tmp_path: Path) -> None:
    # As written by pigz, bgzip and `cat`.
    parts = [gzip.compress(TAR[start : start + 1000]) for start in range(0, len(TAR), 1000)]
    assert read("a.tar.gz", b"".join(parts), tmp_path) == PHOTOGRAPHS


@pytest.mark.parametrize("pack", [zipped, tarred], ids=["zip", "tar"])
def test_paths_that_leave_the_folder_are_only_names(
    pack: Callable[..., bytes], tmp_path: Path
) -> None:
    names = ["../up.png", "/abs.png", "../../../../tmp/facegan-escaped.png", "C:\\x.png"]
    content = pack(dict.fromkeys(names, PHOTOGRAPHS["a.png"]))
    name = f"a.{'zip' if pack is zipped else 'tar'}"
    assert read(name, content, tmp_path) == dict.fromkeys(names, PHOTOGRAPHS["a.png"])
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(["data", name])
    assert not Path("/tmp/facegan-escaped.png").exists() and not Path("/abs.png").exists()


def test_odd_names_in_archives_stay_distinct_and_become_utf8(tmp_path: Path) -> None:
    names = ["with space.png", "new\nline.png", "smile 😀.png", 'comma,"quote".png']
    expected = dict.fromkeys(names, b"x")
    assert read("a.zip", zipped(expected), tmp_path) == expected
    raw = os.fsdecode(b"caf\xe9.png")
    escaped = expected | {"caf%E9.png": b"x"}
    assert read("a.tar", tarred(expected | {raw: b"x"}), tmp_path / "tar") == escaped
    assert read("a.tgz", tarred(expected | {raw: b"x"}, "w:gz"), tmp_path / "tgz") == escaped


@pytest.mark.parametrize("suffix", ["zip", "tar", "tgz", "gz"])
def test_a_corrupt_archive_with_an_odd_name_is_listed_in_utf8(suffix: str, tmp_path: Path) -> None:
    broken = b"\x00\x00\x08\x03" if suffix == "gz" else b"broken"
    content = gzip.compress(broken) if suffix == "gz" else broken
    (found,) = read(os.fsdecode(b"caf\xe9.") + suffix, content, tmp_path).items()
    assert found == (f"caf%E9.{suffix}", "truncated" if suffix == "gz" else "unreadable")


def test_links_in_a_zip_get_a_status(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link.png")
    link.external_attr = 0o120777 << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(link, "/etc/passwd")
        archive.writestr("a.png", b"a")
    assert read("a.zip", buffer.getvalue(), tmp_path) == {"link.png": "link", "a.png": b"a"}


def test_encrypted_and_nested_members_get_a_status(tmp_path: Path) -> None:
    content = zipped({"secret.png": b"s", "b.zip": ZIP, "c.tar.gz": b"", "a.png": b"a"})
    content = patched(content, flags=1)
    assert read("a.zip", content, tmp_path) == {
        "secret.png": "encrypted",
        "b.zip": "nested-archive",
        "c.tar.gz": "nested-archive",
        "a.png": b"a",
    }


@pytest.mark.parametrize("name", ["a.tar", "a.tgz"])
def test_special_files_in_a_tar_get_a_status(name: str, tmp_path: Path) -> None:
    others = (
        special("symbolic.png", tarfile.SYMTYPE, "/etc/passwd"),
        special("hard.png", tarfile.LNKTYPE, "a.png"),
        special("/dev/sda", tarfile.BLKTYPE),
        special("null", tarfile.CHRTYPE),
        special("fifo.png", tarfile.FIFOTYPE),
        special("folder", tarfile.DIRTYPE),
        special("hole.png", tarfile.GNUTYPE_SPARSE),
    )
    mode = "w:gz" if name.endswith("gz") else "w"
    members = {"a.png": b"a", "b.zip": b"b"}
    assert read(name, tarred(members, mode, *others), tmp_path) == {
        "a.png": b"a",
        "b.zip": "nested-archive",
        "symbolic.png": "link",
        "hard.png": f"duplicate of {name}/a.png",
        "/dev/sda": "not-a-file",
        "null": "not-a-file",
        "fifo.png": "not-a-file",
        "hole.png": "not-a-file",
    }


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tgz"])
def test_a_decompression_bomb_is_never_inflated(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(archives, "MAX_BYTES", 10**6)
    members = {"bomb.bmp": bytes(10**7), "a.png": b"a"}
    content = {
        "a.zip": zipped(members),
        "a.tar": tarred(members),
        "a.tgz": tarred(members, "w:gz"),
    }[name]
    tracemalloc.start()
    found = read(name, content, tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == {"bomb.bmp": "bomb", "a.png": b"a"}
    assert peak < 8 * 10**6


@pytest.mark.parametrize("name", ["a.tar", "a.tgz"])
def test_memory_does_not_grow_with_the_members_of_a_tar(name: str, tmp_path: Path) -> None:
    content = tarred({f"{number}.png": b"" for number in range(6000)})
    content = gzip.compress(content, 1) if name == "a.tgz" else content
    root = Folder(fill(tmp_path / "data", {name: content}))
    tracemalloc.start()
    count = sum(1 for _ in archives.members(root, name))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 6000
    assert peak < 2 * 10**6


def test_the_limit_is_half_a_gibibyte(tmp_path: Path) -> None:
    zips = {
        2**29: "unreadable",  # the file is shorter
        2**29 + 1: "bomb",
        2**32 - 2: "bomb",
    }
    for size, status in zips.items():
        for field in ("size", "packed"):
            folder = tmp_path / f"{field}{size}"
            found = read("a.zip", patched(ZIP, **{field: size}), folder)
            few = {"unreadable", "truncated"}
            assert found["a.png"] in (few if status == "unreadable" else {status})
            assert {**found, "a.png": b""} == {**PHOTOGRAPHS, "a.png": b""}


def test_a_zip_is_never_inflated_beyond_its_stated_size(tmp_path: Path) -> None:
    thousandfold = zipped({"a.bmp": bytes(10**7)})
    assert len(thousandfold) < 10**7 / 900
    tracemalloc.start()
    found = read("a.zip", patched(thousandfold, size=1000), tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == {"a.bmp": "unreadable"}
    assert peak < 10**6


@pytest.mark.parametrize("field", ["size", "packed", "offset"])
@pytest.mark.parametrize("value", [0, 1, 2**31, 2**32 - 2])
def test_a_false_entry_in_a_zip_affects_only_its_member(
    field: str, value: int, tmp_path: Path
) -> None:
    # The first member's offset is 0, so that value is correct.
    content = patched(ZIP, **{field: value})
    found = read("a.zip", content, tmp_path)
    assert list(found) == list(PHOTOGRAPHS)
    wrong = [name for name in found if found[name] != PHOTOGRAPHS[name]]
    assert wrong == ([] if (field, value) == ("offset", 0) else ["a.png"])
    assert all(found[name] in ("unreadable", "truncated", "bomb") for name in wrong)


@pytest.mark.parametrize("field", ["size", "packed", "offset"])
@pytest.mark.parametrize("value", [2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1])
def test_a_false_zip64_entry_affects_only_its_member(
    field: str, value: int, tmp_path: Path
) -> None:
    info = zipfile.ZipInfo("a.png")
    zip64 = struct.pack("<HH", 1, 24)
    info.extra = zip64 + bytes(24)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(info, b"hello")
        archive.writestr("b.png", b"b")
    content = bytearray(
        patched(buffer.getvalue(), **dict.fromkeys(("size", "packed", "offset"), 2**32 - 1))
    )
    numbers = {"size": 5, "packed": 5, "offset": 0} | {field: value}
    struct.pack_into("<QQQ", content, content.rindex(zip64) + 4, *numbers.values())
    found = read("a.zip", bytes(content), tmp_path)
    assert found["b.png"] == b"b"
    assert found["a.png"] in ("unreadable", "truncated", "bomb")


def test_a_member_with_a_wrong_checksum_is_unreadable(tmp_path: Path) -> None:
    content = bytearray(zipped(PHOTOGRAPHS, zipfile.ZIP_STORED))
    content[content.index(PHOTOGRAPHS["b.png"]) + 20] ^= 1
    found = read("a.zip", bytes(content), tmp_path)
    assert found == PHOTOGRAPHS | {"b.png": "unreadable"}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("content", [b"", b"text", bytes(100), bytes(511)])
def test_a_file_that_is_an_archive_only_by_name_is_unreadable(
    name: str, content: bytes, tmp_path: Path
) -> None:
    assert read(name, content, tmp_path) == {name: "unreadable"}


@pytest.mark.parametrize("name", ["a.zip", "a.tgz", "a.tar.gz", "a.tar"])
def test_an_archive_of_nothing_but_zeros_is_unreadable(name: str, tmp_path: Path) -> None:
    data = fill(tmp_path / "data", {name: bytes(20480)})
    assert [(item.path, item.status) for item in discovery.find(Folder(data))] == [
        (name, "unreadable")
    ]


def test_an_empty_archive_has_no_inputs(tmp_path: Path) -> None:
    for name, content in {
        "a.zip": zipped({}),
        "a.tar": tarred({}),
        "a.tgz": tarred({}, "w:gz"),
    }.items():
        assert read(name, content, tmp_path / name) == {}


def is_accounted_for(found: dict[str, bytes | str], name: str) -> bool:
    """Whether a status accounts for what is missing of `PHOTOGRAPHS`."""
    whole = {path: value for path, value in found.items() if isinstance(value, bytes)}
    assert whole.items() <= PHOTOGRAPHS.items()
    others = {path: value for path, value in found.items() if isinstance(value, str)}
    assert others.keys() <= {name, *PHOTOGRAPHS}
    assert set(others.values()) <= {"unreadable", "truncated"}
    return bool(others) or whole == PHOTOGRAPHS


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tgz"])
@given(data=st.data())
def test_a_truncated_archive_gives_its_intact_members_and_a_status(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = {"a.zip": ZIP, "a.tar": TAR.rstrip(b"\0"), "a.tgz": TAR_GZ}[name]
    # Also at the end of a member, where the truncation is hardest to notice.
    starts = [TAR.index(b"\0" * 8, 512 * k) // 512 * 512 for k in range(len(TAR) // 512 - 2)]
    length = data.draw(st.sampled_from(starts) | st.integers(0, len(content) - 1))
    folder = tmp_path_factory.mktemp("cut")
    assert is_accounted_for(read(name, content[: min(length, len(content) - 1)], folder), name)


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tgz"])
@given(data=st.data())
def test_an_archive_with_flipped_bytes_never_crashes(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray({"a.zip": ZIP, "a.tar": TAR, "a.tgz": TAR_GZ}[name])
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] = data.draw(st.integers(0, 255))
    assert len(read(name, bytes(content), tmp_path_factory.mktemp("changed"))) <= 8


def test_the_first_bytes_of_an_archive_decide_how_it_is_read(tmp_path: Path) -> None:
    for number, content in enumerate((ZIP, TAR, TAR_GZ)):
        for name in KINDS:
            assert read(name, content, tmp_path / f"{number}{name}") == PHOTOGRAPHS


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"7z\xbc\xaf\x27\x1c" + bytes(600), "unsupported-7z"),
        (b"Rar!\x1a\x07\x01" + bytes(600), "unsupported-rar"),
        (b"\xfd7zXZ\0" + bytes(600), "unsupported-xz"),
        (b"BZh91AY" + bytes(600), "unsupported-bzip2"),
        (b"\x28\xb5\x2f\xfd" + bytes(600), "unsupported-zstd"),
        (b"<!DOCTYPE html>" + bytes(600), "unreadable"),
        (ZIP[:-30], "truncated"),
    ],
    ids=["7z", "rar", "xz", "bzip2", "zstd", "page", "cut"],
)
@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tgz"])
def test_an_archive_that_is_not_read_is_named(
    name: str, content: bytes, status: str, tmp_path: Path
) -> None:
    assert read(name, content, tmp_path) == {name: status}


@pytest.mark.parametrize("name", ["a.tar", "a.tgz"])
@pytest.mark.parametrize("junk", [b"", bytes(5000), b"junk" * 300, b"x"])
def test_joined_tars_are_read_to_the_end(name: str, junk: bytes, tmp_path: Path) -> None:
    second = tarred({"e.png": b"e"})
    content = TAR + second + junk
    if name == "a.tgz":
        content = gzip.compress(TAR) + gzip.compress(second + junk)
    assert read(name, content, tmp_path) == PHOTOGRAPHS | {"e.png": b"e"}


@pytest.mark.parametrize("name", ["a.tar", "a.tgz"])
def test_a_hard_link_to_no_member_is_a_link(name: str, tmp_path: Path) -> None:
    content = tarred({"a.png": b"a"}, "w", special("b.png", tarfile.LNKTYPE, "elsewhere.png"))
    content = gzip.compress(content) if name == "a.tgz" else content
    assert read(name, content, tmp_path) == {"a.png": b"a", "b.png": "link"}


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tgz"])
@pytest.mark.parametrize(
    ("member", "start", "status"),
    [
        ("x.mp4", b"\0\0\0\x18ftypmp42", "video"),
        ("x", b"\x1a\x45\xdf\xa3", "video"),
        ("x.pdf", b"%PDF-1.7", "not-an-image"),
        ("x.heic", b"\0\0\0\x18ftypheic", "unsupported-heic"),
        ("x.bmp", b"BM", "bomb"),
        ("x.jpg", b"text", "bomb"),
    ],
)
def test_a_large_member_has_the_status_of_its_first_bytes(
    name: str,
    member: str,
    start: bytes,
    status: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(archives, "MAX_BYTES", 10_000)
    members = {member: start + bytes(20_000), "a.png": b"a"}
    content = zipped(members) if name == "a.zip" else tarred(members)
    content = gzip.compress(content) if name == "a.tgz" else content
    assert read(name, content, tmp_path) == {member: status, "a.png": b"a"}


def header(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    """A tar header block, with a size field of 12 bytes."""
    block = bytearray(512)
    block[: len(name)] = name
    block[100:124] = b"0000644\x000000000\x000000000\x00"
    block[124:148] = size + b"00000000000\x00"
    block[148:156] = b" " * 8
    block[156:157], block[257:265] = kind, b"ustar\x0000"
    block[148:156] = b"%06o\x00 " % sum(block)
    return bytes(block)


def binary(size: int) -> bytes:
    """A size in GNU tar's base-256 encoding, for sizes that do not fit in octal."""
    return (b"\xff" if size < 0 else b"\x80") + size.to_bytes(11, "big", signed=True)


@pytest.mark.parametrize("name", ["a.tar", "a.tgz"])
@pytest.mark.parametrize("kind", [b"0", b"5", b"1", b"S", b"V"], ids=repr)
@pytest.mark.parametrize("size", [-1, -512, -1024, -(2**62), 2**62, 2**63 + 5])
def test_reading_a_tar_ends_at_an_implausible_size(
    name: str, kind: bytes, size: int, tmp_path: Path
) -> None:
    # Following a size that points back to the same header would never end.
    content = tarred({"a.png": b"a"}).rstrip(b"\0")
    content += bytes(-len(content) % 512) + header(b"x.png", binary(size), kind) + bytes(1024)
    content = gzip.compress(content) if name == "a.tgz" else content
    found = read(name, content, tmp_path)
    assert found.pop("a.png") == b"a"
    assert set(found) <= {"x.png", name}
    assert name in found or kind in b"15S"
    assert set(found.values()) <= {"unreadable", "truncated", "bomb", "not-a-file", "link"}


@pytest.mark.parametrize("name", ["a.tar", "a.tgz"])
@pytest.mark.parametrize("kind", [b"L", b"K", b"x", b"g"], ids=repr)
@pytest.mark.parametrize("size", [2**30, 2**62])
def test_a_tar_with_a_huge_name_is_unreadable(
    name: str, kind: bytes, size: int, tmp_path: Path
) -> None:
    content = header(b"././@LongLink", binary(size), kind) + bytes(10**7)
    content = gzip.compress(content, 1) if name == "a.tgz" else content
    tracemalloc.start()
    found = read(name, content, tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == {name: "unreadable"}
    assert peak < 5 * 10**6


def test_a_tar_with_a_long_chain_of_name_headers_is_unreadable(tmp_path: Path) -> None:
    chain = (header(b"././@LongLink", b"00000000005\0", b"L") + b"abcd".ljust(512, b"\0")) * 2000
    assert read("a.tar", chain + TAR, tmp_path) == {"a.tar": "unreadable"}


@pytest.mark.parametrize("name", ["a.tar", "a.tgz"])
def test_a_tar_with_a_corrupt_header_gives_the_members_before_it_and_a_status(
    name: str, tmp_path: Path
) -> None:
    content = TAR.replace(b"c.png", b"X.png", 1)  # which invalidates its checksum
    content = gzip.compress(content) if name == "a.tgz" else content
    before = {path: PHOTOGRAPHS[path] for path in ("a.png", "b.png")}
    assert read(name, content, tmp_path) == before | {name: "unreadable"}


def test_a_pax_tar_with_long_names_is_read(tmp_path: Path) -> None:
    names = {"é" * 200 + ".png": b"a", "x" * 300 + ".png": b"b"}
    for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=kind) as archive:
            for path, content in names.items():
                info = tarfile.TarInfo(path)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        assert read("a.tar", buffer.getvalue(), tmp_path / str(kind)) == names


@pytest.mark.parametrize("name", ["a.tar", "a.tgz"])
@pytest.mark.parametrize("size", [-1, -1024, -1536, -4096])
def test_reading_a_tar_ends_at_a_pax_header_that_points_back(
    name: str, size: int, tmp_path: Path
) -> None:
    record = b"size=%d\n" % size
    record = b"%d %s" % (len(record) + 3, record)
    content = header(b"pax", b"%011o\0" % len(record), b"x") + record.ljust(512, b"\0")
    content += header(b"x.png", b"00000001000\0") + bytes(512)
    content = tarred({"a.png": b"a"})[:1024] + content + bytes(1024)
    found = read(name, gzip.compress(content) if name == "a.tgz" else content, tmp_path)
    assert found.pop("a.png") == b"a"
    assert found
    assert set(found) <= {"x.png", name}
    assert set(found.values()) <= {"unreadable", "truncated"}


@pytest.mark.parametrize("name", [*KINDS, "a.idx", "a.gz"])
def test_an_unreachable_bucket_is_an_error_and_not_a_corrupt_archive(name: str) -> None:
    class Bucket:
        def files(self) -> Iterator[tuple[str, str | None]]:
            yield name, None

        def open(self, file: str) -> BinaryIO:
            raise FaceganError("s3://faces: no valid response")

    with pytest.raises(FaceganError, match="no valid response"):
        list(discovery.find(Bucket()))


@pytest.mark.parametrize(
    "name", ["photos", "photos.zip (1)", "photos.zip.part", "photos.ZIP.bak", ".photos"]
)
def test_a_renamed_archive_is_read(name: str, tmp_path: Path) -> None:
    for content in (zipped({"a.jpg": b"a"}), tarred({"a.jpg": b"a"})):
        data = fill(tmp_path / "data", {name: content})
        assert [item.path for item in discovery.find(Folder(data))] == [f"{name}/a.jpg"]


@pytest.mark.parametrize("name", ["photos.tgz.part", "photos.tar.gz (1)"])
def test_a_renamed_compressed_tar_is_read(name: str, tmp_path: Path) -> None:
    data = fill(tmp_path / "data", {name: tarred({"a.jpg": b"a"}, "w:gz")})
    assert [item.path for item in discovery.find(Folder(data))] == [f"{name}/a.jpg"]


@pytest.mark.parametrize("name", ["a.docx", "a.epub", "a.cbz", "a.zip.001", "a.zip.json"])
def test_a_document_or_a_part_of_a_zip_is_not_read_as_an_archive(name: str, tmp_path: Path) -> None:
    content = b"{}" if name.endswith("json") else zipped({"word/media/a.jpg": b"a"})
    data = fill(tmp_path / "data", {name: content})
    assert [item.path for item in discovery.find(Folder(data))] == [name]
