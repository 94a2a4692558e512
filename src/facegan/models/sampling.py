"""Latents -> uint8 images. The only place that converts [-1, 1] to uint8."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from facegan.core.errors import FaceganError

BATCH = 100
MAX_SEED = 2**32 - 1


class NotFinite(FaceganError):
    """Generated images contain NaN or infinity."""


class ImageGenerator(nn.Module):
    """A generator with uint8 output: z float32 (n, latent_dim) -> uint8 (n, H, W, C)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: Tensor) -> Tensor:
        return to_uint8(self.network(z))


def to_uint8(x: Tensor) -> Tensor:
    """float (n, C, H, W) in [-1, 1] -> uint8 (n, H, W, C)."""
    # In place, because each pass over new memory takes longer than its arithmetic.
    levels = (x + 1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)
    return levels.permute(0, 2, 3, 1)  # NCHW => NHWC


def latents(count: int, dimensions: int, seed: int) -> Tensor:
    """The latents of the seeds `seed` to `seed + count - 1`, one per seed.

    A seed has the same latent whatever the count, the device, and the versions of torch and NumPy:
    `RandomState` is the only generator of normal numbers whose stream NumPy has frozen (NEP 19;
    torch guarantees none). StyleGAN's `--seeds` draws the same ones.

    Returns:
        Standard normal float32 (count, dimensions), on the CPU.
    Raises:
        FaceganError: if a seed is below 0 or above 2**32 - 1.
    """
    if seed < 0 or seed + count - 1 > MAX_SEED:
        raise FaceganError(f"seeds {seed} to {seed + count - 1}: valid: 0 to {MAX_SEED}")
    z, state = np.empty((count, dimensions), np.float32), np.random.RandomState()
    for i in range(count):
        state.seed(seed + i)  # 25 times as fast as a new RandomState
        z[i] = state.randn(dimensions)
    return torch.from_numpy(z)


def generate(network: nn.Module, z: Tensor) -> Iterator[Tensor]:
    """Generate images from latents `z`, in batches: uint8 (n, H, W, C) on the network's device.

    Args:
        z: float32 (n, latent_dim), on any device.
    Raises:
        NotFinite: if the output contains NaN or infinity, which uint8 would hide.
    """
    device = next(network.parameters()).device
    for batch in z.split(BATCH):
        with torch.no_grad():
            x = network(batch.to(device))
            if not x.isfinite().all():
                raise NotFinite("generator output contains NaN; lower train.lr and train again")
            yield to_uint8(x)
