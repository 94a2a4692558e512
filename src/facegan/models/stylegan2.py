"""StyleGAN2 (Karras et al. 2020, arXiv 1912.04958) for small images and large GPUs.

As there: a mapping network, convolutions modulated by styles and demodulated (eq. 1 and 3), RGB
skip connections in the generator, a residual discriminator with minibatch standard deviation
(Karras et al. 2018, section 3), and weights that are scaled at run time (section 4.1 there).
Different: two layers of mapping, as Karras et al. 2020 (arXiv 2006.06676) use for small images;
strided 4x4 convolutions in place of filtered 3x3 ones; no noise inputs, so that a latent is an
image; tanh at the end; no path length regularisation and no style mixing.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import (
    avg_pool2d,
    conv2d,
    conv_transpose2d,
    interpolate,
    leaky_relu,
    linear,
)

from facegan.models import sizes

SLOPE = 0.2
# Of a leaky ReLU: keeps the variance of its input.
GAIN = math.sqrt(2)
# Cap on channels, as a multiple of `base_channels`: 512 at 4x4 and 8x8 with 128.
MAX_WIDENING = 4
MAPPING_LAYERS, MAPPING_RATE = 2, 0.01
# Images whose standard deviation is a feature of theirs.
GROUP = 4


def _widths(size: int, base_channels: int) -> list[int]:
    """Channels at the resolutions base, 2 base, ..., size."""
    cap = MAX_WIDENING * base_channels
    inner = [min(width, cap) for width in sizes.widths(size, base_channels)]
    return [*inner, max(base_channels // 2, 1)]


class Linear(nn.Module):
    """(n, before) -> (n, after), with weights from N(0, 1) that are scaled at run time.

    Args:
        bias: initial value.
        rate: of learning, relative to the optimizer's.
    """

    def __init__(self, before: int, after: int, bias: float = 0, rate: float = 1) -> None:
        super().__init__()
        self.initial_bias, self.rate, self.gain = bias, rate, rate / math.sqrt(before)
        self.weight = nn.Parameter(torch.empty(after, before))
        self.bias = nn.Parameter(torch.empty(after))

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight * self.gain, self.bias * self.rate)


class Convolution(nn.Module):
    """(n, before, H, W) -> (n, after, H, W), or halved by `stride` 2; weights scaled at run time.

    Args:
        gain: of the layers around it.
    """

    def __init__(
        self, before: int, after: int, kernel: int, stride: int = 1, bias: bool = True,
        gain: float = GAIN,
    ) -> None:  # fmt: skip
        super().__init__()
        self.stride, self.padding = stride, (kernel - stride + 1) // 2
        self.gain = gain / math.sqrt(before * kernel**2)
        self.weight = nn.Parameter(torch.empty(after, before, kernel, kernel))
        self.bias = nn.Parameter(torch.empty(after)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, self.weight * self.gain, self.bias, self.stride, self.padding)


class Modulated(nn.Module):
    """A convolution whose input channels are scaled by a style: (n, before, H, W) and (n, styles)
    -> (n, after, H, W).

    Args:
        kernel: 1 or 3; or 4, which doubles the resolution.
        demodulate: scale outputs to unit variance, for inputs of unit variance; then multiply by
            the leaky ReLU's gain.
    """

    def __init__(
        self, before: int, after: int, kernel: int, styles: int, demodulate: bool = True
    ) -> None:
        super().__init__()
        self.kernel, self.demodulate = kernel, demodulate
        # Each output pixel has a quarter of the weights of a transposed 4x4 convolution.
        self.fan_in = before * (kernel**2 if kernel < 4 else 4)
        self.style = Linear(styles, before, bias=1)
        self.weight = nn.Parameter(torch.empty(after, before, kernel, kernel))
        self.bias = nn.Parameter(torch.empty(after))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style = self.style(w)
        weight = self.weight / math.sqrt(self.fan_in)
        y = x * style[:, :, None, None]
        if self.kernel < 4:
            y = conv2d(y, weight, padding=self.kernel // 2)
        else:
            y = conv_transpose2d(y, weight.transpose(0, 1), stride=2, padding=1)
        bias = self.bias.to(y.dtype)[None, :, None, None]
        if not self.demodulate:
            return y + bias
        share = 4 if self.kernel == 4 else 1
        variance = style.float().square() @ weight.square().sum((2, 3)).t().float() / share
        scale = (GAIN * (variance.float() + 1e-8).rsqrt()).to(y.dtype)
        return torch.addcmul(bias, y, scale[:, :, None, None])


class Generator(nn.Module):
    """z (n, latent_dim) -> images in [-1, 1], (n, channels, size, size).

    >>> Generator(size=64, channels=3, latent_dim=100, base_channels=64)(torch.zeros(2, 100)).shape
    torch.Size([2, 3, 64, 64])
    """

    def __init__(self, size: int, channels: int, latent_dim: int, base_channels: int) -> None:
        super().__init__()
        self.size, self.channels, self.latent_dim = size, channels, latent_dim
        widths, side = _widths(size, base_channels), sizes.base(size)
        self.mapping = nn.ModuleList(
            Linear(latent_dim, latent_dim, rate=MAPPING_RATE) for _ in range(MAPPING_LAYERS)
        )
        self.constant = nn.Parameter(torch.empty(1, widths[0], side, side))
        self.first = Modulated(widths[0], widths[0], 3, latent_dim)
        pairs = list(pairwise(widths))
        self.up = nn.ModuleList(Modulated(*pair, 4, latent_dim) for pair in pairs)
        self.convolutions = nn.ModuleList(Modulated(w, w, 3, latent_dim) for _, w in pairs)
        self.to_rgb = nn.ModuleList(
            Modulated(width, channels, 1, latent_dim, demodulate=False) for width in widths
        )

    def forward(self, z: Tensor) -> Tensor:
        w = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        for layer in self.mapping:
            w = leaky_relu(layer(w), SLOPE) * GAIN
        x = self.constant.expand(z.shape[0], -1, -1, -1).contiguous(
            memory_format=torch.channels_last
        )
        x = leaky_relu(self.first(x, w), SLOPE)
        rgb = self.to_rgb[0](x, w)
        layers = zip(self.up, self.convolutions, self.to_rgb[1:], strict=True)
        for up, convolution, to_rgb in layers:
            x = leaky_relu(up(x, w), SLOPE)
            x = leaky_relu(convolution(x, w), SLOPE)
            rgb = interpolate(rgb, scale_factor=2.0, mode="bilinear") + to_rgb(x, w)
        return torch.tanh(rgb)


class Block(nn.Module):
    """Half the resolution: (n, before, H, W) -> (n, after, H/2, W/2)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first = Convolution(before, before, 3)
        # Both branches have half of the variance.
        self.second = Convolution(before, after, 4, stride=2, gain=1)
        self.skip = Convolution(before, after, 1, bias=False, gain=math.sqrt(0.5))

    def forward(self, x: Tensor) -> Tensor:
        y = leaky_relu(self.second(leaky_relu(self.first(x), SLOPE)), SLOPE)
        skip: Tensor = self.skip(avg_pool2d(x, 2))
        return y + skip


