"""DCGAN (Radford, Metz and Chintala 2015, "Unsupervised Representation Learning ...")."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from facegan.models import sizes
from facegan.models.convolution import Conv2d, ConvTranspose2d


class Generator(nn.Module):
    """z (n, latent_dim) -> images in [-1, 1], (n, channels, size, size).

    >>> Generator(size=32, channels=1, latent_dim=100, base_channels=32)(torch.zeros(2, 100)).shape
    torch.Size([2, 1, 32, 32])
    """

    def __init__(self, size: int, channels: int, latent_dim: int, base_channels: int) -> None:
        super().__init__()
        self.size, self.channels, self.latent_dim = size, channels, latent_dim
        widths, side = sizes.widths(size, base_channels), sizes.base(size)
        layers: list[nn.Module] = [
            ConvTranspose2d(latent_dim, widths[0], side, 1, 0, bias=False),  # from 1x1
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
        ]
        for before, after in pairwise(widths):
            layers += [
                ConvTranspose2d(before, after, 4, 2, 1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
            ]
        layers += [ConvTranspose2d(widths[-1], channels, 4, 2, 1), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        images: Tensor = self.layers(z[:, :, None, None])
        return images


class Discriminator(nn.Module):
    """Images in [-1, 1], (n, channels, size, size) -> logits (n,), positive for real."""

    def __init__(self, size: int, channels: int, base_channels: int) -> None:
        super().__init__()
        widths, side = sizes.widths(size, base_channels)[::-1], sizes.base(size)
        # No BatchNorm after the input layer (section 3 of the paper).
        layers: list[nn.Module] = [
            Conv2d(channels, widths[0], 4, 2, 1),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        for before, after in pairwise(widths):
            layers += [
                Conv2d(before, after, 4, 2, 1, bias=False),
                nn.BatchNorm2d(after),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        self.layers = nn.Sequential(*layers, Conv2d(widths[-1], 1, side, 1, 0))  # to 1x1

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits.flatten()


@torch.no_grad()
def initialise(network: nn.Module, rng: torch.Generator) -> None:
    """Weights from N(0, 0.02) (section 4 of the paper); BatchNorm's scale from N(1, 0.02)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.weight.normal_(0.0, 0.02, generator=rng)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.BatchNorm2d) and module.affine:
            module.weight.normal_(1.0, 0.02, generator=rng)
            module.bias.zero_()
