"""A line of text below a picture."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Font = ImageFont.ImageFont | ImageFont.FreeTypeFont

MIN_WIDTH = 256
FONT_SIZE, MARGIN = 13, 4


def add_caption(pixels: NDArray[np.uint8], text: str, lines: int = 1) -> NDArray[np.uint8]:
    """Append a black strip with `text`, in lines that fit the width.

    Args:
        pixels: uint8 (H, W, 1 or 3).
        lines: that the strip has at least.
    Returns:
        uint8 (H + strip, max(W, 256), 1 or 3): narrower pictures get black margins.
    """
    _, width, channels = pixels.shape
    font = ImageFont.load_default(FONT_SIZE)
    total = max(width, MIN_WIDTH)
    wrapped = _wrapped(text, font, total - 2 * MARGIN)
    step = FONT_SIZE + MARGIN
    strip = Image.new("L", (total, step * max(len(wrapped), lines) + MARGIN))
    draw = ImageDraw.Draw(strip)
    for number, line in enumerate(wrapped):
        draw.text((MARGIN, MARGIN // 2 + number * step), line, fill=255, font=font)
    below = np.repeat(np.asarray(strip)[..., None], channels, axis=2)
    left = (total - width) // 2
    above = np.pad(pixels, ((0, 0), (left, total - width - left), (0, 0)))
    return np.concatenate([above, below])


def count_lines(text: str, width: int) -> int:
    """The lines of a caption below a picture of this width, in pixels."""
    font = ImageFont.load_default(FONT_SIZE)
    return len(_wrapped(text, font, max(width, MIN_WIDTH) - 2 * MARGIN))


def _wrapped(text: str, font: Font, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
