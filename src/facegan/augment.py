"""Differentiable augmentation (Zhao et al. 2020): images in [-1, 1] in, the same shape out.

What the discriminator sees of real and of generated images is changed at random in the same way,
so that it can't learn the photographs by heart. Ranges are the paper's.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad


def augment(images: Tensor, names: Sequence[str], source: torch.Generator) -> Tensor:
    """Apply the augmentations `names` in turn, each with numbers of its own for each image.

    Args:
        images: float (n, C, H, W).
        names: of `AUGMENTATIONS`.
        source: on the images' device.
    """
    for name in names:
        images = AUGMENTATIONS[name](images, source)
    return images


def _uniform(images: Tensor, source: torch.Generator) -> Tensor:
    """One number in [0, 1) for each image: (n, 1, 1, 1)."""
    return torch.rand(len(images), 1, 1, 1, generator=source, device=images.device)


def brightness(images: Tensor, source: torch.Generator) -> Tensor:
    """Add up to a quarter of the range, either way."""
    return images + (_uniform(images, source) - 0.5)


def saturation(images: Tensor, source: torch.Generator) -> Tensor:
    """Scale the distance from grey by 0 to 2."""
    grey = images.mean(1, keepdim=True)
    return grey + (images - grey) * (2 * _uniform(images, source))


def contrast(images: Tensor, source: torch.Generator) -> Tensor:
    """Scale the distance from the image's mean by 0.5 to 1.5."""
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * (0.5 + _uniform(images, source))


def translation(images: Tensor, source: torch.Generator) -> Tensor:
    """Shift by up to an eighth of the side, either way; zeros come in."""
    n, _, height, width = images.shape
    reach = height // 8
    shifts = torch.randint(2 * reach + 1, (2, n, 1), generator=source, device=images.device)
    rows, columns = (
        torch.arange(side, device=images.device) + shift
        for side, shift in zip((height, width), shifts, strict=True)
    )
    padded = pad(images, (reach,) * 4).permute(0, 2, 3, 1)  # NCHW => NHWC, to gather whole pixels
    each = torch.arange(n, device=images.device)[:, None, None]
    return padded[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cutout(images: Tensor, source: torch.Generator) -> Tensor:
    """Set a square of half the side to zero; its centre is anywhere in the image."""
    n, _, height, width = images.shape
    side = height // 2
    centres = torch.randint(height, (2, n, 1), generator=source, device=images.device)
    inside = [
        (torch.arange(length, device=images.device) - centre + side // 2).float().div(side).floor()
        for length, centre in zip((height, width), centres, strict=True)
    ]
    hidden = (inside[0] == 0)[:, None, :, None] & (inside[1] == 0)[:, None, None, :]
    return images.masked_fill(hidden, 0)


AUGMENTATIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "brightness": brightness,
    "saturation": saturation,
    "contrast": contrast,
    "translation": translation,
    "cutout": cutout,
}
