import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facegan.photos import discovery
from facegan.photos.idx import MAX_PIXELS
from facegan.photos.inputs import Folder, Unusable
from samples import fill, idx, read_input

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 4, 3), np.uint8)
IDX = idx(PIXELS)
LABELS = b"\x00\x00\x08\x01" + struct.pack(">I", 5) + bytes(5)


def read(name: str, content: bytes, folder: Path) -> dict[str, bytes | str]:
    """Path -> pixels, or the status."""
    root = Folder(fill(folder / "data", {name: content}))
    found: dict[str, bytes | str] = {}
    for item in discovery.find(root):
        assert (item.shape is None) == ("#" not in item.path)
        try:
            found[item.path] = read_input(root, item)
        except Unusable as error:
            found[item.path] = str(error)
    return found


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "images.idx", "images.gz", "A.GZ"])
def test_images_are_listed_in_order(name: str, tmp_path: Path) -> None:
    content = gzip.compress(IDX) if name.lower().endswith("gz") else IDX
    expected = {f"{name}#{number}": image.tobytes() for number, image in enumerate(PIXELS)}
    assert read(name, content, tmp_path) == expected


def test_the_shape_is_height_and_width(tmp_path: Path) -> None:
    root = Folder(fill(tmp_path / "data", {"images": IDX}))
    assert {item.shape for item in discovery.find(root)} == {(4, 3)}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels-idx1-ubyte", LABELS),
        ("labels.gz", gzip.compress(LABELS, mtime=0)),
        ("not.gz", b"\x1f"),
        ("empty", b""),
        ("x.gif", IDX),
        ("float-idx3", b"\x00\x00\x0d" + IDX[3:]),
    ],
)
def test_other_files_are_not_taken_for_idx(name: str, content: bytes, tmp_path: Path) -> None:
    assert read(name, content, tmp_path) == {name: content}


@pytest.mark.parametrize("count", [0, 1, 4, 6, 10**6, 2**32 - 1])
@pytest.mark.parametrize("name", ["images", "images.gz"])
def test_a_header_with_a_wrong_count_gives_one_status(
    count: int, name: str, tmp_path: Path
) -> None:
    content = idx(PIXELS, count)
    content = gzip.compress(content) if name.endswith("gz") else content
    assert read(name, content, tmp_path) == {name: "unreadable" if count < 5 else "truncated"}


@pytest.mark.parametrize("shape", [(0, 3), (4, 0), (2**32 - 1, 2**32 - 1), (1, MAX_PIXELS + 1)])
def test_images_of_an_implausible_size_give_one_status(
    shape: tuple[int, int], tmp_path: Path
) -> None:
    content = IDX[:8] + struct.pack(">2I", *shape) + IDX[16:]
    assert read("images", content, tmp_path) == {"images": "unreadable"}
    assert read("i.gz", gzip.compress(content), tmp_path / "gz") == {"i.gz": "unreadable"}


def test_a_file_of_no_images_has_no_inputs(tmp_path: Path) -> None:
    assert read("images", idx(PIXELS[:0]), tmp_path) == {}


@given(length=st.integers(4, len(IDX) - 1))
def test_a_truncated_file_gives_one_status(
    length: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    assert read("images", IDX[:length], folder) == {"images": "truncated"}


@given(length=st.integers(0, len(gzip.compress(IDX)) - 1))
def test_a_truncated_gzipped_file_gives_one_status(
    length: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = gzip.compress(IDX, mtime=0)[:length]
    found = read("images.gz", content, tmp_path_factory.mktemp("cut"))
    # Without the first bytes of its content, it is not recognised as IDX.
    assert found in ({"images.gz": "truncated"}, {"images.gz": content})


@pytest.mark.parametrize("position", [40, -8, -4])
def test_a_gzipped_file_with_a_wrong_checksum_gives_one_status(
    position: int, tmp_path: Path
) -> None:
    content = bytearray(gzip.compress(IDX, compresslevel=0))
    content[position] ^= 1
    assert read("images.gz", bytes(content), tmp_path) == {"images.gz": "unreadable"}


@given(position=st.integers(0, len(gzip.compress(IDX)) - 1), value=st.integers(0, 255))
def test_a_gzipped_file_with_a_flipped_byte_is_read_or_gets_one_status(
    position: int, value: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(gzip.compress(IDX, mtime=0))
    content[position] = value
    found = read("images.gz", bytes(content), tmp_path_factory.mktemp("changed"))
    (only,) = {type(item) for item in found.values()}
    assert len(found) == (5 if "images.gz#0" in found else 1)
    assert only is bytes or list(found.values()) in (["unreadable"], ["truncated"])


def test_a_file_with_an_odd_name_is_listed_in_utf8(tmp_path: Path) -> None:
    names = {"caf%E9#" + str(number): image.tobytes() for number, image in enumerate(PIXELS)}
    assert read("caf\udce9", IDX, tmp_path) == names
    assert read("caf\udce9", IDX[:-1], tmp_path / "cut") == {"caf%E9": "truncated"}
