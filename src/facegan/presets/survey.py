"""Number and size of the photographs in a folder, from a sample of them."""

import random
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from facegan.photos import discovery
from facegan.photos.decoding import Decoded, decode
from facegan.photos.inputs import OTHERS, Input, Root, Unusable

# Inputs that are decoded. With at most as many, everything is known exactly.
SAMPLE = 200
# Pixels of the short side that suffice to see whether a photograph is grey.
SHORT_SIDE = 32


@dataclass(frozen=True)
class Photographs:
    """What a preset is chosen by.

    Attributes:
        count: usable photographs, those that are too small included; estimated from the sample.
        unusable: share of the photographs that cannot be decoded, in [0, 1].
        short_sides: shorter side, in pixels, of each usable photograph of the sample.
        is_grey: whether all of these are grey, also those that are stored as RGB.
    """

    count: int
    unusable: float
    short_sides: tuple[int, ...]
    is_grey: bool


def survey(root: Root) -> Photographs:
    """Decode up to SAMPLE random inputs below `root`.

    Raises:
        FaceganError: if the root does not exist.
    """
    total, sample = _sample(root)
    decoded, unusable = list[Decoded](), 0
    with closing(discovery.Reader(root)) as reader:
        for item in sample:
            try:
                content = reader.read(item)
                decoded.append(decode(item, content, 3, 255, _suffices))
            except Unusable as error:
                unusable += str(error) not in OTHERS
    photographs = len(decoded) + unusable
    return Photographs(
        count=round(total * len(decoded) / max(len(sample), 1)),
        unusable=unusable / max(photographs, 1),
        short_sides=tuple(min(one.width, one.height) for one in decoded),
        is_grey=all(map(_is_grey, decoded)),
    )


def _sample(root: Root) -> tuple[int, list[Input]]:
    """The number of inputs, and a random sample of them, with a fixed seed (reservoir sampling,
    Vitter 1985, algorithm R)."""
    rng, chosen, total = random.Random(0), list[Input](), 0
    for total, item in enumerate(discovery.find(root), start=1):
        if total <= SAMPLE:
            chosen.append(item)
        elif (index := rng.randrange(total)) < SAMPLE:
            chosen[index] = item
    return total, chosen


def _suffices(width: int, height: int) -> float:
    return min(1.0, SHORT_SIDE / min(width, height))


def _is_grey(photograph: Decoded) -> bool:
    pixels = np.asarray(photograph.image)
    return bool((pixels == pixels[..., :1]).all())
