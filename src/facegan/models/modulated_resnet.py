"""`resnet` whose generator is self-modulated, with a block at full resolution and grey detail.

Scale and shift of each BatchNorm are functions of the latent, which reaches every layer that way
(Chen et al. 2019, "On Self Modulation for Generative Adversarial Networks", arXiv 1810.01365,
figure 1). docs/ablations.md has what each of the three gains.

Truncated latents are short (Brock et al. 2018, section 3.1), and BatchNorm's statistics are of
latents that are not: images would lose their faces. In eval mode, the generator lengthens short
latents, and moves scales and shifts towards their mean in return.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, leaky_relu, pad, relu

from facegan.models import dcgan, resnet
from facegan.models.convolution import Conv2d

Discriminator = resnet.Discriminator

# Units of the hidden layer that scale and shift are computed by.
HIDDEN, SLOPE = 64, 0.2
# Standard deviation of the scales and shifts of an untrained network, roughly.
SPREAD = 0.1
# Latents of a smaller root mean square are short: of 100 dimensions, one in 12 not truncated.
SHORT = 0.9


def lengthened(z: Tensor) -> tuple[Tensor, Tensor]:
    """Latents (n, latent_dim) at least as long as `SHORT` says, and each one's length as a share of
    that, (n, 1), at most 1."""
    share = ((z.square().mean(1, keepdim=True) + 1e-8).sqrt() / SHORT).clamp(max=1)
    return z / share, share


class Modulated(nn.Module):
    """A layer that is called with features and the latent."""


class ModulatedNorm(Modulated):
    """BatchNorm with scale 1 + g(z) and shift b(z): x (n, channels, H, W), z (n, latent_dim)."""

    def __init__(self, channels: int, latent_dim: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.hidden = nn.Linear(latent_dim, HIDDEN)
        self.modulation = nn.Linear(HIDDEN, 2 * channels)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        modulation = self._modulation(z).to(x.dtype)
        scale, shift = modulation[:, :, None, None].chunk(2, 1)
        return torch.addcmul(shift, self.norm(x), 1 + scale)

    def _modulation(self, z: Tensor) -> Tensor:
        """Scales and shifts, (n, 2 * channels)."""
        share = None
        if not self.training:
            z, share = lengthened(z)
        modulation: Tensor = self.modulation(leaky_relu(self.hidden(z), SLOPE))
        if share is None:
            return modulation
        return torch.lerp(self.mean().float(), modulation.float(), share)

    def mean(self) -> Tensor:
        """The scales and shifts of latents in the mean, (2 * channels,).

        A unit of the hidden layer is x ~ N(b, s^2), where b is its bias and s the norm of its
        weights, and E max(x, 0) = b Phi(b / s) + s phi(b / s).
        """
        b, s = self.hidden.bias.float(), self.hidden.weight.float().norm(dim=1).clamp_min(1e-12)
        u = b / s
        density = torch.exp(-u.square() / 2) / math.sqrt(2 * math.pi)
        positive = b * (1 + torch.erf(u / math.sqrt(2))) / 2 + s * density
        mean: Tensor = self.modulation(SLOPE * b + (1 - SLOPE) * positive)
        return mean


class ModulatedBlock(Modulated):
    """x + ModulatedNorm(convolution(x)), then a ReLU: x (n, channels, H, W), z (n, latent_dim)."""

    def __init__(self, channels: int, latent_dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Conv2d(channels, channels, 3, 1, 1, bias=False), ModulatedNorm(channels, latent_dim)
        )

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        convolution, norm = self.layers
        return relu(x + norm(convolution(x), z))


class GreyDetail(nn.Module):
    """RGB images, (n, 3, H, W), float32, with the mean of their channels as detail finer than two
    pixels: photographs have little colour there, and those of JPEGs with chroma at half resolution
    (4:2:0) none. Networks without it draw it as noise."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        # Weights 1 2 1 in both directions.
        blurred = avg_pool2d(avg_pool2d(pad(x, (1, 1, 1, 1), "replicate"), 2, 1), 2, 1)
        return blurred + (x - blurred).mean(1, keepdim=True)


class Generator(resnet.Generator):
    """z (n, latent_dim) -> images in [-1, 1], (n, channels, size, size).

    >>> Generator(size=64, channels=3, latent_dim=100, base_channels=64)(torch.zeros(2, 100)).shape
    torch.Size([2, 3, 64, 64])
    """

    def __init__(self, size: int, channels: int, latent_dim: int, base_channels: int) -> None:
        super().__init__(size, channels, latent_dim, base_channels)
        *layers, last, tanh = (
            ModulatedNorm(layer.num_features, latent_dim)
            if isinstance(layer, nn.BatchNorm2d)
            else layer
            for layer in self.layers
        )
        block = ModulatedBlock(max(base_channels // 2, 1), latent_dim)
        detail = [GreyDetail()] if channels == 3 else []
        self.layers = nn.Sequential(*layers, block, last, *detail, tanh)

    def forward(self, z: Tensor) -> Tensor:
        x = (z if self.training else lengthened(z)[0])[:, :, None, None]
        for layer in self.layers:
            x = layer(x, z) if isinstance(layer, Modulated) else layer(x)
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
