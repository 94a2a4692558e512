"""DCGAN with residual blocks (He et al. 2016), which learn faster: docs/recipes.md.

Strided 4x4 convolutions with BatchNorm change the resolution, as in Radford et al. 2015. In the
discriminator a block of one 3x3 convolution follows each. The generator, for which such blocks are
worth less than they cost, goes up to the full size before its last convolution.
"""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from facegan.models import dcgan, sizes

SLOPE = 0.2

initialise = dcgan.initialise


class Block(nn.Module):
    """x + BatchNorm(convolution(x)), then a leaky ReLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return leaky_relu(x + self.norm(self.convolution(x)), SLOPE)


class Generator(nn.Module):
    """z (n, latent_dim) -> images in [-1, 1], (n, channels, size, size).

    >>> Generator(size=64, channels=3, latent_dim=100, width=64)(torch.zeros(2, 100)).shape
    torch.Size([2, 3, 64, 64])
    """

    def __init__(self, size: int, channels: int, latent_dim: int, width: int) -> None:
        super().__init__()
        self.size, self.channels, self.latent_dim = size, channels, latent_dim
        widths, side = [*sizes.widths(size, width), max(width // 2, 1)], sizes.base(size)
        layers: list[nn.Module] = [
            nn.ConvTranspose2d(latent_dim, widths[0], side, 1, 0, bias=False),  # from 1 pixel
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
        ]
        for before, after in pairwise(widths):
            layers += [
                nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], channels, 3, 1, 1), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        images: Tensor = self.layers(z[:, :, None, None])
        return images


class Discriminator(nn.Module):
    """Images in [-1, 1], (n, channels, size, size) -> logits (n,), positive for real."""

    def __init__(self, size: int, channels: int, width: int) -> None:
        super().__init__()
        widths, side = sizes.widths(size, width)[::-1], sizes.base(size)
        layers: list[nn.Module] = [
            nn.Conv2d(channels, widths[0], 4, 2, 1),
            nn.LeakyReLU(SLOPE, inplace=True),
        ]
        for before, after in pairwise(widths):
            layers += [
                nn.Conv2d(before, after, 4, 2, 1, bias=False),
                nn.BatchNorm2d(after),
                nn.LeakyReLU(SLOPE, inplace=True),
                Block(after),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, side, 1, 0))  # to 1 pixel

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits.flatten()
