"""DCGAN with a residual block (He et al. 2016), which reaches a lower FID: docs/ablations.md.

The discriminator has a residual block of one 3x3 convolution at its smallest feature maps, where it
helps most and costs least. Each network also has a 3x3 convolution at full resolution: the
discriminator's first layer, the generator's last. Blocks there cost more than they gain.
"""

from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from facegan.models import dcgan, sizes
from facegan.models.convolution import Conv2d, ConvTranspose2d

SLOPE = 0.2

initialise = dcgan.initialise


class Block(nn.Module):
    """x + BatchNorm(convolution(x)), then a leaky ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return leaky_relu(x + self.norm(self.convolution(x)), SLOPE)


class Generator(dcgan.Generator):
    """z (n, latent_dim) -> images in [-1, 1], (n, channels, size, size).

    >>> Generator(size=64, channels=3, latent_dim=100, base_channels=64)(torch.zeros(2, 100)).shape
    torch.Size([2, 3, 64, 64])
    """

    def __init__(self, size: int, channels: int, latent_dim: int, base_channels: int) -> None:
        super().__init__(size, channels, latent_dim, base_channels)
        *layers, _, _ = self.layers
        half = max(base_channels // 2, 1)
        self.layers = nn.Sequential(
            *layers,
            ConvTranspose2d(base_channels, half, 4, 2, 1, bias=False),
            nn.BatchNorm2d(half),
            nn.ReLU(inplace=True),
            Conv2d(half, channels, 3, 1, 1),
            nn.Tanh(),
        )


class Discriminator(dcgan.Discriminator):
    """Images in [-1, 1], (n, channels, size, size) -> logits (n,), positive for real."""

    def __init__(self, size: int, channels: int, base_channels: int) -> None:
        super().__init__(size, channels, base_channels)
        _, _, *layers, last = self.layers
        half = max(base_channels // 2, 1)
        self.layers = nn.Sequential(
            Conv2d(channels, half, 3, 1, 1),
            nn.LeakyReLU(SLOPE, inplace=True),
            Conv2d(half, base_channels, 4, 2, 1),
            nn.LeakyReLU(SLOPE, inplace=True),
            *layers,
            Block(sizes.widths(size, base_channels)[0]),
            last,
        )
