import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from facegan.preprocess.duplicates import DigestIndex, PerceptualIndex

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
