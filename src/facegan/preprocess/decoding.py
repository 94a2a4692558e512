"""Encoded photograph -> upright image in grey or RGB."""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from facegan.core.errors import FaceganError
from facegan.photos.inputs import Input, Unusable

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
# Files with these suffixes count as unusable if not decodable; the last line's formats never are.
SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"),
    *(".heic", ".heif", ".avif", ".jp2", ".tar.xz", ".tar.bz2", ".tar.zst", ".7z", ".rar"),
)
# A decoded photograph takes up to 4 bytes per pixel.
MAX_PIXELS = 2**27
# How to undo each EXIF orientation; which of them swap width and height, and which start at the
# file's last column or row.
TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SWAPPED, FROM_RIGHT, FROM_BOTTOM = (5, 6, 7, 8), (2, 3, 6, 7), (3, 4, 7, 8)
DEEP_GREY = ("I;16", "I;16L", "I;16B", "I;16N")


@dataclass(frozen=True, slots=True)
class Decoded:
    """
    Attributes:
        image: upright, mode L or RGB; smaller than `width` x `height` if a JPEG was decoded at
            1/2, 1/4 or 1/8 of its size.
        width, height: of the upright photograph at full size, in pixels.
        reduction: 1, 2, 4 or 8: full-size pixels per image pixel, in each direction. Not always
            `width / image.width`, because the last column may be a partial one.
        left, top: full-size pixels of padding before the photograph; after a rotation, the
            partial column or row may come first.
    """

    image: Image.Image
    width: int
    height: int
    reduction: int = 1
    left: int = 0
    top: int = 0


def decode(
    item: Input,
    content: bytes,
    channels: int,
    background: int,
    shrink: Callable[[int, int], float] | None = None,
) -> Decoded:
    """Decode a photograph, or the first frame of an animation.

    Args:
        channels: 1 for grey, 3 for RGB.
        background: the grey level, 0 to 255, behind transparent pixels.
        shrink: (width, height) of the file -> the scale that suffices. A JPEG is then decoded at
            1/2, 1/4 or 1/8 of its size, if that is no less than the scale.
    Raises:
        Unusable: if it is not an image, or cannot be decoded.
    """
    if item.shape is not None:
        height, width = item.shape
        raw = Image.frombytes("L", (width, height), content)
        return Decoded(raw if channels == 1 else raw.convert("RGB"), width, height)
    try:
        return _decode(content, channels, background, shrink)
    except (Unusable, FaceganError):
        raise
    except UnidentifiedImageError:
        named = item.path.lower().endswith(SUFFIXES)
        # macOS adds a "._" file beside each photograph in a zip; it contains no image.
        named = named and not item.path.rpartition("/")[2].startswith("._")
        raise Unusable("unreadable" if named else "not-an-image") from None
    except Image.DecompressionBombError:
        raise Unusable("bomb") from None
    except Exception as error:  # corrupt bytes make Pillow's plugins raise almost anything
        raise Unusable("truncated" if "truncated" in str(error).lower() else "unreadable") from None


def _decode(
    content: bytes, channels: int, background: int, shrink: Callable[[int, int], float] | None
) -> Decoded:
    image: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise Unusable("bomb")
    scale = 1.0 if shrink is None else shrink(width, height)
    target = math.ceil(width * scale), math.ceil(height * scale)
    drafted = image.draft(None, target) if scale < 1 else None
    reduction = round(width / drafted[1][2]) if drafted else 1
    image.load()
    orientation = _orientation(image)
    if orientation in TRANSPOSES:
        image = image.transpose(TRANSPOSES[orientation])
    if orientation in SWAPPED:
        width, height = height, width
    left = image.width * reduction - width if orientation in FROM_RIGHT else 0
    top = image.height * reduction - height if orientation in FROM_BOTTOM else 0
    converted = _convert(image, channels, background)
    return Decoded(converted, width, height, reduction, left, top)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 is upright."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # the image may be intact although its EXIF is corrupt
        return 1


def _convert(image: Image.Image, channels: int, background: int) -> Image.Image:
    mode = "L" if channels == 1 else "RGB"
    if image.mode in DEEP_GREY:
        # Pillow's own conversion clips everything above 255.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode == "LAB":
        image = image.convert("RGB")  # Pillow has no direct conversion to grey
    elif image.mode in ("I", "F"):
        raise Unusable("unreadable")  # the value of white is unknown
    if image.has_transparency_data:
        transparent = image.convert("RGBA")
        image = Image.new("RGBA", image.size, (background, background, background, 255))
        image.alpha_composite(transparent)
    return image if image.mode == mode else image.convert(mode)
