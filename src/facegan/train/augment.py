"""Differentiable augmentation (Zhao et al. 2020) of images in [-1, 1]; shapes stay the same.

Real and generated images get the same random transforms before the discriminator, which keeps it
from memorising the photographs. Ranges are the paper's.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from facegan.train.rng import Rng


def augment(images: Tensor, names: Sequence[str], rng: Rng) -> Tensor:
    """Apply augmentations in turn, with random parameters per image.

    Args:
        images: float (n, C, H, W) in [-1, 1].
        names: keys of `AUGMENTATIONS`.
        rng: on the images' device.
    Returns:
        float (n, C, H, W).
    """
    for name in names:
        images = AUGMENTATIONS[name](images, rng)
    return images


def _uniform(images: Tensor, rng: Rng) -> Tensor:
    """One number in [0, 1) per image: (n, 1, 1, 1)."""
    return rng.uniform(len(images), 1, 1, 1)


def brightness(images: Tensor, rng: Rng) -> Tensor:
    """Add a number in [-0.5, 0.5), a quarter of the range either way."""
    return images + (_uniform(images, rng) - 0.5)


def saturation(images: Tensor, rng: Rng) -> Tensor:
    """Scale the distance from grey by a factor in [0, 2)."""
    grey = images.mean(1, keepdim=True)
    return grey + (images - grey) * (2 * _uniform(images, rng))


def contrast(images: Tensor, rng: Rng) -> Tensor:
    """Scale the distance from the image's mean by a factor in [0.5, 1.5)."""
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * (0.5 + _uniform(images, rng))


def translation(images: Tensor, rng: Rng) -> Tensor:
    """Shift by up to an eighth of the side in each direction, padded with zeros."""
    n, _, height, width = images.shape
    max_shift = height // 8
    shifts = rng.integers(2 * max_shift + 1, n, 2).T[:, :, None]
    rows, columns = (
        torch.arange(side, device=images.device) + shift
        for side, shift in zip((height, width), shifts, strict=True)
    )
    padded = pad(images, (max_shift,) * 4).permute(0, 2, 3, 1)  # NCHW => NHWC, to gather pixels
    image = torch.arange(n, device=images.device)[:, None, None]
    return padded[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cutout(images: Tensor, rng: Rng) -> Tensor:
    """Set a square of half the side to zero, centred anywhere in the image."""
    n, _, height, width = images.shape
    side = height // 2
    centres = rng.integers(height, n, 2).T[:, :, None]
    inside = [
        (torch.arange(length, device=images.device) - centre + side // 2).float().div(side).floor()
        for length, centre in zip((height, width), centres, strict=True)
    ]
    hidden = (inside[0] == 0)[:, None, :, None] & (inside[1] == 0)[:, None, None, :]
    return images.masked_fill(hidden, 0)


AUGMENTATIONS: dict[str, Callable[[Tensor, Rng], Tensor]] = {
    "brightness": brightness,
    "saturation": saturation,
    "contrast": contrast,
    "translation": translation,
    "cutout": cutout,
}
