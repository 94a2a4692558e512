"""Seeds -> latents: one seed is one image of a generator, whatever is drawn beside it."""

import re
from itertools import groupby

import numpy as np
import torch
from scipy.special import ndtr, ndtri
from torch import Tensor

from facegan.core.errors import FaceganError
from facegan.models import sampling

MAX_COUNT = 10_000_000


def runs(seeds: list[int]) -> list[list[int]]:
    """Split seeds into runs of consecutive ones.

    >>> runs([1, 5, 6, 7])
    [[1], [5, 6, 7]]
    """
    groups = groupby(enumerate(seeds), lambda pair: pair[1] - pair[0])
    return [[seed for _, seed in group] for _, group in groups]


def parse_seeds(text: str, option: str = "--seeds") -> list[int]:
    """Seeds and ranges of them, the last one included.

    >>> parse_seeds("1,5-9")
    [1, 5, 6, 7, 8, 9]

    Args:
        option: that has the text, for messages.
    Raises:
        FaceganError: if `text` is something else, a seed is too large, or there are too many.
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,10})(?:-(\d{1,10}))?\s*", part)
        if match is None:
            raise FaceganError(f"{option} {text}: {part!r}; valid: seeds and ranges, such as 1,5-9")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last > sampling.MAX_SEED:
            valid = f"valid: rising ranges of 0 to {sampling.MAX_SEED}"
            raise FaceganError(f"{option} {text}: {part!r}; {valid}")
        if len(seeds) + last - first >= MAX_COUNT:
            raise FaceganError(f"{option} {text}: more than {MAX_COUNT:,} seeds")
        seeds.extend(range(first, last + 1))
    if len(set(seeds)) < len(seeds):
        raise FaceganError(f"{option} {text}: a seed is there twice; valid: each at most once")
    return seeds


def latents(seeds: list[int], dimensions: int, truncation: float | None = None) -> Tensor:
    """One latent per seed, as `models.sampling.latents`: float32 (n, dimensions), on the CPU.

    Args:
        truncation: largest absolute value, as in `truncate`.
    """
    z = torch.cat([sampling.latents(len(run), dimensions, run[0]) for run in runs(seeds)])
    return z if truncation is None else truncate(z, truncation)


def truncate(z: Tensor, threshold: float) -> Tensor:
    """Map a standard normal latent to one of the truncated normal distribution on [-t, t].

    The distribution is that of the truncation trick (Brock et al. 2018, section 3.1). They draw a
    value again until it is within the threshold; here each is mapped by the quantile function, so
    that a seed stays one image, which changes smoothly with the threshold.

    Args:
        z: float (n, dimensions).
        threshold: t > 0, in standard deviations; near 0, all images are the same.
    Raises:
        FaceganError: if the threshold is not positive, such as NaN.
    """
    if not threshold > 0:
        raise FaceganError(f"truncation {threshold:g}: valid: above 0")
    mass = 2 * ndtr(threshold) - 1
    # From the lower half, because quantiles near 1 have few digits.
    values = z.double().numpy()
    lower = ndtr(-threshold) + ndtr(-np.abs(values)) * mass
    return torch.from_numpy(np.copysign(ndtri(np.minimum(lower, 0.5)), values)).to(z.dtype)


def slerp(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Interpolate on the great circle from `a` to `b` (Shoemake 1985; White 2016, section 2.1).

    The norm is interpolated, too: that of a Gaussian latent of d dimensions is close to sqrt(d),
    and a straight line leads through norms that the generator never saw.

    Args:
        a, b: float (dimensions,).
        share: float (n,) in [0, 1].
    Returns:
        float (n, dimensions).
    """
    norms = a.norm(), b.norm()
    cosine = torch.dot(a, b) / (norms[0] * norms[1]).clamp_min(1e-12)
    angle = torch.arccos(cosine.clamp(-1, 1))
    t = share[:, None]
    if torch.sin(angle) < 1e-4:  # the same direction, or opposite ones, which no circle joins
        return a + (b - a) * t
    first, second = torch.sin((1 - t) * angle), torch.sin(t * angle)
    direction = (first * a / norms[0] + second * b / norms[1]) / torch.sin(angle)
    scaled: Tensor = direction * (norms[0] + (norms[1] - norms[0]) * t)
    return scaled


def walk(keys: Tensor, steps: int, loop: bool) -> Tensor:
    """The latents of a walk through `keys`, each of which is on it.

    Args:
        keys: float (n, dimensions), at least two.
        steps: from one key to the next.
        loop: return to the first key; its last step is left out, because the first frame follows.
    """
    share = torch.arange(steps) / steps
    ends = [*keys[1:], keys[0]] if loop else list(keys[1:])
    parts = [slerp(a, b, share) for a, b in zip(keys, ends, strict=False)]
    return torch.cat(parts if loop else [*parts, keys[-1:]])
