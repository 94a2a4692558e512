"""FID against photographs that were never trained on, beside that against as many training ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import mean, variance
from typing import Any, NamedTuple

import torch
from scipy.special import stdtrit
from torch import Tensor

from facegan.core.numbers import significant
from facegan.evaluate.jackknife import MIN_IMAGES
from facegan.evaluate.protocol import score_name
from facegan.features.frechet import Statistics

# Disjoint groups of training photographs, whose FIDs vary by noise alone: at least so many, or
# their spread says little; at most so many.
MIN_GROUPS, MAX_GROUPS = 5, 10
# Share of generators that does not memorise, but is warned about.
LEVEL = 0.01


@dataclass(frozen=True)
class HeldoutMetrics:
    """
    Attributes:
        scores: by full name; see `heldout_metrics`.
        omitted: metric -> why it has no score.
        protocol: numbers of generated images, and of photographs and groups that were compared.
        warnings: that the generator is closer to its training photographs than to others.
    """

    scores: dict[str, float]
    omitted: dict[str, str]
    protocol: dict[str, Any]
    warnings: list[str]


def heldout_metrics(statistics: Statistics, fake: Tensor) -> HeldoutMetrics:
    """Compare the FID against held-out photographs with that against training ones.

    An FID depends on the number of photographs (Bińkowski et al. 2018; Chong and Forsyth 2020).
    So both are against groups of n photographs, disjoint and random: `heldout` and `train` are the
    means over their groups. For a generator that does not memorise, held-out groups are like any
    other: `gap`, the difference, has the standard error of Student's two-sample test,
    `gap_stderr`. `heldout_floor` is the FID of as many training photographs as there are generated
    images, if as many are stored, against the held-out ones.

    Args:
        fake: float32 (k, d), features of the generated images, on the CPU.
    """
    stored = len(statistics.subset), len(statistics.holdout)
    photographs = min(stored[1], stored[0] // MIN_GROUPS)
    if reason := _too_few(len(fake), *stored):
        return HeldoutMetrics({}, {"fid_heldout": reason}, {}, [])
    generated = _moments(fake)
    train = _groups(statistics.subset, photographs)
    held_out = _groups(statistics.holdout, photographs)
    to_train, to_heldout = ([_distance(generated, g) for g in gs] for gs in (train, held_out))
    gap, error = mean(to_heldout) - mean(to_train), _error(to_train, to_heldout)
    real = _moments(statistics.subset[: len(fake)])
    name = partial(score_name, "fid", len(fake), statistics)
    scores = {
        "heldout": mean(to_heldout),
        "heldout_floor": mean(_distance(real, group) for group in held_out),
        "train": mean(to_train),
        "gap": gap,
        "gap_stderr": error,
    }
    protocol = {
        "images": len(fake),
        "photographs": photographs,
        "groups": [len(train), len(held_out)],
    }
    critical = float(stdtrit(len(train) + len(held_out) - 2, 1 - LEVEL))
    return HeldoutMetrics(
        {f"{name()}_{key}": round(value, 4) for key, value in scores.items()},
        {},
        protocol,
        [_warning(scores, photographs)] if gap > critical * error else [],
    )


def _too_few(generated: int, train: int, held_out: int) -> str | None:
    counts = {"held-out images": held_out, "images": generated}
    for what, count in counts.items():
        if count < MIN_IMAGES:
            return f"{count} {what}; at least {MIN_IMAGES} are needed"
    least = MIN_GROUPS * MIN_IMAGES
    return f"{train} training images stored; at least {least} are needed" if train < least else None


def _warning(scores: dict[str, float], photographs: int) -> str:
    return (
        f"FID is {significant(scores['heldout'], 4)} against {photographs:,} held-out photographs, "
        f"{significant(scores['train'], 4)} against as many training ones; the difference, "
        f"{significant(scores['gap'], 2)} ± {significant(scores['gap_stderr'], 1)}, is more than "
        "noise: the generator overfits its training photographs"
    )


def _error(first: Sequence[float], second: Sequence[float]) -> float:
    """Standard error of the difference of two means, with the variance of both pooled."""
    sides = [side for side in (first, second) if len(side) > 1]
    squares = sum((len(side) - 1) * variance(side) for side in sides)
    pooled = squares / (len(first) + len(second) - 2)
    return float((pooled * (1 / len(first) + 1 / len(second))) ** 0.5)


class _Moments(NamedTuple):
    """Mean (d,), and a factor F (r, d) of the covariance F^T F; float64. Of n <= d images, F has n
    rows, where the covariance would have d."""

    mean: Tensor
    factor: Tensor


def _groups(features: Tensor, size: int) -> list[_Moments]:
    """Moments of disjoint groups of features, which are in random order."""
    groups = features.split(size)[: min(len(features) // size, MAX_GROUPS)]
    return [_moments(group) for group in groups]


def _moments(features: Tensor) -> _Moments:
    features = features.double()
    centre = features.mean(0)
    factor = (features - centre) / (len(features) - 1) ** 0.5
    if len(factor) > factor.shape[1]:
        factor = torch.linalg.qr(factor, mode="r").R
    return _Moments(centre, factor)


def _distance(a: _Moments, b: _Moments) -> float:
    """The Fréchet distance (Heusel et al. 2017, eq. 6).

    With S1 = F^T F and S2 = G^T G, Tr (S1 S2)^(1/2) is the sum of the singular values of F G^T,
    which is smaller than S1 if there are fewer images than features.
    """
    product = a.factor @ b.factor.T
    rows, columns = product.shape
    gram = product @ product.T if rows <= columns else product.T @ product
    trace_of_root = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt().sum()
    squares = a.factor.square().sum() + b.factor.square().sum()
    return float((a.mean - b.mean).square().sum() + squares - 2 * trace_of_root)
