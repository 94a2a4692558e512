"""The Kernel Inception Distance between two sets of features."""

import torch
from torch import Tensor

# The literature's, and what torch-fidelity and torchmetrics take.
SUBSETS, SUBSET_SIZE = 100, 1000
# The kernel's values exist for so many rows at a time: 40 MB at 10,000 columns.
BLOCK = 500


def kernel_distance(real: Tensor, fake: Tensor, seed: int) -> tuple[float, float]:
    """The mean and the standard deviation of the squared MMD over SUBSETS random subsets.

    Bińkowski et al. 2018, section 4. It is unbiased, so that it may fall a little below 0. Every
    subset is drawn anew, without replacement, and holds `subset_size` features of each side.

    Args:
        real, fake: float32 (n, d) and (m, d), on the CPU, with four or more rows each.
        seed: of the choice of subsets.
    """
    size = subset_size(len(real), len(fake))
    source = torch.Generator().manual_seed(seed)
    chosen = [torch.zeros(SUBSETS, len(side), dtype=torch.float64) for side in (real, fake)]
    for number in range(SUBSETS):
        for side in chosen:
            side[number, torch.randperm(side.shape[1], generator=source)[:size]] = 1
    distances = squared_mmds(real, fake, *chosen)
    return float(distances.mean()), float(distances.std(correction=0))


def subset_size(real: int, fake: int) -> int:
    """How many features a subset has of each side, where there are `real` and `fake` in all.

    SUBSET_SIZE, or half of the smaller side where that is less: subsets that held nearly all
    features would be nearly the same, and their spread would say nothing.
    """
    return min(SUBSET_SIZE, min(real, fake) // 2)


def squared_mmds(real: Tensor, fake: Tensor, in_real: Tensor, in_fake: Tensor) -> Tensor:
    """Unbiased estimates of the squared maximum mean discrepancy of subsets: float64 (s,).

    Gretton et al. 2012, eq. 3, with the kernel k(x, y) = (x·y / d + 1)^3 of Bińkowski et al. 2018.
    The kernel of two features is computed once for all subsets: with 2,000 of each side, that is a
    twentieth of the work.

    Args:
        real, fake: (n, d) and (m, d).
        in_real, in_fake: float64 (s, n) and (s, m): 1 for what is in a subset, 0 for the rest;
            two or more ones in a row.
    """
    real, fake = real.double(), fake.double()
    here, there = in_real.sum(1), in_fake.sum(1)
    within_real = _sums(real, real, in_real, in_real) - in_real @ _kernel_of_itself(real)
    within_fake = _sums(fake, fake, in_fake, in_fake) - in_fake @ _kernel_of_itself(fake)
    between = _sums(real, fake, in_real, in_fake)
    within = within_real / (here * (here - 1)) + within_fake / (there * (there - 1))
    return within - 2 * between / (here * there)


def _sums(x: Tensor, y: Tensor, in_x: Tensor, in_y: Tensor) -> Tensor:
    """The kernel's sum over all pairs of a subset of `x` and one of `y`."""
    sums = torch.zeros(len(in_x), dtype=torch.float64)
    for rows, chosen in zip(x.split(BLOCK), in_x.split(BLOCK, 1), strict=True):
        kernel = (rows @ y.T).div_(x.shape[1]).add_(1).pow_(3)
        sums += ((chosen @ kernel) * in_y).sum(1)
    return sums


def _kernel_of_itself(x: Tensor) -> Tensor:
    return (x.square().sum(1) / x.shape[1] + 1) ** 3
