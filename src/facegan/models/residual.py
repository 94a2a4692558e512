"""Residual networks without normalisation, after R3GAN (Huang et al. 2024).

From R3GAN: no BatchNorm, leaky ReLU, resampling separate from the convolutions, and blocks that are
initialised as the identity (Zhang et al. 2019, "Fixup"). Different, for speed on a CPU: one block
per resolution, ungrouped convolutions, and no layer at full resolution; the generator ends with a
pixel shuffle (Shi et al. 2016), the discriminator starts with a strided convolution.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, leaky_relu, pixel_shuffle

from facegan.models import sizes
from facegan.models.convolution import Conv2d

SLOPE = 0.2
# Cap on channels, as a multiple of `base_channels`: wider layers cost most and gain least.
MAX_WIDENING = 4


def _widths(size: int, base_channels: int) -> list[int]:
    cap = MAX_WIDENING * base_channels
    return [min(width, cap) for width in sizes.widths(size, base_channels)]


class Block(nn.Module):
    """x + f(x), where f is two 3x3 convolutions, each after a leaky ReLU. The second one is
    initialised with zeros.

    Args:
        channels: of the input and the output.
        depth: number of blocks in the network; the first convolution is scaled by depth^(-1/4)
            (Zhang et al. 2019, section 4).
    """

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.first = _scaled(Conv2d(channels, channels, 3, 1, 1), math.sqrt(2) * depth**-0.25)
        self.second = _scaled(Conv2d(channels, channels, 3, 1, 1, bias=False), 0)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(leaky_relu(self.first(leaky_relu(x, SLOPE)), SLOPE))
        return x + y


class Upsample(nn.Module):
    """Double the resolution: (n, before, H, W) -> (n, after, 2H, 2W)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.project = Conv2d(before, after, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        # Projected first, on a quarter of the pixels.
        return interpolate(self.project(x), scale_factor=2.0, mode="bilinear")


class Downsample(nn.Module):
    """Halve the resolution: (n, before, H, W) -> (n, after, H/2, W/2)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.project = Conv2d(before, after, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        projected: Tensor = self.project(avg_pool2d(x, 2))
        return projected


class Generator(nn.Module):
    """z (n, latent_dim) -> images in [-1, 1], (n, channels, size, size).

    >>> Generator(size=64, channels=3, latent_dim=100, base_channels=64)(torch.zeros(2, 100)).shape
    torch.Size([2, 3, 64, 64])
    """

    def __init__(self, size: int, channels: int, latent_dim: int, base_channels: int) -> None:
        super().__init__()
        self.size, self.channels, self.latent_dim = size, channels, latent_dim
        widths, side = _widths(size, base_channels), sizes.base(size)
        self.first_shape = widths[0], side, side
        self.first = nn.Linear(latent_dim, widths[0] * side**2)
        layers: list[nn.Module] = [Block(widths[0], len(widths))]
        for before, after in pairwise(widths):
            layers += [Upsample(before, after), Block(after, len(widths))]
        self.layers = nn.Sequential(*layers)
        self.last = Conv2d(widths[-1], 4 * channels, 3, 1, 1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.first(z).unflatten(1, self.first_shape)
        x = self.layers(x.contiguous(memory_format=torch.channels_last))
        return torch.tanh(pixel_shuffle(self.last(leaky_relu(x, SLOPE)), 2))


class Discriminator(nn.Module):
    """Images in [-1, 1], (n, channels, size, size) -> logits (n,), positive for real."""

    def __init__(self, size: int, channels: int, base_channels: int) -> None:
        super().__init__()
        widths, side = _widths(size, base_channels)[::-1], sizes.base(size)
        layers: list[nn.Module] = [Conv2d(channels, widths[0], 4, 2, 1)]
        layers += [Block(widths[0], len(widths))]
        for before, after in pairwise(widths):
            layers += [Downsample(before, after), Block(after, len(widths))]
        self.layers = nn.Sequential(*layers)
        self.pool = Conv2d(widths[-1], widths[-1], side)  # to 1x1
        self.last = nn.Linear(widths[-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(leaky_relu(self.layers(x), SLOPE))
        logits: Tensor = self.last(leaky_relu(x.flatten(1), SLOPE))
        return logits.flatten()


def _scaled(convolution: nn.Conv2d, gain: float) -> nn.Conv2d:
    convolution.gain = gain  # type: ignore[assignment]
    return convolution


@torch.no_grad()
def initialise(network: nn.Module, rng: torch.Generator) -> None:
    """Weights from N(0, gain^2 / fan_in), biases zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            deviation = getattr(module, "gain", 1.0) / math.sqrt(module.weight[0].numel())
            module.weight.normal_(0.0, 1.0, generator=rng).mul_(deviation)
            if module.bias is not None:
                module.bias.zero_()
