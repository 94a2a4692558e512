"""The evolution of a training, from the pictures that its history names."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facegan.core.errors import FaceganError
from facegan.core.history import NAME, read_history
from facegan.sample.animation import resized
from facegan.sample.caption import add_caption, count_lines

# The last frame is shown so many times as long.
HOLD = 8


class Film:
    """The sample pictures of a training, evenly spaced, the first and the last included.

    Args:
        folder: that of `train`, or of an unfinished training.
        most: pictures.
        caption: whether a frame says how many images had been seen, with the quick FID so far.
        size: pixels of the longer side, without the caption; None keeps it.
    Raises:
        FaceganError: if `folder` has no history, or no picture that it names is there; also
            while the frames are read, if one is damaged.
    """

    def __init__(self, folder: Path, most: int, caption: bool, size: int | None) -> None:
        self.folder, self.caption, self.size = folder, caption, size
        events = read_history(folder / NAME)
        # A picture comes before the score of the same images.
        scores = {e["images_seen"]: e["quick_fid"] for e in events if e["event"] == "score"}
        found = [
            (name, _caption(event["images_seen"], scores))
            for event in events
            if isinstance(name := event.get("picture"), str) and (folder / name).is_file()
        ]
        if not found:
            raise FaceganError(f"{folder}: has no sample pictures; expected a folder of train")
        indices = np.linspace(0, len(found) - 1, min(len(found), most)).round().astype(int)
        self.pictures = [found[index] for index in indices]
        self.sides: tuple[int, int] | None = None
        width = self._pixels(self.pictures[0][0]).shape[1]
        self.lines = max(count_lines(text, width) for _, text in self.pictures)

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        """uint8 (H, W, C), read one at a time; the last one again and again."""
        for name, text in self.pictures:
            frame = self._pixels(name)
            if self.caption:
                frame = add_caption(frame, text, self.lines)
            yield frame
        for _ in range(HOLD - 1):
            yield frame

    def _pixels(self, name: str) -> NDArray[np.uint8]:
        path = self.folder / name
        try:
            with Image.open(path) as picture:
                # Programs that make PNGs smaller change their mode.
                pixels = np.asarray(picture.convert("L" if picture.mode in ("1", "L") else "RGB"))
                self.sides = self.sides or picture.size
                if picture.size != self.sides:
                    raise FaceganError(f"{path}: {_size(picture.size)}, not {_size(self.sides)}")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise FaceganError(f"{path}: cannot be read ({error})") from None
        return resized(pixels[..., None] if pixels.ndim == 2 else pixels, self.size)


def _size(sides: tuple[int, int]) -> str:
    return f"{sides[0]}x{sides[1]} pixels"


def _caption(seen: int, scores: dict[int, float]) -> str:
    """Images seen, and the quick FID then."""
    last = max((at for at in scores if at <= seen), default=None)
    return f"{seen:,} images seen" + ("" if last is None else f", quick FID {scores[last]:.4g}")
