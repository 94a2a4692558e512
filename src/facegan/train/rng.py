"""The random numbers of a training."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from facegan.runtime.distributed import SINGLE, Group


class Rng:
    """Numbers for the images of a batch.

    Each process draws those of the whole batch and takes its part of them, so that the images are
    the same ones however many processes share them.

    Args:
        device: where the numbers are drawn; other devices draw others.
    """

    def __init__(self, seed: int, device: torch.device, group: Group = SINGLE) -> None:
        self.device, self.group = device, group
        self.generator = torch.Generator(device).manual_seed(seed)

    def normal(self, n: int, *shape: int) -> Tensor:
        """From N(0, 1): float32 (n, *shape)."""
        whole = n * self.group.size
        numbers = torch.randn(whole, *shape, generator=self.generator, device=self.device)
        return numbers[self.group.part(whole)]

    def uniform(self, n: int, *shape: int) -> Tensor:
        """In [0, 1): float32 (n, *shape)."""
        whole = n * self.group.size
        numbers = torch.rand(whole, *shape, generator=self.generator, device=self.device)
        return numbers[self.group.part(whole)]

    def integers(self, end: int, n: int, *shape: int) -> Tensor:
        """In 0 ... end - 1: int64 (n, *shape)."""
        whole = n * self.group.size
        numbers = torch.randint(end, (whole, *shape), generator=self.generator, device=self.device)
        return numbers[self.group.part(whole)]

    def reseed(self, seed: Sequence[int]) -> None:
        """Draw other numbers from here on."""
        self.generator.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
