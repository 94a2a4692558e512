from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from facegan.preprocess.dataset_writer import PREVIEW_COLUMNS, PREVIEW_ROWS, save_mean, save_preview


def numbered(count: int, channels: int = 1) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Constant images of 4x4 pixels, with the values 1, 2, 3, ... 250, 1, 2, ..."""
    values = (np.arange(count) % 250 + 1).astype(np.uint8)
    return np.broadcast_to(values[:, None, None, None], (count, 4, 4, channels)).copy()


@given(count=st.integers(1, 2 * PREVIEW_ROWS * PREVIEW_COLUMNS))
def test_a_contact_sheet_has_evenly_spaced_images_in_order(
    count: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("sheet") / "preview.png"
    save_preview(numbered(count), path)
    tiles = np.asarray(Image.open(path))[::4, ::4].ravel()
    shown = tiles[: min(count, PREVIEW_ROWS * PREVIEW_COLUMNS)].astype(int)
    assert not tiles[len(shown) :].any()
    # The value identifies the image, but wraps around after 250.
    numbers = shown + 250 * np.cumsum(np.diff(shown, prepend=0) < 0) - 1
    assert numbers[0] == 0
    assert numbers[-1] == count - 1 or count == 1
    assert (np.diff(numbers) > 0).all()
    assert np.ptp(np.diff(numbers)) <= 1 if count > 1 else True


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_each_image_appears_unchanged_in_the_sheet(
    channels: int, mode: str, tmp_path: Path
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 5, 5, channels), np.uint8)
    save_preview(images, tmp_path / "preview.png")
    sheet = Image.open(tmp_path / "preview.png")
    assert (sheet.mode, sheet.size) == (mode, (5 * PREVIEW_COLUMNS, 10))
    for number, image in enumerate(images):
        row, column = divmod(number, PREVIEW_COLUMNS)
        box = (5 * column, 5 * row, 5 * column + 5, 5 * row + 5)
        assert np.array_equal(np.asarray(sheet.crop(box)).reshape(5, 5, channels), image)


def test_the_mean_is_rounded(tmp_path: Path) -> None:
    images = np.array([[[[10]]], [[[11]]], [[[11]]]], np.uint8)
    save_mean(images.sum(0, dtype=np.int64), 3, tmp_path / "mean.png")
    assert np.asarray(Image.open(tmp_path / "mean.png")).tolist() == [[11]]
