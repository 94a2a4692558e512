"""Frames -> a GIF, an animated WebP or an MP4."""

import struct
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facegan.core.atomic import replacing
from facegan.core.errors import FaceganError
from facegan.core.pictures import to_picture
from facegan.sample.destination import ANIMATIONS, check_file

Pixels = NDArray[np.uint8]

MAX_FPS = 50  # browsers slow faster GIFs down
# Pillow keeps all frames of a GIF or WebP in memory.
MAX_BYTES = 1_000_000_000
# Of H.264: 0 is lossless, 51 the worst; 17 looks lossless.
QUALITY = "17"


def check_output(path: Path, fps: float) -> None:
    """
    Raises:
        FaceganError: if no animation can be written there, or the rate is out of range.
    """
    check_file(path, "animation", ANIMATIONS)
    if not 0.1 <= fps <= MAX_FPS:
        raise FaceganError(f"--fps {fps:g}: valid: 0.1 to {MAX_FPS}")
    if path.suffix.lower() == ".mp4":
        _av()


def write_animation(frames: Iterator[Pixels], path: Path, fps: float, loop: bool = True) -> None:
    """Write frames of one shape, uint8 (H, W, 1 or 3).

    Args:
        fps: frames per second.
        loop: whether a GIF or WebP starts again at its end; players decide for an MP4.
    Raises:
        FaceganError: as `check_output`; or if the frames of a GIF or WebP are too large.
    """
    check_output(path, fps)
    pictures = map(to_picture, frames)
    with replacing(path) as temporary:
        if path.suffix.lower() == ".mp4":
            _write_mp4(pictures, temporary, fps)
        else:
            _write_with_pillow(pictures, temporary, path, fps, loop)


def resized(pixels: Pixels, size: int | None) -> Pixels:
    """Resample uint8 (H, W, 1 or 3) by Lanczos until the longer side has `size` pixels."""
    picture = to_picture(pixels)
    if size is None or size == max(picture.size):
        return pixels
    scale = size / max(picture.size)
    width, height = (max(round(side * scale), 1) for side in picture.size)
    result = np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS))
    return result.reshape(height, width, pixels.shape[2])


def _write_with_pillow(
    pictures: Iterator[Image.Image], temporary: Path, path: Path, fps: float, loop: bool
) -> None:
    kind = path.suffix[1:].upper()
    pictures = _timed(pictures, fps) if kind == "GIF" else pictures
    first = next(pictures)
    most = MAX_BYTES // (first.width * first.height * 3)
    rest = _at_most(pictures, most - 1, path)
    # A missing `loop` is once for a GIF; for a WebP, 0 is for ever and 1 is once.
    repeat = {"loop": 0} if loop else ({} if kind == "GIF" else {"loop": 1})
    # Of a GIF, each frame has its own.
    duration = {} if kind == "GIF" else {"duration": round(1000 / fps)}
    try:
        first.save(temporary, kind, save_all=True, append_images=rest, **duration, **repeat)
    except struct.error:  # Pillow merges equal frames
        raise FaceganError(
            f"{path}: stands still for longer than a GIF can, 655 s; write an .mp4 or .webp"
        ) from None


def _timed(pictures: Iterator[Image.Image], fps: float) -> Iterator[Image.Image]:
    """With durations in a GIF's hundredths of a second, whose sum is right at any rate."""
    start = 0
    for number, picture in enumerate(pictures, start=1):
        end = 10 * round(number * 100 / fps)
        picture.info["duration"] = end - start
        start = end
        yield picture


def _at_most(pictures: Iterator[Image.Image], count: int, path: Path) -> Iterator[Image.Image]:
    yield from islice(pictures, count)
    if next(pictures, None) is not None:
        raise FaceganError(
            f"{path}: too many frames of this size; write an .mp4, or a smaller --size"
        )


def _write_mp4(pictures: Iterator[Image.Image], temporary: Path, fps: float) -> None:
    av = _av()
    first = next(pictures)
    # Chroma is stored at half the resolution, so both sides have to be even.
    width, height = (side + side % 2 for side in first.size)
    with av.open(str(temporary), "w", format="mp4", options={"movflags": "faststart"}) as container:
        rate = Fraction(fps).limit_denominator(1000)
        stream = container.add_stream("h264", rate=rate, options={"crf": QUALITY})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for picture in _chain(first, pictures):
            padded = Image.new("RGB", (width, height))
            padded.paste(picture)
            container.mux(stream.encode(av.VideoFrame.from_image(padded)))
        container.mux(stream.encode(None))


def _chain(first: Image.Image, rest: Iterator[Image.Image]) -> Iterator[Image.Image]:
    yield first
    yield from rest


def _av() -> Any:
    try:
        import av
    except ImportError:
        raise FaceganError(
            "an .mp4 needs the extra facegan[video]; .gif and .webp do not"
        ) from None
    av.logging.set_level(av.logging.ERROR)
    return av
