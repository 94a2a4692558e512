"""Kinds of JPEG that are not decoded (ITU-T T.81, B.2)."""

# Frame headers, SOF0 to SOF15 without what is in between; of these, the ones that are decoded.
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
DECODED = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)
# Markers without a length: TEM, RST0 to RST7, SOI.
BARE = (0x01, *range(0xD0, 0xD9))


def is_unsupported(content: bytes) -> bool:
    """Whether a JPEG is lossless, hierarchical or of more than 8 bits, as in medicine."""
    position = 2
    while content[position : position + 1] == b"\xff":
        marker = content[position + 1] if position + 1 < len(content) else 0
        if marker in FRAMES:
            return marker not in DECODED or content[position + 4 : position + 5] != b"\x08"
        if marker in BARE:
            position += 2
        elif marker == 0xFF:  # padding
            position += 1
        else:
            position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    return False
