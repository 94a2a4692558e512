"""What the distances between single features tell: precision, recall and memorisation."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Distances exist BLOCK rows at a time: at 50,000 columns, 200 MB.
BLOCK = 500
# Kynkäänniemi et al. 2019's k.
NEIGHBOURS = 3
# How many of the held-out photographs pass for copies.
QUANTILE = 0.01
# Squared distances below this share of the squared norms are 0. It is above all that rounding can
# leave of two copies in 4,000 dimensions, and a millionth of the norm is less than networks tell.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Memorisation:
    """How much closer to the training images the generated ones are than held-out photographs.

    Attributes:
        share: of the generated images, those no further from a training image than the nearest
            QUANTILE of the held-out photographs are: 0.01 (one in m + 1, with m < 99 held out) for
            a generator as good as photographs, 1 for copies, 0 for images that look like none; None
            where nothing was held out.
        order: int64 (n,), the generated images, the closest to a training image first.
        rows: int64 (n,), the training image nearest to each generated one.
        distances: float64 (n,), how far it is.
    """

    share: float | None
    order: Tensor
    rows: Tensor
    distances: Tensor


def memorisation(fake: Tensor, train: Tensor, holdout: Tensor) -> Memorisation:
    """Whether a generator has learnt photographs by heart, and which.

    Copies lie closer to a training image than photographs do that the generator never saw. That
    comparison is Meehan et al. 2020's; theirs is of ranks, and this one of the closest alone, since
    a few copies among many images don't move the ranks. The quantile itself counts as close, so
    that copies are found where held-out photographs too are copies and the quantile is 0.

    Args:
        fake, train: float32 (n, d) each, on the CPU, with one row or more.
        holdout: the same; where it has none, there is nothing to compare with.
    """
    distances, rows = nearest(fake, train)
    order = distances.argsort(stable=True)
    if len(holdout) == 0:
        return Memorisation(None, order, rows, distances)
    honest, _ = nearest(holdout, train)
    # Of numpy's methods, the one by which a held-out photograph more falls below it with a
    # probability of QUANTILE; the default's is 0.02 with 100 of them.
    close = np.quantile(honest.numpy(), QUANTILE, method="weibull")
    return Memorisation(
        share=float((distances <= close).double().mean()),
        order=order,
        rows=rows,
        distances=distances,
    )


def nearest(queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """The Euclidean distance of each query to its nearest key, and which that is.

    Copies are at a distance of 0. Of several nearest keys it is the first.

    Args:
        queries, keys: float32 (n, d) and (m, d), on the CPU.

    Returns:
        float64 (n,) and int64 (n,).
    """
    found = [block.min(1) for block in _distances(queries, keys)]
    return torch.cat([each.values for each in found]), torch.cat([each.indices for each in found])


def precision_and_recall(real: Tensor, fake: Tensor) -> tuple[float, float]:
    """The share of fakes within the manifold of the reals, and of reals within that of the fakes.

    Kynkäänniemi et al. 2019, eq. 1 and 2. A manifold is the union of balls around its samples that
    reach to the third nearest other one.

    Args:
        real, fake: float32 (n, d) and (m, d), on the CPU, with four or more rows each.
    """
    around_real, around_fake = _radii(real), _radii(fake)
    precise, recalled = [], torch.zeros(len(real), dtype=torch.bool)
    for block, radii in zip(_distances(fake, real), around_fake.split(BLOCK), strict=True):
        precise.append((block <= around_real).any(1))
        recalled |= (block <= radii[:, None]).any(0)
    return float(torch.cat(precise).double().mean()), float(recalled.double().mean())


def _radii(features: Tensor) -> Tensor:
    """The distance of each to its NEIGHBOURS-th nearest other one."""
    # One more, because the sample itself comes first.
    blocks = [b.topk(NEIGHBOURS + 1, largest=False).values for b in _distances(features, features)]
    return torch.cat(blocks)[:, -1]


def _distances(queries: Tensor, keys: Tensor) -> Iterator[Tensor]:
    """float64 (BLOCK, m) for BLOCK queries after the other, the last fewer."""
    for rows in queries.split(BLOCK):
        x = rows.double()
        yield torch.cat([_between(x, columns.double()) for columns in keys.split(BLOCK)], 1)


def _between(x: Tensor, y: Tensor) -> Tensor:
    """The Euclidean distances (n, m) of float64 (n, d) and (m, d).

    By products, which are some ten times as fast as differences; in float32 their rounding would
    make copies of an image look far apart.
    """
    norms = x.square().sum(1, keepdim=True) + y.square().sum(1)
    squared = norms - 2 * x @ y.T
    return squared.masked_fill_(squared <= ROUNDING * norms, 0).sqrt_()
