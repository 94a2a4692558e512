"""Differentiable augmentation (Zhao et al. 2020) of images in [-1, 1]; shapes stay the same.

Real and generated images get the same random transforms before the discriminator, which keeps it
from memorising the photographs. Ranges are the paper's; `affine` is after Karras et al. 2020
(arXiv 2006.06676, appendix B), as is the adaptive probability.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, pad

from facegan.train.rng import Rng

# Images seen in which the adaptive probability can rise from 0 to 1. Ten times as fast as in Karras
# et al. 2020, whose trainings see 25 million: few photographs are memorised within 30,000 images.
ADAPTATION = 50_000
# Standard deviations of `affine`: of the rotation in radians, and of the zoom in octaves.
ROTATION, ZOOM = math.radians(10), 0.2


def augment(
    images: Tensor, names: Sequence[str], rng: Rng, probability: Tensor | None = None
) -> Tensor:
    """Apply augmentations in turn, with random parameters per image.

    Args:
        images: float (n, C, H, W) in [-1, 1].
        names: keys of `AUGMENTATIONS`.
        rng: on the images' device.
        probability: of each augmentation and image, a scalar; None: 1.
    Returns:
        float (n, C, H, W).
    """
    for name in names:
        augmented = AUGMENTATIONS[name](images, rng)
        if probability is not None:
            augmented = torch.where(_uniform(images, rng) < probability, augmented, images)
        images = augmented
    return images


def adapt(probability: Tensor, accuracy: Tensor, target: float, images: int) -> None:
    """Change the probability of augmentation, in place, after a batch of `images`: up if the
    discriminator's accuracy is above the target, which means that it memorises, else down.

    Karras et al. 2020, section 3.1, with the accuracy in place of the mean sign of the logits.
    """
    probability.add_(torch.sign(accuracy - target) * (images / ADAPTATION)).clamp_(0, 1)


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


def affine(images: Tensor, rng: Rng) -> Tensor:
    """Rotate by an angle from N(0, 10 degrees) and zoom by 2^x, x from N(0, 0.2), about the centre;
    bilinear, with reflected edges.
    """
    n = len(images)
    angles, zooms = ROTATION * rng.normal(n), torch.exp2(ZOOM * rng.normal(n))
    cosines, sines = zooms * angles.cos(), zooms * angles.sin()
    zeros = torch.zeros_like(angles)
    rows = [cosines, -sines, zeros], [sines, cosines, zeros]
    matrices = torch.stack([torch.stack(row, 1) for row in rows], 1)
    grid = affine_grid(matrices, list(images.shape), align_corners=False)
    return grid_sample(images, grid, "bilinear", "reflection", align_corners=False)


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
    "affine": affine,
    "cutout": cutout,
}
