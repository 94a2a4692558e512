"""A small generator."""

from typing import Any

import torch

from facegan.models.architectures import build_generator
from facegan.models.dcgan import Generator, initialise

CONFIG: dict[str, Any] = {
    "architecture": "dcgan",
    "size": 32,
    "channels": 1,
    "latent_dim": 6,
    "base_channels": 4,
}


def small_generator() -> Generator:
    """A generator of `CONFIG` in train mode, with BatchNorm statistics of one batch."""
    generator = build_generator(**CONFIG)
    assert isinstance(generator, Generator)
    initialise(generator, torch.Generator().manual_seed(0))
    generator.train()(torch.randn(5, 6, generator=torch.Generator().manual_seed(1)))
    return generator
