"""Walks through latents, as frames of an animation."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facegan.core.errors import FaceganError
from facegan.core.events import OnEvent, Progress
from facegan.core.pictures import grid
from facegan.sample import latents
from facegan.sample.animation import resized
from facegan.sample.caption import add_caption
from facegan.sample.opening import Opened
from facegan.sample.renderer import BATCH, Renderer

# Latents of a walk are in memory: 100 dimensions of so many take 400 MB.
MAX_IMAGES = 1_000_000


def frames(
    opened: Opened,
    seeds: list[int],
    walks: int,
    steps: int,
    loop: bool,
    truncation: float | None,
    caption: bool,
    size: int | None,
    on_event: OnEvent,
) -> Iterator[NDArray[np.uint8]]:
    """The frames of `walks` walks side by side: uint8 (H, W, C).

    Args:
        seeds: of the first walk, then of the second, and so on; as many for each.
        steps: frames from one seed to the next.
        caption: whether frames say which model, FID and protocol.
        size: pixels of the longer side, without the caption; None keeps it.
    Raises:
        FaceganError: if there are too many images.
    """
    count = len(seeds) // walks * steps
    if count * walks > MAX_IMAGES:
        raise FaceganError(
            f"{count:,} frames of {walks:,} images: valid: at most {MAX_IMAGES:,} images in all; "
            "lower --count, --seconds, --fps or --walks"
        )
    keys = latents.latents(seeds, opened.network.latent_dim, truncation)
    paths = [latents.walk(part, steps, loop) for part in keys.chunk(walks)]
    z = torch.stack(paths, 1)  # (frames, walks, dimensions)
    for number, images in enumerate(_images(opened, z), start=1):
        pixels = resized(grid(torch.from_numpy(images)), size)
        yield add_caption(pixels, opened.caption) if caption else pixels
        on_event(Progress(number, len(z)))


def _images(opened: Opened, z: Tensor) -> Iterator[NDArray[np.uint8]]:
    """uint8 (walks, H, W, C) for each frame, with few frames in memory."""
    render, some = Renderer(opened.network), max(BATCH // z.shape[1], 1)
    for part in z.split(some):
        rendered = np.concatenate(list(render(part.flatten(0, 1))))
        yield from rendered.reshape(len(part), z.shape[1], *rendered.shape[1:])
