import struct

import numpy as np
import pytest

from facegan.photos.decoding import decode
from facegan.photos.inputs import Input, Unusable
from tiffs import (
    ASCII,
    LONG,
    MAKE,
    PHOTOMETRIC,
    SHORT,
    SUB_IFDS,
    SUBFILE,
    Entries,
    directory,
    tiff,
)

PREVIEW = np.random.default_rng(0).integers(0, 256, (12, 16, 3)).astype(np.uint16)
DNG_VERSION = 50706


def status(content: bytes, name: str = "a.tif") -> str | None:
    try:
        decode(Input(name, name), content, 3, 255)
    except Unusable as error:
        return str(error)
    return None


def camera_raw(photometric: int = 32803, **more: int) -> bytes:
    """A preview whose directory names another one of a sensor's pixels, as in NEF, ARW, 3FR."""
    below: Entries = {SUBFILE: (LONG, (0,)), 256: (LONG, (150,)), 257: (LONG, (100,))}
    below |= {PHOTOMETRIC: (SHORT, (photometric,))}
    entries: Entries = {SUBFILE: (LONG, (1,)), MAKE: (ASCII, b"NIKON CORPORATION\0")}
    plain = tiff(PREVIEW, 8, 2, more={**entries, SUB_IFDS: (LONG, (0,))})
    start = len(plain)
    named = tiff(PREVIEW, 8, 2, more={**entries, SUB_IFDS: (LONG, (start,))})
    return named + directory(below, start)


@pytest.mark.parametrize("name", ["IMG_1.NEF", "a.tif", "a.jpg", "a"])
@pytest.mark.parametrize("photometric", [32803, 34892])
def test_a_preview_of_a_camera_raw_file_is_not_a_photograph(name: str, photometric: int) -> None:
    assert status(camera_raw(photometric), name) == "unsupported-camera-raw"


@pytest.mark.parametrize("name", ["a.dng", "a.CR2", "a.arw", "a.pef", "a.fff", "a.iiq", "a.srw"])
def test_a_tiff_with_the_suffix_of_a_camera_raw_file_is_one(name: str) -> None:
    assert status(tiff(PREVIEW, 8, 2), name) == "unsupported-camera-raw"


def test_a_dng_is_recognised_by_its_version() -> None:
    content = tiff(PREVIEW, 8, 2, more={DNG_VERSION: (1, bytes([1, 4, 0, 0]))})
    assert status(content) == "unsupported-camera-raw"


def test_a_cr2_is_recognised_by_its_signature() -> None:
    content = bytearray(tiff(PREVIEW, 8, 2))
    content[8:10] = b"CR"
    assert status(bytes(content)) == "unsupported-camera-raw"


def test_a_camera_raw_file_whose_preview_is_not_decoded_is_named_too() -> None:
    levels = np.zeros((10, 10, 1), np.uint16)
    assert status(tiff(levels, 16, 32803), "a.pef") == "unsupported-camera-raw"
    assert status(tiff(levels, 16, 32803), "a.tif") == "unsupported-tiff"


def test_the_first_whole_picture_of_a_tiff_is_used() -> None:
    whole = np.random.default_rng(1).integers(0, 256, (40, 30, 3)).astype(np.uint16)
    first = bytearray(tiff(PREVIEW, 8, 2, more={SUBFILE: (LONG, (1,))}))
    second = tiff(whole, 8, 2)
    (ifd,) = struct.unpack("<I", first[4:8])
    (count,) = struct.unpack("<H", first[ifd : ifd + 2])
    # Positions in the second picture are relative to its own start.
    moved = bytearray(second)
    (at,) = struct.unpack("<I", second[4:8])
    shift = len(first) - 8
    for number in range(struct.unpack_from("<H", second, at)[0]):
        entry = at + 2 + 12 * number
        tag, kind, values = struct.unpack_from("<HHI", second, entry)
        if tag == 273 or values * {1: 1, 2: 1, 3: 2, 4: 4}[kind] > 4:
            (value,) = struct.unpack_from("<I", second, entry + 8)
            struct.pack_into("<I", moved, entry + 8, value + shift)
    struct.pack_into("<I", first, ifd + 2 + 12 * count, at + shift)
    content = bytes(first) + bytes(moved[8:])
    found = decode(Input("a.tif", "a.tif"), content, 3, 255)
    assert np.array_equal(np.asarray(found.image), whole)


def test_a_tiff_with_thumbnails_below_its_picture_is_a_photograph() -> None:
    below: Entries = {SUBFILE: (LONG, (1,)), 256: (LONG, (4,)), PHOTOMETRIC: (SHORT, (2,))}
    start = len(tiff(PREVIEW, 8, 2, more={SUB_IFDS: (LONG, (0,))}))
    content = tiff(PREVIEW, 8, 2, more={SUB_IFDS: (LONG, (start,))}) + directory(below, start)
    assert status(content) is None


@pytest.mark.parametrize("offset", [0, 5, 2**31])
def test_a_damaged_directory_below_the_picture_is_ignored(offset: int) -> None:
    assert status(tiff(PREVIEW, 8, 2, more={SUB_IFDS: (LONG, (offset,))})) is None
