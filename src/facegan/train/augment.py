"""Differentiable augmentation (Zhao et al. 2020): images in [-1, 1] in, the same shape out.

What the discriminator sees of real and of generated images is changed at random in the same way,
so that it can't learn the photographs by heart. Ranges are the paper's.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from facegan.train.rng import Rng


def augment(images: Tensor, names: Sequence[str], noise: Rng) -> Tensor:
    """Apply the augmentations `names` in turn, each with numbers of its own for each image.

    Args:
        images: float (n, C, H, W).
        names: of `AUGMENTATIONS`.
        noise: on the images' device.
    """
    for name in names:
        images = AUGMENTATIONS[name](images, noise)
    return images


def _uniform(images: Tensor, noise: Rng) -> Tensor:
    """One number in [0, 1) for each image: (n, 1, 1, 1)."""
    return noise.uniform(len(images), 1, 1, 1)


def brightness(images: Tensor, noise: Rng) -> Tensor:
    """Add up to a quarter of the range, either way."""
    return images + (_uniform(images, noise) - 0.5)


def saturation(images: Tensor, noise: Rng) -> Tensor:
    """Scale the distance from grey by 0 to 2."""
    grey = images.mean(1, keepdim=True)
    return grey + (images - grey) * (2 * _uniform(images, noise))


def contrast(images: Tensor, noise: Rng) -> Tensor:
    """Scale the distance from the image's mean by 0.5 to 1.5."""
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * (0.5 + _uniform(images, noise))


def translation(images: Tensor, noise: Rng) -> Tensor:
    """Shift by up to an eighth of the side, either way; zeros come in."""
    n, _, height, width = images.shape
    reach = height // 8
    shifts = noise.integers(2 * reach + 1, n, 2).T[:, :, None]
    rows, columns = (
        torch.arange(side, device=images.device) + shift
        for side, shift in zip((height, width), shifts, strict=True)
    )
    padded = pad(images, (reach,) * 4).permute(0, 2, 3, 1)  # NCHW => NHWC, to gather whole pixels
    each = torch.arange(n, device=images.device)[:, None, None]
    return padded[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cutout(images: Tensor, noise: Rng) -> Tensor:
    """Set a square of half the side to zero; its centre is anywhere in the image."""
    n, _, height, width = images.shape
    side = height // 2
    centres = noise.integers(height, n, 2).T[:, :, None]
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