class Discriminator(nn.Module):
    """Images in [-1, 1], (n, channels, size, size) -> logits (n,), positive for real."""

    def __init__(self, size: int, channels: int, base_channels: int) -> None:
        super().__init__()
        widths, side = _widths(size, base_channels)[::-1], sizes.base(size)
        last = widths[-1]
        self.from_rgb = Convolution(channels, widths[0], 1)
        self.blocks = nn.Sequential(*(Block(*pair) for pair in pairwise(widths)))
        self.convolution = Convolution(last + 1, last, 3)
        self.linear = Linear(last * side**2, last)
        self.last = Linear(last, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(leaky_relu(self.from_rgb(x), SLOPE))
        x = leaky_relu(self.convolution(torch.cat([x, _deviation(x)], 1)), SLOPE)
        x = leaky_relu(self.linear(x.flatten(1)), SLOPE) * GAIN
        logits: Tensor = self.last(x)
        return logits.flatten()


def _deviation(x: Tensor) -> Tensor:
    """Mean standard deviation of all features over each group of images: (n, 1, H, W)."""
    n, _, height, width = x.shape
    group = next(size for size in range(GROUP, 0, -1) if n % size == 0)
    groups = x.float().unflatten(0, (-1, group))
    deviation = (groups.var(1, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3)).to(x.dtype)
    repeated: Tensor = deviation.repeat_interleave(group)[:, None, None, None]
    return repeated.expand(-1, -1, height, width)


@torch.no_grad()
def initialise(network: nn.Module, rng: torch.Generator) -> None:
    """Weights and the constant input from N(0, 1), which the layers scale; biases as given."""
    for module in network.modules():
        if isinstance(module, Linear | Convolution | Modulated):
            module.weight.normal_(0.0, 1.0, generator=rng)
            if module.bias is not None:
                module.bias.zero_()
        if isinstance(module, Linear):
            module.weight.div_(module.rate)
            module.bias.fill_(module.initial_bias / module.rate)
        if isinstance(module, Generator):
            module.constant.normal_(0.0, 1.0, generator=rng)
