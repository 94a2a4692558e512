"""Kernel Inception Distance between two sets of features."""

from typing import NamedTuple

import torch
from torch import Tensor

from facegan.evaluate import jackknife

# As published, and the defaults of torch-fidelity and torchmetrics.
SUBSETS, SUBSET_SIZE = 100, 1000
# Rows of the kernel matrix in memory at a time: 40 MB at 10,000 columns.
BLOCK = 500


class KernelDistance(NamedTuple):
    """
    Attributes:
        mean, spread: mean and standard deviation of the squared MMD over SUBSETS random subsets.
        error: standard error of the squared MMD of all features, see `jackknife`.
    """

    mean: float
    spread: float
    error: float


def kernel_distance(real: Tensor, fake: Tensor, seed: int) -> KernelDistance:
    """The KID of two sets of features.

    Bińkowski et al. 2018, section 4. The estimate is unbiased, so it can be slightly negative. Each
    subset is drawn independently, without replacement, with `subset_size` features per side.

    Args:
        real, fake: float32 (n, d) and (m, d), on the CPU; n, m >= jackknife.MIN_IMAGES.
        seed: seed for the subsets.
    """
    size = subset_size(len(real), len(fake))
    rng = torch.Generator().manual_seed(seed)
    masks = [torch.zeros(SUBSETS, len(side), dtype=torch.float64) for side in (real, fake)]
    for subset in range(SUBSETS):
        for mask in masks:
            mask[subset, torch.randperm(mask.shape[1], generator=rng)[:size]] = 1
    parts = [jackknife.without_each_group(len(side)) for side in (real, fake)]
    whole = [torch.cat([mask, part]) for mask, part in zip(masks, parts, strict=True)]
    distances, remaining = squared_mmds(real, fake, *whole).tensor_split([SUBSETS])
    return KernelDistance(
        float(distances.mean()),
        float(distances.std(correction=0)),
        jackknife.standard_error(remaining),
    )


def subset_size(n_real: int, n_fake: int) -> int:
    """Features per side in a subset: SUBSET_SIZE, but at most half of the smaller side.

    Larger subsets would overlap almost completely, and their spread would be meaningless.
    """
    return min(SUBSET_SIZE, min(n_real, n_fake) // 2)


def squared_mmds(real: Tensor, fake: Tensor, in_real: Tensor, in_fake: Tensor) -> Tensor:
    """Unbiased estimates of the squared maximum mean discrepancy of s subsets: float64 (s,).

    Gretton et al. 2012, eq. 3, with the kernel k(x, y) = (x·y / d + 1)^3 of Bińkowski et al. 2018.
    The kernel matrix is computed once for all subsets: with 2,000 features per side, a twentieth of
    the work.

    Args:
        real, fake: (n, d) and (m, d).
        in_real, in_fake: float64 (s, n) and (s, m), masks of the subsets: 1 for members, 0 for the
            rest; at least two ones per row.
    """
    real, fake = real.double(), fake.double()
    n_real, n_fake = in_real.sum(1), in_fake.sum(1)
    within_real = _kernel_sums(real, real, in_real, in_real) - in_real @ _kernel_diagonal(real)
    within_fake = _kernel_sums(fake, fake, in_fake, in_fake) - in_fake @ _kernel_diagonal(fake)
    between = _kernel_sums(real, fake, in_real, in_fake)
    within = within_real / (n_real * (n_real - 1)) + within_fake / (n_fake * (n_fake - 1))
    return within - 2 * between / (n_real * n_fake)


def _kernel_sums(x: Tensor, y: Tensor, in_x: Tensor, in_y: Tensor) -> Tensor:
    """Per subset, the sum of the kernel over all pairs of a member of `x` and one of `y`: (s,)."""
    sums = torch.zeros(len(in_x), dtype=torch.float64)
    for block, mask in zip(x.split(BLOCK), in_x.split(BLOCK, 1), strict=True):
        kernel = (block @ y.T).div_(x.shape[1]).add_(1).pow_(3)
        sums += ((mask @ kernel) * in_y).sum(1)
    return sums


def _kernel_diagonal(x: Tensor) -> Tensor:
    return (x.square().sum(1) / x.shape[1] + 1) ** 3
