"""Latents -> images, grids and films. The one place that turns [-1, 1] into uint8."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from facegan.core.errors import FaceganError

BATCH = 100
# Latents that are drawn together: another number, other latents and other scores.
BLOCK = 100


class ImageGenerator(nn.Module):
    """A generator whose output is ready to look at: z float32 (n, latent_dim) -> uint8 NHWC."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: Tensor) -> Tensor:
        return to_uint8(self.network(z))


def to_uint8(x: Tensor) -> Tensor:
    """float (n, C, H, W) in [-1, 1] -> uint8 (n, H, W, C)."""
    levels = ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return levels.permute(0, 2, 3, 1)  # NCHW => NHWC


def latents(count: int, dimensions: int, seed: int) -> Tensor:
    """Standard normal float32 (count, dimensions), drawn on the CPU: the same on every device."""
    source = torch.Generator().manual_seed(seed)
    return torch.randn(count, dimensions, generator=source)


def latent_block(block: int, dimensions: int, seed: int) -> Tensor:
    """The latents with the numbers 100 block to 100 block + 99 of an endless sequence, which
    needs no memory: float32 (100, dimensions), standard normal.
    """
    mixed = np.random.SeedSequence((seed, block)).generate_state(1)[0]
    return latents(BLOCK, dimensions, int(mixed))


def generate(network: nn.Module, z: Tensor) -> Iterator[Tensor]:
    """Images of the latents `z`, in batches: uint8 (n, H, W, C) on the network's device.

    Raises:
        FaceganError: if the network makes NaN, which as a level would pass for a colour.
    """
    device = next(network.parameters()).device
    for batch in z.split(BATCH):
        with torch.no_grad():
            x = network(batch.to(device))
            if not x.isfinite().all():
                raise FaceganError("the generator makes images of NaN; train another one")
            yield to_uint8(x)
