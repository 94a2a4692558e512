import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facegan.preprocess.npy_writer import ArrayWriter


@given(
    counts=st.lists(st.integers(0, 9), max_size=4),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 5)),
)
def test_rows_round_trip(
    counts: list[int], shape: tuple[int, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("array") / "x.npy"
    rows = np.random.default_rng(0).integers(0, 256, (sum(counts), *shape), np.uint8)
    with ArrayWriter(path, shape) as writer:
        for part in np.split(rows, np.cumsum(counts[:-1])) if counts else []:
            writer.extend(part)
        digest = writer.finish()
    read = np.load(path)
    assert read.dtype == np.uint8
    assert np.array_equal(read, rows)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_header_has_room_for_a_large_count(tmp_path: Path) -> None:
    with ArrayWriter(tmp_path / "x.npy", (2, 2)) as writer:
        before = writer.file.tell()
        writer.count = 10**12
        writer.finish()
    with (tmp_path / "x.npy").open("rb") as file:
        assert np.lib.format.read_magic(file) == (1, 0)
        shape, _, _ = np.lib.format.read_array_header_1_0(file)
        assert (shape, file.tell()) == ((10**12, 2, 2), before)


def test_an_unfinished_array_reads_as_empty(tmp_path: Path) -> None:
    with ArrayWriter(tmp_path / "x.npy", (2,)) as writer:
        writer.extend(np.zeros((1, 2), np.uint8))
    assert np.load(tmp_path / "x.npy").shape == (0, 2)


@pytest.mark.parametrize("rows", [np.zeros((1, 3), np.uint8), np.zeros((1, 2), np.float32)])
def test_rows_of_another_shape_or_dtype_fail_an_assertion(rows: np.ndarray, tmp_path: Path) -> None:
    with ArrayWriter(tmp_path / "x.npy", (2,)) as writer, pytest.raises(AssertionError):
        writer.extend(rows)
