"""TIFF files of every layout of pixels, built by hand."""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

Entries = dict[int, tuple[int, tuple[int, ...] | bytes]]
SHORT, LONG, ASCII = 3, 4, 2
# Tags.
SUBFILE, COMPRESSION, PHOTOMETRIC, MAKE, PLANAR, SUB_IFDS, EXTRA = 254, 259, 262, 271, 284, 330, 338


def directory(entries: Entries, offset: int, following: int = 0, order: str = "<") -> bytes:
    """An image file directory at `offset`, and the values that do not fit into its entries."""
    fields, extra = struct.pack(order + "H", len(entries)), b""
    start = offset + 2 + 12 * len(entries) + 4
    for tag, (kind, values) in sorted(entries.items()):
        if isinstance(values, bytes):
            raw, count = values, len(values)
        else:
            raw, count = (
                struct.pack(f"{order}{len(values)}{'HI'[kind == LONG]}", *values),
                len(values),
            )
        if len(raw) > 4:
            place = struct.pack(order + "I", start + len(extra))
            extra += raw + b"\0" * (len(raw) % 2)
        else:
            place = raw.ljust(4, b"\0")
        fields += struct.pack(order + "HHI", tag, kind, count) + place
    return fields + struct.pack(order + "I", following) + extra


def tiff(
    levels: NDArray[np.uint16],
    bits: int,
    photometric: int,
    planar: bool = False,
    order: str = "<",
    deflate: bool = False,
    more: Entries | None = None,
) -> bytes:
    """A TIFF of one strip per plane.

    Args:
        levels: (height, width, samples), each below 2 ** bits.
        photometric: 0 and 1 grey, white or black is zero; 2 RGB; 3 palette; 5 CMYK.
        planar: store the samples one after the other.
    """
    height, width, samples = levels.shape
    planes = np.moveaxis(levels, 2, 0)[..., None] if planar else levels[None]
    strips = [_packed(plane.reshape(height, -1), bits, order) for plane in planes]
    if deflate:
        strips = [zlib.compress(strip) for strip in strips]
    entries: Entries = {
        SUBFILE: (LONG, (0,)),
        256: (LONG, (width,)),
        257: (LONG, (height,)),
        258: (SHORT, (bits,) * samples),
        COMPRESSION: (SHORT, (8 if deflate else 1,)),
        PHOTOMETRIC: (SHORT, (photometric,)),
        273: (LONG, tuple(int(n) for n in 8 + np.cumsum([0, *map(len, strips[:-1])]))),
        277: (SHORT, (samples,)),
        278: (LONG, (height,)),
        279: (LONG, tuple(map(len, strips))),
        PLANAR: (SHORT, (2 if planar else 1,)),
    } | (more or {})
    body = b"".join(strips)
    body += b"\0" * (len(body) % 2)
    start = 8 + len(body)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", start)
    return head + body + directory(entries, start, order=order)


def _packed(rows: NDArray[np.uint16], bits: int, order: str) -> bytes:
    if bits == 16:
        return rows.astype(order + "u2").tobytes()
    ones = (rows[:, :, None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(ones.reshape(len(rows), -1).astype(np.uint8), axis=1).tobytes()
