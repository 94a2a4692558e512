"""Standard errors by the delete-a-group jackknife."""

import torch
from torch import Tensor

GROUPS = 10
# Fewer images would leave groups of a single one, and no score that could be told from chance.
MIN_IMAGES = 2 * GROUPS


def without_each_group(count: int) -> Tensor:
    """Masks of `count` images in random order, each without one of GROUPS groups: bool
    (GROUPS, count)."""
    return torch.arange(count) % GROUPS != torch.arange(GROUPS)[:, None]


def standard_error(values: Tensor) -> float:
    """Standard error of a score, from its values without each group.

    Efron and Tibshirani 1993, eq. 11.5, with groups in place of single images. It tends to be too
    large (Efron and Stein 1981): for precision, recall and KID of 20 to 200 Gaussian samples a
    side, 0.9 to 1.8 times the standard deviation over samples.

    Args:
        values: float64 (GROUPS,).
    """
    return float(((GROUPS - 1) * values.var(correction=0)).sqrt())
