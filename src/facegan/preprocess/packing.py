"""A chunk of inputs -> packed pixels: one task of a worker."""

import hashlib
import math
import warnings
from collections.abc import Sequence
from contextlib import closing
from typing import NamedTuple

import numpy as np
from PIL import Image

from facegan.core.errors import FaceganError
from facegan.params import Preprocess
from facegan.photos.decoding import Decoded, decode
from facegan.photos.discovery import Reader
from facegan.photos.inputs import Input, Root, Unusable, shown
from facegan.preprocess.duplicates import perceptual_hash
from facegan.preprocess.npy_writer import Pixels

RESAMPLING = {
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
}


class Row(NamedTuple):
    """The result for one input.

    Attributes:
        sha256: of its bytes, in hexadecimal; empty if it could not be read.
        width, height: of the upright photograph; 0 if it could not be decoded.
        status: why it is unusable; None if it has pixels.
        digest: of its packed pixels.
        perceptual: 64-bit perceptual hash; 0 unless near duplicates are dropped.
        colour: whether its colour profile was converted or ignored; "" if it has none to use.
    """

    path: str
    sha256: str = ""
    width: int = 0
    height: int = 0
    status: str | None = None
    digest: bytes = b""
    perceptual: int = 0
    colour: str = ""


def pack_inputs(
    root: Root, inputs: Sequence[Input], params: Preprocess
) -> tuple[list[Row], Pixels]:
    """Read, decode, crop and resize.

    Returns:
        A row per input, and uint8 (k, resolution, resolution, channels) for the k usable ones.
    Raises:
        FaceganError: if a photograph is smaller than the crop box.
    """
    rows, packed = [], []
    with warnings.catch_warnings(), closing(Reader(root)) as reader:
        warnings.simplefilter("ignore")  # Pillow warns about odd metadata
        for item in inputs:
            row, pixels = _pack_input(reader, item, params)
            rows.append(row)
            packed.append(pixels)
    side = params.resolution
    array = np.frombuffer(b"".join(packed), np.uint8)
    return rows, array.reshape(-1, side, side, params.channels)


def _pack_input(reader: Reader, item: Input, params: Preprocess) -> tuple[Row, bytes]:
    """The row of an input, and its packed pixels; b"" if it is unusable."""
    sha256 = ""
    try:
        content = reader.read(item)
        sha256 = hashlib.sha256(content).hexdigest()

        def shrink(width: int, height: int) -> float:
            if min(width, height) < params.min_side:
                return 1.0  # too small to use, and maybe for the crop box
            left, top, right, bottom = crop_box(width, height, params.crop, item.path)
            return params.resolution / min(right - left, bottom - top)

        full = params.jpeg == "full"
        decoded = decode(
            item, content, params.channels, params.background, None if full else shrink
        )
    except Unusable as error:
        return Row(item.path, sha256, status=str(error)), b""
    size = decoded.width, decoded.height
    if min(size) < params.min_side:
        return Row(item.path, sha256, *size, "too-small"), b""
    small = resize(decoded, params, item.path)
    pixels = small.tobytes()
    digest = hashlib.sha256(pixels).digest()[:16]
    perceptual = 0 if params.near_duplicates is None else perceptual_hash(small)
    return Row(item.path, sha256, *size, None, digest, perceptual, decoded.colour), pixels


def crop_box(width: int, height: int, crop: str, path: str) -> tuple[int, int, int, int]:
    """The part of a photograph to keep: (left, top, right, bottom), in pixels.

    Raises:
        FaceganError: if the photograph is smaller than the crop box.
    """
    if crop == "none":
        return 0, 0, width, height
    side = min(width, height) if crop == "center" else int(crop.removeprefix("box-"))
    if side > min(width, height):
        raise FaceganError(
            f"{shown(path)}: {width}x{height} pixels, smaller than preprocess.crop: {crop}; "
            f"exclude such photographs with preprocess.min_side: {side}, or choose another crop"
        )
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def resize(decoded: Decoded, params: Preprocess, path: str) -> Image.Image:
    """Crop and resize to (resolution, resolution) with antialiasing."""
    box = crop_box(decoded.width, decoded.height, params.crop, path)
    padding = decoded.left, decoded.top
    left, top, right, bottom = (
        (edge + padding[axis % 2]) / decoded.reduction for axis, edge in enumerate(box)
    )
    # Crop to whole pixels first, because the resampling filter reaches beyond its box.
    x, y = math.floor(left), math.floor(top)
    outer = decoded.image.crop((x, y, math.ceil(right), math.ceil(bottom)))
    inner = left - x, top - y, right - x, bottom - y
    side = params.resolution
    return outer.resize((side, side), RESAMPLING[params.resample], box=inner)
