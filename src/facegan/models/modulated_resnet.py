"""`resnet` whose generator is self-modulated (Chen et al. 2019, "On Self Modulation for Generative
Adversarial Networks", arXiv 1810.01365): scale and shift of each BatchNorm are functions of the
latent (their figure 1), which reaches every layer that way. docs/ablations.md has the gain."""

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from facegan.models import dcgan, resnet

Discriminator = resnet.Discriminator

# Units of the hidden layer that scale and shift are computed by.
HIDDEN, SLOPE = 64, 0.2
# Standard deviation of the scales and shifts of an untrained network, roughly.
SPREAD = 0.1


class ModulatedNorm(nn.Module):
    """BatchNorm with scale 1 + g(z) and shift b(z): x (n, channels, H, W), z (n, latent_dim)."""

    def __init__(self, channels: int, latent_dim: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.hidden = nn.Linear(latent_dim, HIDDEN)
        self.modulation = nn.Linear(HIDDEN, 2 * channels)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        modulation = self.modulation(leaky_relu(self.hidden(z), SLOPE)).to(x.dtype)
        scale, shift = modulation[:, :, None, None].chunk(2, 1)
        y: Tensor = self.norm(x) * (1 + scale) + shift
        return y


class Generator(resnet.Generator):
    """z (n, latent_dim) -> images in [-1, 1], (n, channels, size, size).

    >>> Generator(size=64, channels=3, latent_dim=100, base_channels=64)(torch.zeros(2, 100)).shape
    torch.Size([2, 3, 64, 64])
    """

    def __init__(self, size: int, channels: int, latent_dim: int, base_channels: int) -> None:
        super().__init__(size, channels, latent_dim, base_channels)
        self.layers = nn.Sequential(
            *(
                ModulatedNorm(layer.num_features, latent_dim)
                if isinstance(layer, nn.BatchNorm2d)
                else layer
                for layer in self.layers
            )
        )

    def forward(self, z: Tensor) -> Tensor:
        x = z[:, :, None, None]
        for layer in self.layers:
            x = layer(x, z) if isinstance(layer, ModulatedNorm) else layer(x)
        return x


@torch.no_grad()
def initialise(network: nn.Module, rng: torch.Generator) -> None:
    """DCGAN's; modulations are small at first."""
    dcgan.initialise(network, rng)
    for module in network.modules():
        if isinstance(module, ModulatedNorm):
            for layer, spread in ((module.hidden, 1.0), (module.modulation, SPREAD)):
                layer.weight.normal_(0.0, spread / layer.in_features**0.5, generator=rng)
                layer.bias.zero_()
