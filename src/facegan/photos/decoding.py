"""Encoded photograph -> upright image in grey or RGB."""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

from facegan.core.errors import FaceganError
from facegan.photos import colour, formats, jpegs, png_metadata, tiffs
from facegan.photos.inputs import Input, Unusable

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
# Pixels that are decoded, which take 4 bytes each: 1 GiB. A JPEG at a reduced scale has fewer than
# its file; only a progressive one is in memory as a whole meanwhile.
MAX_PIXELS = 2**28
# JPEG's end marker, and bytes that would change the picture if they were part of it.
END_OF_IMAGE, PADDING = b"\xff\xd9", b"\xfe\xa5" * 32
# In the messages of Pillow about what it does not decode.
UNSUPPORTED = ("unsupported", "not supported", "cannot handle", "unknown")
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
# The depths of grey PNGs whose transparent level Pillow does not scale as it scales the pixels.
PNG_SCALES = {2: 85, 4: 17}


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
        colour: whether its colour profile was converted or ignored; "" if there was none to use.
    """

    image: Image.Image
    width: int
    height: int
    reduction: int = 1
    left: int = 0
    top: int = 0
    colour: str = ""


def decode(
    item: Input,
    content: bytes,
    channels: int,
    background: int | None,
    shrink: Callable[[int, int], float] | None = None,
) -> Decoded:
    """Decode a photograph, or the first frame of an animation.

    Args:
        channels: 1 for grey, 3 for RGB.
        background: the grey level, 0 to 255, behind transparent pixels; None refuses these.
        shrink: (width, height) of the file -> the scale that suffices. A JPEG is then decoded at
            1/2, 1/4 or 1/8 of its size, if that is no less than the scale.
    Raises:
        Unusable: if it is not an image, or cannot be decoded.
    """
    if item.shape is not None:
        height, width = item.shape
        raw = Image.frombytes("L", (width, height), content)
        return Decoded(raw if channels == 1 else raw.convert("RGB"), width, height)
    # Pillow's own limits are of what a file states; those here are of what is decoded.
    Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = None, png_metadata.MAX_BYTES
    try:
        try:
            return _decode(item.path, content, channels, background, shrink)
        except OSError as error:
            if "truncated" not in str(error) or formats.decoded_format(content) != "jpeg":
                raise
            return _without_end(item.path, content, channels, background, shrink)
        except ValueError as error:
            if "text" not in str(error).lower() or formats.decoded_format(content) != "png":
                raise
            light = png_metadata.without_large(content)
            return _decode(item.path, light, channels, background, shrink)
    except (Unusable, FaceganError):
        raise
    except UnidentifiedImageError:
        raise Unusable(_status_of_unidentified(content, item.path)) from None
    except Exception as error:  # corrupt bytes make Pillow's plugins raise almost anything
        raise Unusable(_status_of_error(str(error).lower(), content, item.path)) from None


def _decode(
    path: str,
    content: bytes,
    channels: int,
    background: int | None,
    shrink: Callable[[int, int], float] | None,
) -> Decoded:
    image: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tiffs.select_picture(image, content, path)
    width, height = image.size
    scale = 1.0 if shrink is None else shrink(width, height)
    target = math.ceil(width * scale), math.ceil(height * scale)
    drafted = image.draft(None, target) if scale < 1 else None
    reduction = round(width / drafted[1][2]) if drafted else 1
    pixels = width * height if "progressive" in image.info else image.width * image.height
    if pixels > MAX_PIXELS:
        raise Unusable("bomb")
    image.load()
    orientation = _orientation(image)
    image, profile = colour.to_srgb(_eight_bit(image, content), content)
    if orientation in TRANSPOSES:
        image = image.transpose(TRANSPOSES[orientation])
    if orientation in SWAPPED:
        width, height = height, width
    left = image.width * reduction - width if orientation in FROM_RIGHT else 0
    top = image.height * reduction - height if orientation in FROM_BOTTOM else 0
    converted = _convert(image, channels, background)
    return Decoded(converted, width, height, reduction, left, top, profile)


def _without_end(path: str, content: bytes, *options: Any) -> Decoded:
    """A JPEG that lacks its end marker and nothing else: the decoder uses no byte after its data.

    Raises:
        Unusable: if more is missing, or scans of a progressive JPEG may be.
    """
    data = content.rstrip(b"\xff")
    one, other = (
        _decode(path, data + padding + END_OF_IMAGE, *options) for padding in (b"", PADDING)
    )
    if one.image.tobytes() != other.image.tobytes() or "progressive" in one.image.info:
        raise Unusable("truncated")
    return one


def _status_of_unidentified(content: bytes, path: str) -> str:
    status = formats.status_of_unread(content[: formats.HEAD], path)
    return _unsupported(content) or status if status in ("unreadable", "not-an-image") else status


def _unsupported(content: bytes) -> str | None:
    """The status of a photograph that is intact, but of an unusual kind; None for others."""
    kind = formats.decoded_format(content)
    check = {"jpeg": jpegs.is_unsupported, "tiff": tiffs.is_unsupported}.get(kind or "")
    return f"unsupported-{kind}" if check and check(content) else None


def _status_of_error(message: str, content: bytes, path: str) -> str:
    if "truncated" in message:
        return "truncated"
    # A text may start like a BMP or PNM.
    if b"\0" not in content[: formats.HEAD] and not path.lower().endswith(formats.ENCODED):
        return "not-an-image"
    kind = formats.decoded_format(content)
    if kind and any(word in message for word in UNSUPPORTED):
        return f"unsupported-{kind}"
    return _unsupported(content) or "unreadable"


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 is upright."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # the image may be intact although its EXIF is corrupt
        return 1


def _eight_bit(image: Image.Image, content: bytes) -> Image.Image:
    """Deep grey as 8 bits, with transparency in the levels of its pixels.

    Raises:
        Unusable: if white or the transparent colour is not known.
    """
    transparent = image.info.get("transparency")
    depth = content[24] if image.format == "PNG" else 8
    if image.mode in DEEP_GREY:
        # Pillow's own conversion clips everything above 255.
        levels, tags = np.asarray(image), getattr(image, "tag_v2", {})
        bits = max(tags.get(tiffs.BITS, (16,)))
        high = (levels >> (bits - 8)).astype(np.uint8)
        deep, image = (
            image,
            Image.fromarray(~high if tags.get(tiffs.PHOTOMETRIC) == tiffs.WHITE_IS_ZERO else high),
        )
        image.info = {k: v for k, v in deep.info.items() if k != "transparency"}
        image.format = deep.format
        if transparent is not None:
            image.putalpha(Image.fromarray(np.uint8(255) * (levels != transparent)))
    elif image.mode == "I" and image.format == "PPM":
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise Unusable("unsupported-depth")  # the value of white is unknown
    elif transparent is not None and depth == 16:
        raise Unusable("unsupported-transparency")  # of two colours that differ in the low byte
    elif image.mode == "L" and depth in PNG_SCALES and isinstance(transparent, int):
        image.info["transparency"] = transparent * PNG_SCALES[depth]
    return image


def _convert(image: Image.Image, channels: int, background: int | None) -> Image.Image:
    mode = "L" if channels == 1 else "RGB"
    if image.mode == "LAB":
        image = image.convert("RGB")  # Pillow has no direct conversion to grey
    if image.has_transparency_data:
        transparent = image.convert("RGBA")
        if background is None and transparent.getchannel("A").getextrema() != (255, 255):
            raise Unusable("transparent")
        level = background or 0
        image = Image.new("RGBA", image.size, (level, level, level, 255))
        image.alpha_composite(transparent)
    return image if image.mode == mode else image.convert(mode)
