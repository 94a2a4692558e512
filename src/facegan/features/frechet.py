"""Fréchet distance between two sets of features, and the statistics it needs."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import scipy.linalg
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from facegan.core.atomic import replacing
from facegan.core.errors import FaceganError
from facegan.runtime.distributed import Group

CPU = torch.device("cpu")


class Moments:
    """Running float64 sums over features (n, d); memory does not depend on n.

    Args:
        device: device of the features; the sums stay there.
    """

    def __init__(self, dimensions: int, device: torch.device = CPU) -> None:
        self.device = CPU if device.type == "mps" else device  # which has no float64
        self.count = 0
        self.sum = torch.zeros(dimensions, dtype=torch.float64, device=self.device)
        self.outer = torch.zeros(dimensions, dimensions, dtype=torch.float64, device=self.device)

    def update(self, features: Tensor) -> None:
        features = features.to(self.device).double()
        self.count += len(features)
        self.sum += features.sum(0)
        self.outer += features.T @ features

    def all_reduce(self, group: Group) -> None:
        """Sum over all processes."""
        count = torch.tensor(self.count)
        group.all_reduce_sum([self.sum, self.outer, count])
        self.count = int(count)

    def __add__(self, other: "Moments") -> "Moments":
        both = Moments(len(self.sum), self.device)
        both.count = self.count + other.count
        both.sum, both.outer = self.sum + other.sum, self.outer + other.outer
        return both

    @property
    def mean(self) -> Tensor:
        return self.sum / self.count

    @property
    def covariance(self) -> Tensor:
        """Unbiased (n - 1), as in numpy.cov and every FID since Heusel et al. 2017."""
        centred = self.outer - self.count * torch.outer(self.mean, self.mean)
        return centred / (self.count - 1)


NONE, NO_INDICES = torch.empty(0), torch.empty(0, dtype=torch.int64)


@dataclass(frozen=True)
class Statistics:
    """Feature statistics of the real images.

    Attributes:
        mean, covariance: float64 (d,) and (d, d), over all images.
        covariance_sqrt: float64 (d, d), symmetric square root of `covariance`.
        subset: float32 (k, d), features of a fixed random subset of the training images.
        train_indices: int64 (k,), indices of that subset in `images.npy`.
        holdout: float32 (m, d), features of a fixed random subset of the held-out images.
        metadata: dataset and protocol: `count` (images), `floor`, the extractor's settings.
    """

    mean: Tensor
    covariance: Tensor
    covariance_sqrt: Tensor
    subset: Tensor
    train_indices: Tensor
    holdout: Tensor
    metadata: dict[str, Any]

    @classmethod
    def from_moments(
        cls,
        moments: Moments,
        metadata: dict[str, Any],
        subset: Tensor = NONE,
        train_indices: Tensor = NO_INDICES,
        holdout: Tensor = NONE,
    ) -> Self:
        mean, covariance = moments.mean.cpu(), moments.covariance.cpu()
        return cls(
            mean, covariance, symmetric_root(covariance), subset, train_indices, holdout, metadata
        )

    def save(self, path: Path) -> None:
        tensors = {name: value for name, value in vars(self).items() if name != "metadata"}
        with replacing(path) as temporary:
            # A single key, because safetensors writes several in random order.
            save_file(tensors, temporary, {"facegan": json.dumps(self.metadata, sort_keys=True)})

    @classmethod
    def load(cls, path: Path) -> Self:
        """
        Raises:
            FaceganError: if the file is missing or holds no statistics.
        """
        try:
            with safe_open(path, "pt") as file:
                names = list(file.keys())
                metadata = json.loads(file.metadata()["facegan"])
                return cls(**{name: file.get_tensor(name) for name in names}, metadata=metadata)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            message = f"{path}: not reference statistics ({error}); run: dvc repro reference"
            raise FaceganError(message) from None


def symmetric_root(matrix: Tensor) -> Tensor:
    """Symmetric square root of a positive semi-definite float64 (d, d)."""
    # torch's eigh did not converge where most features were constant.
    values, vectors = map(torch.from_numpy, scipy.linalg.eigh(matrix.numpy()))
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root


def frechet_distance(real: Statistics, fake: Moments) -> float:
    """|m1 - m2|^2 + Tr(S1 + S2 - 2 (S1 S2)^(1/2)) (Heusel et al. 2017, eq. 6).

    Tr (S1 S2)^(1/2) equals Tr (R S2 R)^(1/2) with R = S1^(1/2). That matrix is symmetric, so its
    eigenvalues are faster to compute, and more accurate, than those of S1 S2.
    """
    mean, covariance = fake.mean.cpu(), fake.covariance.cpu()
    product = real.covariance_sqrt @ covariance @ real.covariance_sqrt
    values = torch.linalg.eigvalsh((product + product.T) / 2)
    trace_of_root = values.clamp(min=0).sqrt().sum()
    distance = (real.mean - mean).square().sum()
    distance += real.covariance.trace() + covariance.trace() - 2 * trace_of_root
    return float(distance)


def rank_warning(count: int, dimensions: int, what: str) -> str | None:
    """A warning if there are no more images than feature dimensions; else None.

    >>> rank_warning(1000, 1280, "generated images")
    '1,000 generated images for 1,280 features: the covariance is rank-deficient and ...'
    """
    if count > dimensions:
        return None
    return (
        f"{count:,} {what} for {dimensions:,} features: the covariance is rank-deficient and the "
        f"distance depends strongly on the number of images; use more than {dimensions:,}"
    )
