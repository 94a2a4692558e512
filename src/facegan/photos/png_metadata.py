"""PNG's texts and colour profiles, which are compressed and may be bombs."""

import struct
import zlib

# Bytes of one inflated profile, and of all inflated texts.
MAX_BYTES = 2**24
TEXTS = (b"tEXt", b"zTXt", b"iTXt")


def without_large(content: bytes) -> bytes:
    """A PNG without the texts and profiles that inflate to more than `MAX_BYTES`."""
    kept, position, left = [content[:8]], 8, MAX_BYTES
    while position < len(content):
        size, kind = struct.unpack(">I4s", content[position : position + 8].ljust(8, b"\0"))
        chunk = content[position : position + 12 + size]
        position += 12 + size
        if kind in TEXTS or kind == b"iCCP":
            inflated = _inflated_size(kind, chunk[8:-4], MAX_BYTES)
            if inflated > (MAX_BYTES if kind == b"iCCP" else left):
                continue
            left -= 0 if kind == b"iCCP" else inflated
        kept.append(chunk)
    return b"".join(kept)


def _inflated_size(kind: bytes, body: bytes, limit: int) -> int:
    """The bytes of a chunk once inflated, at most `limit` + 1."""
    _, _, rest = body.partition(b"\0")  # the keyword
    if kind == b"tEXt" or (kind == b"iTXt" and rest[:1] != b"\1"):
        return len(body)
    packed = rest[2:].split(b"\0", 2)[-1] if kind == b"iTXt" else rest[1:]
    try:
        return len(zlib.decompressobj().decompress(packed, limit + 1))
    except zlib.error:
        return limit + 1
