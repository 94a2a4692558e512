"""Pictures of a data set, for people who would rather look."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facegan.arrays import Pixels

ROWS, COLUMNS = 8, 16


def save_preview(images: Pixels, path: Path) -> None:
    """A contact sheet of images taken evenly from all of them: uint8 (N, H, W, C)."""
    count = min(ROWS * COLUMNS, len(images))
    chosen = images[np.linspace(0, len(images) - 1, count).astype(int)]
    columns = min(COLUMNS, count)
    rows = -(-count // columns)
    height, width, channels = images.shape[1:]
    sheet = np.zeros((rows * columns, height, width, channels), np.uint8)
    sheet[:count] = chosen
    sheet = sheet.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    _save(sheet.reshape(rows * height, columns * width, channels), path)


def save_mean(total: NDArray[np.int64], count: int, path: Path) -> None:
    """The mean of `count` images whose pixels add up to `total` (H, W, C)."""
    _save(np.rint(total / count).astype(np.uint8), path)


def _save(pixels: Pixels, path: Path) -> None:
    image = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
    image.save(path, "PNG", compress_level=1)  # a third of the time, 4% more bytes
