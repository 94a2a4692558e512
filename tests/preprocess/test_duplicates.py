import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from facegan.core.errors import FaceganError
from facegan.preprocess.duplicates import DigestIndex, PerceptualIndex, perceptual_hash

digests = st.lists(st.binary(min_size=1, max_size=2), max_size=40)
hashes = st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 15), max_size=40)


@given(digests=digests)
def test_a_digest_finds_the_first_path_added_with_it(digests: list[bytes]) -> None:
    seen = DigestIndex()
    for number, digest in enumerate(digests):
        first = digests.index(digest)
        before = (None, str(number)) if first == number else (f"path {first}", str(first))
        assert seen.find_or_add(digest, f"path {number}", str(number)) == before
    seen.close()


def test_a_full_disk_of_temporary_files_is_reported() -> None:
    seen = DigestIndex()
    seen.connection.execute("PRAGMA max_page_count = 3")
    with pytest.raises(FaceganError, match="database or disk is full; SQLITE_TMPDIR=FOLDER"):
        for number in range(1000):
            seen.find_or_add(number.to_bytes(32), "path", "kept")
    seen.close()


def test_perceptual_hashes_are_those_of_imagehash() -> None:
    """Expected values: imagehash 4.3.2."""
    x = np.arange(32)
    diagonals = Image.fromarray((np.add.outer(x * x, 3 * x) % 256).astype(np.uint8))
    flat = Image.fromarray(np.full((28, 28), 200, np.uint8))
    noise = np.random.RandomState(0).randint(0, 256, (64, 64, 3)).astype(np.uint8)
    hashes = [perceptual_hash(image) for image in (diagonals, flat, Image.fromarray(noise))]
    assert hashes == [0x833C2F324DF59A26, 0x8000000000000000, 0xC0574F02FDA4E55A]


def test_paths_round_trip() -> None:
    seen = DigestIndex()
    for path in ('it\'s "quoted".jpg', "new\nline.jpg", "smile😀.jpg", ""):
        assert seen.find_or_add(path.encode(), path, "kept") == (None, "kept")
        assert seen.find_or_add(path.encode(), "another", "held-out") == (path, "kept")
    seen.close()


@given(hashes=hashes, most=st.integers(0, 8))
def test_a_hash_finds_the_first_path_within_the_distance(hashes: list[int], most: int) -> None:
    seen = PerceptualIndex(most)
    kept: list[tuple[int, str]] = []
    for number, value in enumerate(hashes):
        near = next((path for other, path in kept if (value ^ other).bit_count() <= most), None)
        assert seen.find_or_add(value, f"path {number}") == near
        if near is None:
            kept.append((value, f"path {number}"))


def test_many_hashes_are_kept() -> None:
    seen = PerceptualIndex(0)
    values = np.random.default_rng(0).integers(0, 2**63, 3000).tolist()
    for number, value in enumerate(values):
        assert seen.find_or_add(value, str(number)) is None
    assert [seen.find_or_add(value, "again") for value in values] == [str(n) for n in range(3000)]
