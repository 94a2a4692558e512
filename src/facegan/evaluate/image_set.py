"""Images of any tool, read as `preprocess` reads photographs, for their scores."""

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facegan.core.errors import FaceganError
from facegan.core.events import Message, OnEvent, Progress, silent
from facegan.params import MIN_IMAGES
from facegan.photos import discovery, formats
from facegan.photos.decoding import decode
from facegan.photos.inputs import OTHERS, Input, Root, SingleFile, Unusable, open_root, shown
from facegan.runtime.distributed import is_main_process

# Images that cannot be scored, after which no more are read; each has its message.
MAX_UNUSABLE = 10
# Levels that the channels of a grey image differ by at most; 1 in a lossy WebP.
GREY = 1


@dataclass(frozen=True)
class ImageSet:
    """
    Attributes:
        pixels: uint8 (n, H, W, C), on the CPU, mapped from a temporary file.
        sha256: of the pixels.
        warnings: what changes a score and cannot be seen in the pixels' shape.
    """

    pixels: Tensor
    sha256: str
    warnings: list[str]


def read_images(address: str, shape: Sequence[int], on_event: OnEvent = silent) -> ImageSet:
    """Read all images in a folder, an archive, an IDX file, or below `s3://bucket/prefix`.

    None is resized, and none may be missing: FIDs of fewer images, or of resized ones, are not
    comparable. Files that are no images are passed over. Grey is RGB with equal channels, as many
    tools store it.

    Args:
        shape: (H, W, C) that they must have; C is 1 for grey, 3 for RGB.
    Raises:
        FaceganError: if an image cannot be read, or has another shape or transparent pixels; if all
            are grey and C is 3; if there are fewer than MIN_IMAGES.
    """
    if not is_main_process():
        on_event = silent  # all processes read the same
    root = _open(address)
    reader = _Packing(address, shape, on_event)
    total, digest = discovery.count(root), hashlib.sha256()
    with tempfile.TemporaryFile() as file:
        for number, pixels in enumerate(reader.pack(root), start=1):
            if pixels is not None:
                file.write(pixels)
                digest.update(pixels)
            on_event(Progress(number, total))
        reader.check()
        file.flush()
        packed = np.memmap(file, np.uint8, "r+", shape=(reader.count, *shape))
    return ImageSet(torch.from_numpy(packed), digest.hexdigest(), reader.warnings())


def _open(address: str) -> Root:
    path = Path(address)
    if not address.startswith("s3://") and not path.exists():
        raise FaceganError(f"{address}: not found; expected a folder or an archive of images")
    return SingleFile(path) if path.is_file() else open_root(address)


class _Packing:
    """Inputs -> pixels, and what there is to say about them."""

    def __init__(self, address: str, shape: Sequence[int], on_event: OnEvent) -> None:
        self.address, self.on_event = address, on_event
        self.height, self.width, self.channels = shape
        self.count = self.grey = self.lossy = 0
        self.unusable: list[str] = []
        self.others: Counter[str] = Counter()

    def pack(self, root: Root) -> Iterator[bytes | None]:
        """The pixels of each input, in order; None for one without."""
        with closing(discovery.Reader(root)) as reader:
            for item in discovery.find(root):
                try:
                    yield self._pack(item, reader.read(item))
                except Unusable as error:
                    self._note(item, str(error))
                    yield None

    def _pack(self, item: Input, content: bytes) -> bytes:
        decoded = decode(item, content, channels=3, background=None)
        if (decoded.width, decoded.height) != (self.width, self.height):
            raise Unusable(f"{decoded.width}x{decoded.height} pixels")
        pixels: NDArray[np.uint8] = np.asarray(decoded.image)
        is_grey = bool((pixels.max(2) - pixels.min(2)).max() <= GREY)
        if self.channels == 1 and not is_grey:
            raise Unusable("colour")
        self.count += 1
        self.grey += is_grey
        self.lossy += item.shape is None and _is_lossy(content)
        return (decoded.image if self.channels == 3 else decoded.image.convert("L")).tobytes()

    def _note(self, item: Input, status: str) -> None:
        if status in OTHERS:
            self.others[status] += 1
            return
        named = f"{shown(item.path)} ({status})"
        self.unusable.append(named)
        self.on_event(Message(f"{shown(item.path)}: {status}"))
        if len(self.unusable) == MAX_UNUSABLE:
            raise self._error(f"at least {MAX_UNUSABLE} images")

    def check(self) -> None:
        """
        Raises:
            FaceganError: if these images cannot be scored.
        """
        if self.unusable:
            total = self.count + len(self.unusable)
            raise self._error(f"{len(self.unusable):,} of {total:,} images")
        if self.count < MIN_IMAGES:
            rest = f" ({self._passed_over()})" if self.others else ""
            raise FaceganError(
                f"{self.address}: {self.count} images{rest}; scores need at least {MIN_IMAGES}"
            )
        if self.channels == 3 and self.grey == self.count:
            raise FaceganError(
                f"{self.address}: all {self.count:,} images are grey; valid for this reference: "
                f"{self._valid()}"
            )

    def _error(self, counted: str) -> FaceganError:
        first = ", ".join(self.unusable[:3])
        return FaceganError(
            f"{self.address}: {counted} cannot be scored; valid for this reference: "
            f"{self._valid()}; the first: {first}"
        )

    def _valid(self) -> str:
        colours = "grey" if self.channels == 1 else "RGB"
        return f"{self.width}x{self.height} pixels, {colours}, no transparency"

    def _passed_over(self) -> str:
        return ", ".join(f"{n:,} {status}" for status, n in sorted(self.others.items()))

    def warnings(self) -> list[str]:
        found = [f"passed over: {self._passed_over()}"] if self.others else []
        if self.lossy:
            found.append(
                f"{self.lossy:,} images are JPEG or lossy WebP, which changes the FID (Parmar et "
                "al. 2022); write PNG"
            )
        return found


def _is_lossy(content: bytes) -> bool:
    kind = formats.decoded_format(content)
    return kind == "jpeg" or (kind == "webp" and content[12:16] == b"VP8 ")
