import gzip
import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from facegan import photographs
from facegan.errors import FaceganError
from facegan.photographs import Photograph

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 4, 3), np.uint8)
IDX = photographs.IDX_IMAGES + struct.pack(">3I", *PIXELS.shape) + PIXELS.tobytes()
LABELS = b"\x00\x00\x08\x01" + struct.pack(">I", 5) + bytes(5)


def encoded(kind: str = "PNG", level: int = 100) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 5), (level, 0, 0)).save(buffer, kind)
    return buffer.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


ZIP = zipped({"a.png": encoded(), "b/c.jpg": encoded("JPEG"), "notes.txt": b"text" * 50})

Write = Callable[[dict[str, bytes]], Path]


@pytest.fixture
def write(tmp_path_factory: pytest.TempPathFactory) -> Write:
    """Make a new folder of files."""

    def make(files: dict[str, bytes]) -> Path:
        folder = tmp_path_factory.mktemp("photographs")
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder

    return make


def sources(folder: Path) -> list[str]:
    inputs = list(photographs.read(folder))
    assert photographs.count(folder) == len(inputs)
    return [each.source for each in inputs]


def test_files_come_sorted_by_their_path_however_deep(write: Write) -> None:
    names = ["b.png", "a/z.jpg", "a/b/c.JPEG", "c.jpg", "B.png"]
    folder = write({name: encoded() for name in names})
    assert sources(folder) == sorted(names)
    assert all(each.is_image for each in photographs.read(folder))


def test_a_zip_is_read_in_place_sorted_by_name(write: Write) -> None:
    folder = write({"faces.ZIP": zipped({"b.png": b"2", "a/": b"", "a/x.png": b"1"}), "z.png": b""})
    assert sources(folder) == ["faces.ZIP/a/x.png", "faces.ZIP/b.png", "z.png"]
    assert [each.content for each in photographs.read(folder)] == [b"1", b"2", b""]
    assert sorted(path.name for path in folder.rglob("*")) == ["faces.ZIP", "z.png"]


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "images.idx", "images.gz"])
def test_an_idx_file_gives_its_images_in_order(name: str, write: Write) -> None:
    folder = write({name: gzip.compress(IDX) if name.endswith(".gz") else IDX})
    assert sources(folder) == [f"{name}#{index}" for index in range(5)]
    for photograph, pixels in zip(photographs.read(folder), PIXELS, strict=True):
        assert photograph.is_image
        image = photograph.decode()
        assert image.mode == "L"
        assert np.array_equal(np.asarray(image), pixels)


def test_other_files_come_as_no_images(write: Write) -> None:
    others = {
        "labels-idx1-ubyte": LABELS,
        "labels.gz": gzip.compress(LABELS),
        "not.gz": b"\x1f",
        "README.md": b"text",
        "faces.zip.part": ZIP,
        "empty": b"",
        "x.gif": b"GIF89a",
    }
    folder = write(others)
    assert sources(folder) == sorted(others)
    for photograph in photographs.read(folder):
        assert not photograph.is_image
        assert photograph.content == others[photograph.source]


def test_the_manifest_of_fetch_is_no_input_but_one_of_the_same_name_below_is(write: Write) -> None:
    folder = write({"source.json": b"{}", "below/source.json": b"{}"})
    assert sources(folder) == ["below/source.json"]


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_photograph_is_decoded_by_content(kind: str) -> None:
    content = encoded(kind)
    # A PNG that is called .jpg is common.
    decoded = Photograph("x.jpg", content).decode()
    assert decoded.tobytes() == Image.open(io.BytesIO(content)).tobytes()


def test_the_digest_is_that_of_the_content() -> None:
    # What `sha256sum` says of a file with "abc".
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert Photograph("x", b"abc").sha256 == expected


def test_a_missing_folder_leads_to_fetch(tmp_path: Path) -> None:
    path = tmp_path / "absent"
    for act in (photographs.count, lambda folder: list(photographs.read(folder))):
        with pytest.raises(FaceganError, match=f"{path}: no such folder; .*facegan fetch"):
            act(path)


def test_an_empty_folder_has_no_inputs(tmp_path: Path) -> None:
    assert sources(tmp_path) == []


def reads_or_names(folder: Path, name: str) -> bool:
    """Whether all is read; if not, the error has to name the file."""
    results = []
    for act in (photographs.count, lambda path: list(photographs.read(path))):
        try:
            act(folder)
            results.append(True)
        except FaceganError as error:
            assert str(folder / name) in str(error)
            assert len(str(error).splitlines()) == 1
            results.append(False)
    return all(results)


@given(length=st.integers(4, len(IDX) - 1))
def test_a_truncated_idx_file_is_named(length: int, write: Write) -> None:
    assert not reads_or_names(write({"images": IDX[:length]}), "images")


@given(length=st.integers(0, len(gzip.compress(IDX)) - 1))
def test_a_truncated_gzipped_idx_file_is_named_or_no_image(length: int, write: Write) -> None:
    folder = write({"images.gz": gzip.compress(IDX)[:length]})
    if reads_or_names(folder, "images.gz"):
        (only,) = photographs.read(folder)
        assert not only.is_image


@given(length=st.integers(0, len(ZIP) - 1))
def test_a_truncated_zip_is_named(length: int, write: Write) -> None:
    assert not reads_or_names(write({"faces.zip": ZIP[:length]}), "faces.zip")


@pytest.mark.parametrize("position", [len(gzip.compress(IDX)) // 2, -8])
def test_a_gzipped_idx_file_with_a_wrong_checksum_is_named(position: int, write: Write) -> None:
    content = bytearray(gzip.compress(IDX, compresslevel=0))
    content[position] ^= 1
    assert not reads_or_names(write({"images.gz": bytes(content)}), "images.gz")


@pytest.mark.parametrize("surplus", [1, 12])
def test_an_idx_file_with_more_than_it_says_is_named(surplus: int, write: Write) -> None:
    assert not reads_or_names(write({"images": IDX + bytes(surplus)}), "images")


@given(position=st.integers(0, len(ZIP) - 1), value=st.integers(0, 255))
def test_a_zip_with_a_changed_byte_is_read_or_named(
    position: int, value: int, write: Write
) -> None:
    reads_or_names(write({"a.zip": ZIP[:position] + bytes([value]) + ZIP[position + 1 :]}), "a.zip")


def test_a_member_that_cannot_be_read_is_named(write: Write) -> None:
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w") as archive:
        archive.writestr("inner/a.png", encoded())
    broken = stored.getvalue().replace(encoded()[-20:], bytes(20), 1)
    folder = write({"faces.zip": broken})
    with pytest.raises(FaceganError, match=f"{folder}/faces.zip/inner/a.png: cannot be read"):
        list(photographs.read(folder))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@given(data=st.data())
def test_a_damaged_photograph_is_decoded_or_named(kind: str, data: st.DataObject) -> None:
    content = bytearray(encoded(kind))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(len(content) // 2, len(content))) :]
    try:
        Photograph("faces/a.jpg", bytes(content)).decode()
    except FaceganError as error:
        assert str(error).startswith("faces/a.jpg: not a readable JPEG or PNG (")


@pytest.mark.parametrize(
    "content",
    [b"", b"text", encoded("GIF"), encoded()[:50]],
    ids=["empty", "text", "gif", "truncated"],
)
def test_what_is_no_jpeg_or_png_is_refused_by_name(content: bytes) -> None:
    with pytest.raises(FaceganError, match=r"^x\.png: not a readable JPEG or PNG"):
        Photograph("x.png", content).decode()
