"""Bytes of a photograph -> an upright image in grey or RGB."""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from facegan.core.errors import FaceganError
from facegan.photos.inputs import Input, Unusable

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
# What is called so and can't be decoded is counted as unusable; the last line's formats never can.
SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"),
    *(".heic", ".heif", ".avif", ".jp2", ".tar.xz", ".tar.bz2", ".tar.zst", ".7z", ".rar"),
)
# A decoded photograph takes up to 4 bytes a pixel.
MAX_PIXELS = 2**27
# How EXIF's orientations are undone; which of them turn by a quarter, and which begin where the
# file's rows or columns end.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
TURNED, FROM_RIGHT, FROM_BELOW = (5, 6, 7, 8), (2, 3, 6, 7), (3, 4, 7, 8)
DEEP_GREY = ("I;16", "I;16L", "I;16B", "I;16N")


@dataclass(frozen=True, slots=True)
class Decoded:
    """
    Attributes:
        image: upright, mode L or RGB; smaller than `width` x `height` where a JPEG was decoded at
            a half, a quarter or an eighth of its size.
        width, height: of the upright photograph, in pixels.
        reduction: 1, 2, 4 or 8: how many of its pixels one of the image's has across. Not always
            `width / image.width`, because the last column may be a part of one.
        left, top: how many of its pixels the image has before the photograph begins; where it
            was turned, that last column comes first.
    """

    image: Image.Image
    width: int
    height: int
    reduction: int = 1
    left: int = 0
    top: int = 0


def decode(
    each: Input,
    content: bytes,
    channels: int,
    background: int,
    shrink: Callable[[int, int], float] | None = None,
) -> Decoded:
    """Decode a photograph; the first frame of an animation.

    Args:
        channels: 1 for grey, 3 for RGB.
        background: the grey level, 0 to 255, behind transparent pixels.
        shrink: of a photograph's width and height, the share that is enough. A JPEG is then
            decoded at 1/2, 1/4 or 1/8 of its size, if that is at least the share.
    Raises:
        Unusable: if it is no image, or one that can't be decoded.
    """
    if each.shape is not None:
        height, width = each.shape
        raw = Image.frombytes("L", (width, height), content)
        return Decoded(raw if channels == 1 else raw.convert("RGB"), width, height)
    try:
        return _decode(content, channels, background, shrink)
    except (Unusable, FaceganError):
        raise
    except UnidentifiedImageError:
        named = each.path.lower().endswith(SUFFIXES)
        # macOS puts a "._" file beside each photograph in a zip; it holds no picture.
        named = named and not each.path.rpartition("/")[2].startswith("._")
        raise Unusable("unreadable" if named else "not-an-image") from None
    except Image.DecompressionBombError:
        raise Unusable("bomb") from None
    except Exception as error:  # Pillow's plugins raise whatever the bytes lead them to
        raise Unusable("truncated" if "truncated" in str(error).lower() else "unreadable") from None


def _decode(
    content: bytes, channels: int, background: int, shrink: Callable[[int, int], float] | None
) -> Decoded:
    image: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise Unusable("bomb")
    share = 1.0 if shrink is None else shrink(width, height)
    enough = math.ceil(width * share), math.ceil(height * share)
    drafted = image.draft(None, enough) if share < 1 else None
    reduction = round(width / drafted[1][2]) if drafted else 1
    image.load()
    turn = _orientation(image)
    if turn in TURNS:
        image = image.transpose(TURNS[turn])
    if turn in TURNED:
        width, height = height, width
    left = image.width * reduction - width if turn in FROM_RIGHT else 0
    top = image.height * reduction - height if turn in FROM_BELOW else 0
    converted = _converted(image, channels, background)
    return Decoded(converted, width, height, reduction, left, top)


def _orientation(image: Image.Image) -> int:
    """EXIF's, 1 to 8: 1 is upright."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF says nothing, and the picture may be whole
        return 1


def _converted(image: Image.Image, channels: int, background: int) -> Image.Image:
    mode = "L" if channels == 1 else "RGB"
    if image.mode in DEEP_GREY:
        # Pillow's own conversion cuts everything above 255 off.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode == "LAB":
        image = image.convert("RGB")  # Pillow knows no direct way to grey
    elif image.mode in ("I", "F"):
        raise Unusable("unreadable")  # nothing says which value is white
    if image.has_transparency_data:
        transparent = image.convert("RGBA")
        image = Image.new("RGBA", image.size, (background, background, background, 255))
        image.alpha_composite(transparent)
    return image if image.mode == mode else image.convert(mode)
