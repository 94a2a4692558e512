"""Image grids and animations."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facegan.core.atomic import replacing
from facegan.core.errors import FaceganError

if TYPE_CHECKING:  # core loads without torch
    from torch import Tensor


# Pillow's format and its options, by suffix.
FORMATS: dict[str, tuple[str, dict[str, int]]] = {
    ".png": ("PNG", {}),
    **dict.fromkeys((".jpg", ".jpeg"), ("JPEG", {"quality": 95, "subsampling": 0})),
}


def grid(images: "Tensor", columns: int | None = None) -> NDArray[np.uint8]:
    """Tile images, row by row; empty cells are black.

    Args:
        images: uint8 (n, H, W, C), on any device.
        columns: by default about as many as rows.
    Returns:
        uint8 (rows * H, columns * W, C).
    """
    count, height, width, channels = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    cells = np.zeros((rows * columns, height, width, channels), dtype=np.uint8)
    cells[:count] = images.cpu().numpy()
    table = cells.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return table.reshape(rows * height, columns * width, channels)


def to_picture(pixels: NDArray[np.uint8]) -> Image.Image:
    """uint8 (H, W, 1 or 3) -> a Pillow image."""
    return Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)


def save_picture(pixels: NDArray[np.uint8], path: Path) -> None:
    """Write uint8 (H, W, 1 or 3) as a PNG, or as a JPEG without chroma subsampling.

    Raises:
        FaceganError: if the suffix of `path` is none of `FORMATS`.
    """
    if path.suffix.lower() not in FORMATS:
        raise FaceganError(f"{path}: unknown kind of picture; valid: {', '.join(FORMATS)}")
    kind, options = FORMATS[path.suffix.lower()]
    with replacing(path) as temporary:
        to_picture(pixels).save(temporary, kind, **options)


def save_animation(pictures: list[Path], path: Path, milliseconds: int = 500) -> None:
    """Write the pictures as a looping GIF; the last frame lasts four times as long."""
    frames = [Image.open(picture) for picture in pictures]
    durations = [milliseconds] * (len(frames) - 1) + [4 * milliseconds]
    with replacing(path) as temporary:
        frames[0].save(
            temporary, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0
        )
