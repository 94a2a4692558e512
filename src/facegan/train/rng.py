"""Random numbers of a training."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from facegan.runtime.distributed import SINGLE, Group


class Rng:
    """Random numbers for the images of a batch.

    Every process draws the numbers of the global batch and keeps its part, so that they do not
    depend on the number of processes.

    Args:
        device: where numbers are drawn; each device type has another sequence.
    """

    def __init__(self, seed: int, device: torch.device, group: Group = SINGLE) -> None:
        self.device, self.group = device, group
        self.generator = torch.Generator(device).manual_seed(seed)

    def normal(self, n: int, *shape: int) -> Tensor:
        """Numbers from N(0, 1): float32 (n, *shape)."""
        total = n * self.group.size
        numbers = torch.randn(total, *shape, generator=self.generator, device=self.device)
        return numbers[self.group.part(total)]

    def uniform(self, n: int, *shape: int) -> Tensor:
        """Numbers in [0, 1): float32 (n, *shape)."""
        total = n * self.group.size
        numbers = torch.rand(total, *shape, generator=self.generator, device=self.device)
        return numbers[self.group.part(total)]

    def integers(self, end: int, n: int, *shape: int) -> Tensor:
        """Integers in [0, end): int64 (n, *shape)."""
        total = n * self.group.size
        numbers = torch.randint(end, (total, *shape), generator=self.generator, device=self.device)
        return numbers[self.group.part(total)]

    def restore(self, state: Tensor, seed: Sequence[int]) -> None:
        """Continue from `generator.get_state()`; from `seed`, if that is of another device type."""
        if len(state) == len(self.generator.get_state()):
            self.generator.set_state(state.cpu())
        else:
            self.reseed(seed)

    def reseed(self, seed: Sequence[int]) -> None:
        """Continue with the sequence of another seed."""
        self.generator.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
