"""Nearest-neighbour metrics: precision, recall and memorisation."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Rows of the distance matrix in memory at a time: 200 MB at 50,000 columns.
BLOCK = 500
# k of Kynkäänniemi et al. 2019.
NEIGHBOURS = 3
# Share of the held-out images that counts as memorised by construction.
QUANTILE = 0.01
# Squared distances below this share of the squared norms are set to 0: more than rounding leaves
# between two copies in 4,000 dimensions, and less than an extractor distinguishes.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Memorisation:
    """Distances of generated images to the training set, compared with those of held-out images.

    Attributes:
        share: share of samples closer to a training image than 99% of held-out images are. 0.01 is
            expected of a generator that does not memorise (1 / (m + 1) with m < 99 held-out
            images), 1 of copies, 0 of images that resemble no photograph; None without held-out
            images.
        order: int64 (n,), indices of the generated images, closest to a training image first.
        nearest: int64 (n,), index in `train` of each generated image's nearest neighbour.
        distances: float64 (n,), Euclidean distance to it.
    """

    share: float | None
    order: Tensor
    nearest: Tensor
    distances: Tensor


def memorisation(fake: Tensor, train: Tensor, holdout: Tensor) -> Memorisation:
    """Detect memorised training images.

    Copies are closer to the training set than unseen photographs are (after Meehan et al. 2020).
    Meehan et al. compare ranks, which a few copies among many samples hardly change. This counts
    the samples no farther from `train` than the 1% quantile of the held-out images' distances.
    Equal distances count, so that copies are found even if held-out images are duplicates of
    training images and the quantile is 0.

    Args:
        fake, train: float32 (n, d) and (k, d), on the CPU; n, k >= 1.
        holdout: float32 (m, d), may be empty.
    """
    distances, indices = nearest(fake, train)
    order = distances.argsort(stable=True)
    if len(holdout) == 0:
        return Memorisation(None, order, indices, distances)
    holdout_distances, _ = nearest(holdout, train)
    # By the Weibull method, another held-out image falls below the quantile with probability
    # QUANTILE; by numpy's default, with 0.02 for 100 held-out images.
    threshold = np.quantile(holdout_distances.numpy(), QUANTILE, method="weibull")
    share = float((distances <= threshold).double().mean())
    return Memorisation(share, order, indices, distances)


def nearest(queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Euclidean distance of each query to its nearest key, and that key's index.

    Copies have distance 0. Ties go to the lowest index.

    Args:
        queries, keys: float32 (n, d) and (m, d), on the CPU.

    Returns:
        float64 (n,) and int64 (n,).
    """
    minima = [block.min(1) for block in _distances(queries, keys)]
    distances, indices = zip(*minima, strict=True)
    return torch.cat(distances), torch.cat(indices)


def precision_and_recall(real: Tensor, fake: Tensor) -> tuple[float, float]:
    """Precision and recall, in [0, 1]: the share of generated images within the manifold of the
    real ones, and the reverse.

    Kynkäänniemi et al. 2019, eq. 1 and 2. A manifold is the union of balls around its samples, each
    reaching to the third nearest neighbour.

    Args:
        real, fake: float32 (n, d) and (m, d), on the CPU; n, m >= 4.
    """
    real_radii, fake_radii = _radii(real), _radii(fake)
    precise, recalled = [], torch.zeros(len(real), dtype=torch.bool)
    for block, radii in zip(_distances(fake, real), fake_radii.split(BLOCK), strict=True):
        precise.append((block <= real_radii).any(1))
        recalled |= (block <= radii[:, None]).any(0)
    return float(torch.cat(precise).double().mean()), float(recalled.double().mean())


def _radii(features: Tensor) -> Tensor:
    """Distance of each sample to its NEIGHBOURS-th nearest neighbour: float64 (n,)."""
    # One more, because each sample is its own nearest.
    blocks = [b.topk(NEIGHBOURS + 1, largest=False).values for b in _distances(features, features)]
    return torch.cat(blocks)[:, -1]


def _distances(queries: Tensor, keys: Tensor) -> Iterator[Tensor]:
    """The distance matrix in blocks of BLOCK queries, the last possibly fewer: float64 (b, m)."""
    for block in queries.split(BLOCK):
        x = block.double()
        yield torch.cat([_pairwise_distances(x, y.double()) for y in keys.split(BLOCK)], 1)


def _pairwise_distances(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances (n, m) of float64 (n, d) and (m, d).

    By |x|^2 + |y|^2 - 2 x·y, which is about ten times as fast as by differences. In float32, its
    rounding would make copies look far apart.
    """
    norms = x.square().sum(1, keepdim=True) + y.square().sum(1)
    squared = norms - 2 * x @ y.T
    return squared.masked_fill_(squared <= ROUNDING * norms, 0).sqrt_()
