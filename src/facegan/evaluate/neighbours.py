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
        share: share of samples closer to a training image than 99% of held-out images are: 1 for
            copies, 0 for images that resemble no photograph; None without held-out images.
        expected: the mean of `share` for a generator that does not memorise: 0.01, or 1 / (m + 1)
            with m < 99 held-out images.
        error: its standard deviation.
        order: int64 (n,), indices of the generated images, closest to a training image first.
        nearest: int64 (n,), index in `train` of each generated image's nearest neighbour.
        distances: float64 (n,), Euclidean distance to it.
    """

    share: float | None
    expected: float
    error: float
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
    expected, error = _expected_share(len(fake), len(holdout))
    if len(holdout) == 0:
        return Memorisation(None, expected, error, order, indices, distances)
    holdout_distances, _ = nearest(holdout, train)
    # By the Weibull method, another held-out image falls below the quantile with probability
    # QUANTILE; by numpy's default, with 0.02 for 100 held-out images.
    threshold = np.quantile(holdout_distances.numpy(), QUANTILE, method="weibull")
    share = float((distances <= threshold).double().mean())
    return Memorisation(share, expected, error, order, indices, distances)


def _expected_share(num_fake: int, num_holdout: int) -> tuple[float, float]:
    """Mean and standard deviation of `Memorisation.share` for a generator that does not memorise.

    The threshold is the k-th smallest of m distances. The probability U that another image falls
    below it is distributed as Beta(k, m + 1 - k) (David and Nagaraja 2003, section 2.3), also taken
    for a k that is not an integer. The share counts n images with that probability each.
    """
    mean = max(QUANTILE, 1 / (num_holdout + 1))
    variance = mean * (1 - mean) / (num_holdout + 2)  # of U
    binomial = (mean * (1 - mean) - variance) / num_fake  # E[U (1 - U)] / n
    return mean, (variance + binomial) ** 0.5


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
    everything = [torch.ones(1, len(side), dtype=torch.bool) for side in (real, fake)]
    ((precision, recall),) = manifold_shares(real, fake, *everything).tolist()
    return precision, recall


def manifold_shares(real: Tensor, fake: Tensor, in_real: Tensor, in_fake: Tensor) -> Tensor:
    """Precision and recall of s subsets: float64 (s, 2).

    Distances, most of the work, are computed once for all subsets.

    Args:
        real, fake: float32 (n, d) and (m, d), on the CPU.
        in_real, in_fake: bool (s, n) and (s, m), masks of the subsets, of at least 4 each.
    """
    real_radii, fake_radii = _radii(real, in_real), _radii(fake, in_fake)
    precise, recalled = torch.zeros_like(in_fake), torch.zeros_like(in_real)
    windows = torch.arange(len(fake)).split(BLOCK)
    for block, window in zip(_distances(fake, real), windows, strict=True):
        for subset in range(len(in_real)):
            precise[subset, window] = (block <= real_radii[subset]).any(1)
            recalled[subset] |= (block <= fake_radii[subset, window, None]).any(0)
    shares = [
        (inside & members).sum(1).double() / members.sum(1)
        for inside, members in ((precise, in_fake), (recalled, in_real))
    ]
    return torch.stack(shares, 1)


def _radii(features: Tensor, members: Tensor) -> Tensor:
    """Distance of each sample to its NEIGHBOURS-th nearest neighbour within each subset: float64
    (s, n); -1 for samples that are not in it.

    Args:
        members: bool (s, n), masks of the subsets.
    """
    # One more, because each sample is its own nearest.
    radii = [
        torch.stack([_kth(block[:, mask], NEIGHBOURS + 1) for mask in members])
        for block in _distances(features, features)
    ]
    return torch.cat(radii, 1).masked_fill(~members, -1)


def _kth(distances: Tensor, k: int) -> Tensor:
    return distances.topk(k, largest=False).values[:, -1]


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
