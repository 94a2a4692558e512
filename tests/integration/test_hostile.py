"""A folder of every known kind of bad input, preprocessed as an unprivileged user."""

import gzip
import io
import os
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facegan.photos.discovery import find
from facegan.photos.inputs import Folder
from facegan.preprocess.dataset_writer import DatasetWriter
from facegan.preprocess.packing import pack_inputs
from samples import (
    encoded,
    fill,
    idx,
    index,
    natural,
    noise,
    png,
    png_chunk,
    settings,
    tarred,
    unprivileged,
    zipped,
)

CUT = encoded(natural(0, 178, 218), "JPEG", quality=90)
LINK = zipfile.ZipInfo("link.png")
LINK.external_attr = 0o120777 << 16


def photograph(seed: int) -> bytes:
    return encoded(noise(seed, 40, 40))


def evil_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../up.png", photograph(100))
        archive.writestr("/abs.png", photograph(101))
        archive.writestr(LINK, "/etc/passwd")
        archive.writestr("nested.zip", zipped({"a.png": photograph(102)}))
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("bzip2.png", photograph(103))
    return buffer.getvalue()


def evil_tar(mode: str, seed: int) -> bytes:
    link, device, hard = (tarfile.TarInfo(name) for name in ("link", "device", "hard"))
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    device.type = tarfile.CHRTYPE
    hard.type, hard.linkname = tarfile.LNKTYPE, "../up.png"
    members = {"../up.png": photograph(seed), "/abs.png": photograph(seed + 1)}
    return tarred(members, mode, link, device, hard)


def encrypted_zip() -> bytes:
    content = bytearray(zipped({"secret.png": photograph(104)}))
    for start, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(start) + flags] |= 1
    return bytes(content)


def lying_zip() -> bytes:
    content = bytearray(zipped({"thousandfold.bmp": bytes(10**7)}))
    struct.pack_into("<I", content, content.index(b"PK\x01\x02") + 24, 1000)
    return bytes(content)


def texts() -> bytes:
    text = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**21)))
    return png((4, 1), 8, 0, b"\0\1\2\3\4", *[text] * 40)


PIXELS = np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)
# Name -> bytes, and the expected status of each input in it.
HOSTILE: dict[str, tuple[bytes, dict[str, str]]] = {
    "bomb.png": (png((60_000, 60_000), 8, 2, bytes(10**5)), {"": "bomb"}),
    "broken.tar": (b"broken", {"": "unreadable"}),
    "broken.zip": (b"broken", {"": "unreadable"}),
    "bytes \udce9.png": (photograph(1), {"": "kept"}),
    "copy 1.png": (photograph(200), {"": "kept"}),
    "copy 2.png": (photograph(200), {"": "duplicate of copy 1.png"}),
    **{
        f"cut {tenth}.jpg": (
            CUT[: len(CUT) * tenth // 10],
            {"": "truncated" if tenth else "unreadable"},
        )
        for tenth in range(10)
    },
    "encrypted.zip": (encrypted_zip(), {"/secret.png": "encrypted"}),
    "evil.tar": (
        evil_tar("w", 110),
        {
            "/../up.png": "kept",
            "//abs.png": "kept",
            "/link": "link",
            "/device": "not-a-file",
            "/hard": "duplicate of evil.tar/../up.png",
        },
    ),
    "evil.tgz": (
        evil_tar("w:gz", 120),
        {
            "/../up.png": "kept",
            "//abs.png": "kept",
            "/link": "link",
            "/device": "not-a-file",
            "/hard": "duplicate of evil.tgz/../up.png",
        },
    ),
    "evil.zip": (
        evil_zip(),
        {
            "/../up.png": "kept",
            "//abs.png": "kept",
            "/link.png": "link",
            "/nested.zip": "nested-archive",
            "/bzip2.png": "unsupported-compression",
        },
    ),
    "idx-too-few": (idx(PIXELS, 1000), {"": "truncated"}),
    "idx-too-few.gz": (gzip.compress(idx(PIXELS, 1000)), {"": "truncated"}),
    "idx-too-many": (idx(PIXELS, 2), {"": "unreadable"}),
    "idx-too-many.gz": (gzip.compress(idx(PIXELS, 2)), {"": "unreadable"}),
    "lies.zip": (lying_zip(), {"/thousandfold.bmp": "unreadable"}),
    "new\nline.png": (photograph(2), {"": "kept"}),
    "notes.txt": (b"text", {"": "not-an-image"}),
    "palette.png": (png((4, 1), 8, 3, b"\0\1\2\3\4"), {"": "unreadable"}),
    "smile 😀.png": (photograph(3), {"": "kept"}),
    "text.jpg": (b"hello, not a picture", {"": "unreadable"}),
    "texts.png": (texts(), {"": "too-small"}),
    "tiny.png": (encoded(noise(0, 27, 90)), {"": "too-small"}),
    "zero.jpg": (b"", {"": "unreadable"}),
}


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    data = fill(tmp_path / "data", {name: content for name, (content, _) in HOSTILE.items()})
    fill(tmp_path / "outside", {"secret.png": photograph(300)})
    (data / "z").mkdir()
    (data / "z" / "loop").symlink_to(data)
    (data / "z" / "out.png").symlink_to(tmp_path / "outside" / "secret.png")
    os.mkfifo(data / "z" / "fifo.png")
    fill(data, {"z/forbidden.png": photograph(301), "z/forbidden/a.png": photograph(302)})
    (data / "z" / "forbidden.png").chmod(0)
    (data / "z" / "forbidden").chmod(0)
    return data


def test_each_input_has_its_status_and_nothing_is_written_elsewhere(
    hostile: Path, tmp_path: Path
) -> None:
    expected = {
        name.replace("\udce9", "%E9") + below: status
        for name, (_, statuses) in HOSTILE.items()
        for below, status in statuses.items()
    } | {
        "z/fifo.png": "not-a-file",
        "z/forbidden.png": "no-permission",
        "z/forbidden": "no-permission",
        "z/loop": "link",
        "z/out.png": "kept",  # as DVC does, links to files are read
    }
    before = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}
    events: list[Any] = []
    root, params = Folder(hostile), settings(min_side=28)
    Image.init()  # loads plugins that the unprivileged user cannot read
    tmp_path.chmod(0o777)
    with unprivileged(hostile):
        (tmp_path / "out").mkdir()
        with DatasetWriter(tmp_path / "out", params, {}) as writer:
            writer.add(*pack_inputs(root, list(find(root)), params), events.append)
            writer.finish("data")
    rows = index(tmp_path / "out")
    assert {row["path"]: row["status"] for row in rows} == expected
    assert len(rows) == len(expected)
    # One line for each of the first ten, whatever their names.
    texts = [event.text for event in events]
    assert len(texts) == 10
    assert all(len(text.splitlines()) == 1 and ": " in text for text in texts)
    kept = list(expected.values()).count("kept")
    assert np.load(tmp_path / "out" / "images.npy").shape == (kept, 32, 32, 3)
    with Image.open(tmp_path / "out" / "preview.png") as preview:
        preview.load()
    after = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}
    new = {path for path in after.keys() - before.keys() if tmp_path / "out" not in path.parents}
    assert new == {tmp_path / "out"}
    assert {path: after[path] for path in before} == before
    assert not Path("/abs.png").exists()
