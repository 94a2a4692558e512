"""Image grids and animations."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facegan.core.atomic import replacing
from facegan.core.errors import FaceganError
from facegan.core.events import Message, OnEvent

if TYPE_CHECKING:  # core loads without torch
    from torch import Tensor

Pixels = NDArray[np.uint8]

# Pillow's format and its options, by suffix.
FORMATS: dict[str, tuple[str, dict[str, int]]] = {
    ".png": ("PNG", {}),
    **dict.fromkeys((".jpg", ".jpeg"), ("JPEG", {"quality": 95, "subsampling": 0})),
}
# Of an animation. 50 grids of 64 faces are a GIF of 14 MB, written in 8 s with 61 MB of memory.
MAX_FRAMES, MAX_SIDE = 50, 512


def grid(images: "Tensor", columns: int | None = None) -> Pixels:
    """Tile images, row by row; empty cells are black.

    Args:
        images: uint8 (n, H, W, C), on any device.
        columns: by default about as many as rows.
    Returns:
        uint8 (rows * H, columns * W, C).
    """
    count, height, width, channels = images.shape
    rows, columns = grid_shape(count, columns)
    cells = np.zeros((rows * columns, height, width, channels), dtype=np.uint8)
    cells[:count] = images.cpu().numpy()
    table = cells.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return table.reshape(rows * height, columns * width, channels)


def grid_shape(count: int, columns: int | None = None) -> tuple[int, int]:
    """Rows and columns of a grid of so many images."""
    columns = columns or math.ceil(math.sqrt(count))
    return math.ceil(count / columns), columns


def to_picture(pixels: Pixels) -> Image.Image:
    """uint8 (H, W, 1 or 3) -> a Pillow image."""
    return Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)


def save_picture(pixels: Pixels, path: Path) -> None:
    """Write uint8 (H, W, 1 or 3) as a PNG, or as a JPEG without chroma subsampling.

    Raises:
        FaceganError: if the suffix of `path` is none of `FORMATS`.
    """
    if path.suffix.lower() not in FORMATS:
        raise FaceganError(f"{path}: unknown kind of picture; valid: {', '.join(FORMATS)}")
    kind, options = FORMATS[path.suffix.lower()]
    with replacing(path) as temporary:
        to_picture(pixels).save(temporary, kind, **options)


def save_animation(pictures: Sequence[Path], path: Path, milliseconds: int = 500) -> None:
    """Write the pictures as a looping GIF; the last frame lasts four times as long.

    Of more than 50 pictures, 50 evenly spaced ones are taken, the first and the last included. The
    longer side of a frame has at most 512 pixels.
    """
    count = min(len(pictures), MAX_FRAMES)
    indices = np.linspace(0, len(pictures) - 1, count).round().astype(int).tolist()
    frames = _frames([pictures[index] for index in indices])
    durations = [milliseconds] * (count - 1) + [4 * milliseconds]
    with replacing(path) as temporary:
        next(frames).save(
            temporary, "GIF", save_all=True, append_images=frames, duration=durations, loop=0
        )


def _frames(pictures: Sequence[Path]) -> Iterator[Image.Image]:
    """One after the other, because a process may open few files."""
    for picture in pictures:
        with Image.open(picture) as frame:
            frame.thumbnail((MAX_SIDE, MAX_SIDE))
            yield frame


def attempt(path: Path, write: Callable[[Path], object], on_event: OnEvent) -> bool:
    """Write a file that no result depends on, such as a picture: a failure is only reported.

    Returns:
        Whether the file was written.
    """
    try:
        write(path)
    except Exception as error:  # a full disk, out of memory, a damaged picture or library
        strerror = error.strerror if isinstance(error, OSError) else None
        reason = (strerror or str(error) or type(error).__name__).splitlines()[0]
        on_event(Message(f"{path.name}: not written ({reason}); the results do not depend on it"))
        return False
    return True
