"""`resnet` with a residual block after every norm, in both networks: slower, and better in long
trainings with augmentation (docs/ablations.md)."""

from torch import nn

from facegan.models import dcgan, resnet, sizes

initialise = dcgan.initialise


class Generator(resnet.Generator):
    """z (n, latent_dim) -> images in [-1, 1], (n, channels, size, size).

    >>> Generator(size=64, channels=3, latent_dim=100, base_channels=64)(torch.zeros(2, 100)).shape
    torch.Size([2, 3, 64, 64])
    """

    def __init__(self, size: int, channels: int, latent_dim: int, base_channels: int) -> None:
        super().__init__(size, channels, latent_dim, base_channels)
        widths = sizes.widths(size, base_channels)
        self.layers = _with_blocks(self.layers, widths)


class Discriminator(resnet.Discriminator):
    """Images in [-1, 1], (n, channels, size, size) -> logits (n,), positive for real."""

    def __init__(self, size: int, channels: int, base_channels: int) -> None:
        super().__init__(size, channels, base_channels)
        *layers, _, last = self.layers  # without resnet's own block, which is the last one here
        widths = sizes.widths(size, base_channels)[::-1]
        self.layers = nn.Sequential(*_with_blocks(layers, widths[1:]), last)


def _with_blocks(layers: nn.Sequential | list[nn.Module], widths: list[int]) -> nn.Sequential:
    """Insert a block after the activation behind each of the first norms."""
    found, remaining = list[nn.Module](), list(widths)
    previous: nn.Module | None = None
    for layer in layers:
        found.append(layer)
        if isinstance(previous, nn.BatchNorm2d) and remaining:
            found.append(resnet.Block(remaining.pop(0)))
        previous = layer
    return nn.Sequential(*found)
