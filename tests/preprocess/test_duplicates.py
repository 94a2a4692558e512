import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from facegan.preprocess.duplicates import Seen, SeenNearly

digests = st.lists(st.binary(min_size=1, max_size=2), max_size=40)
hashes = st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 15), max_size=40)


@given(digests=digests)
def test_a_digest_leads_to_the_first_path_that_came_with_it(digests: list[bytes]) -> None:
    seen = Seen()
    for number, digest in enumerate(digests):
        first = digests.index(digest)
        before = (None, str(number)) if first == number else (f"path {first}", str(first))
        assert seen.first(digest, f"path {number}", str(number)) == before
    seen.close()


def test_any_path_comes_back_as_it_was() -> None:
    seen = Seen()
    for path in ('it\'s "quoted".jpg', "new\nline.jpg", "smile😀.jpg", ""):
        assert seen.first(path.encode(), path, "kept") == (None, "kept")
        assert seen.first(path.encode(), "another", "held-out") == (path, "kept")
    seen.close()


@given(hashes=hashes, most=st.integers(0, 8))
def test_a_near_hash_leads_to_the_first_kept_path_within_so_many_bits(
    hashes: list[int], most: int
) -> None:
    seen = SeenNearly(most)
    kept: list[tuple[int, str]] = []
    for number, value in enumerate(hashes):
        near = next((path for other, path in kept if (value ^ other).bit_count() <= most), None)
        assert seen.first(value, f"path {number}") == near
        if near is None:
            kept.append((value, f"path {number}"))


def test_hashes_are_kept_when_there_are_many() -> None:
    seen = SeenNearly(0)
    values = np.random.default_rng(0).integers(0, 2**63, 3000).tolist()
    for number, value in enumerate(values):
        assert seen.first(value, str(number)) is None
    assert [seen.first(value, "again") for value in values] == [str(n) for n in range(3000)]
