"""Latents -> images, grids and films. The one place that turns [-1, 1] into uint8."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from facegan.atomic import replacing
from facegan.errors import FaceganError

BATCH = 100
# Latents that are drawn together: another number, other latents and other scores.
BLOCK = 100


class ImageGenerator(nn.Module):
    """A generator whose output is ready to look at: z float32 (n, latent_dim) -> uint8 NHWC."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: Tensor) -> Tensor:
        return to_levels(self.network(z))


def to_levels(x: Tensor) -> Tensor:
    """float (n, C, H, W) in [-1, 1] -> uint8 (n, H, W, C)."""
    levels = ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return levels.permute(0, 2, 3, 1)  # NCHW => NHWC


def latents(count: int, dimensions: int, seed: int) -> Tensor:
    """Standard normal float32 (count, dimensions), drawn on the CPU: the same on every device."""
    source = torch.Generator().manual_seed(seed)
    return torch.randn(count, dimensions, generator=source)


def latent_block(block: int, dimensions: int, seed: int) -> Tensor:
    """The latents with the numbers 100 block to 100 block + 99 of an endless sequence, which
    needs no memory: float32 (100, dimensions), standard normal.
    """
    mixed = np.random.SeedSequence((seed, block)).generate_state(1)[0]
    return latents(BLOCK, dimensions, int(mixed))


def draw(network: nn.Module, z: Tensor) -> Iterator[Tensor]:
    """Images of the latents `z`, in batches: uint8 (n, H, W, C) on the network's device.

    Raises:
        FaceganError: if the network makes NaN, which as a level would pass for a colour.
    """
    device = next(network.parameters()).device
    for batch in z.split(BATCH):
        with torch.no_grad():
            x = network(batch.to(device))
            if not x.isfinite().all():
                raise FaceganError("the generator makes images of NaN; train another one")
            yield to_levels(x)


def grid(images: Tensor, columns: int | None = None) -> NDArray[np.uint8]:
    """Images uint8 (n, H, W, C) side by side, about as many rows as columns: uint8 (H', W', C)."""
    count, height, width, channels = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    cells = np.zeros((rows * columns, height, width, channels), dtype=np.uint8)
    cells[:count] = images.cpu().numpy()
    table = cells.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return table.reshape(rows * height, columns * width, channels)


def to_picture(pixels: NDArray[np.uint8]) -> Image.Image:
    """uint8 (H, W, 1 or 3) as a Pillow image."""
    return Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)


def save_picture(pixels: NDArray[np.uint8], path: Path) -> None:
    """Write uint8 (H, W, 1 or 3) as a PNG."""
    with replacing(path) as temporary:
        to_picture(pixels).save(temporary, "PNG")


def save_film(pictures: list[Path], path: Path, milliseconds: int = 500) -> None:
    """An animated GIF of the pictures in turn, for ever; the last one stays longer."""
    frames = [Image.open(picture) for picture in pictures]
    durations = [milliseconds] * (len(frames) - 1) + [4 * milliseconds]
    with replacing(path) as temporary:
        frames[0].save(
            temporary, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0
        )
