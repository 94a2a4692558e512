"""Small generators."""

from typing import Any

import torch

from facegan.models import modulated_resnet, stylegan2
from facegan.models.architectures import build_generator
from facegan.models.dcgan import Generator, initialise

CONFIG: dict[str, Any] = {
    "architecture": "dcgan",
    "size": 32,
    "channels": 1,
    "latent_dim": 6,
    "base_channels": 4,
}
MODULATED: dict[str, Any] = {**CONFIG, "architecture": "modulated-resnet", "channels": 3}
# Its layers have styles, at 4, 8, 16 and 32 pixels.
STYLED: dict[str, Any] = {**CONFIG, "architecture": "stylegan2", "channels": 3}


def small_generator() -> Generator:
    """A generator of `CONFIG` in train mode, with BatchNorm statistics of one batch."""
    generator = build_generator(**CONFIG)
    assert isinstance(generator, Generator)
    initialise(generator, torch.Generator().manual_seed(0))
    generator.train()(torch.randn(5, 6, generator=torch.Generator().manual_seed(1)))
    return generator


def styled_generator(**config: Any) -> stylegan2.Generator:
    """A generator of `STYLED` in eval mode."""
    generator = build_generator(**STYLED | config)
    assert isinstance(generator, stylegan2.Generator)
    stylegan2.initialise(generator, torch.Generator().manual_seed(0))
    return generator.eval()


def modulated_generator() -> modulated_resnet.Generator:
    """A generator of `MODULATED` in eval mode, with strong modulations and contrast, and BatchNorm
    statistics of one batch."""
    generator = build_generator(**MODULATED)
    assert isinstance(generator, modulated_resnet.Generator)
    modulated_resnet.initialise(generator, torch.Generator().manual_seed(0))
    for module in generator.modules():
        if isinstance(module, modulated_resnet.ModulatedNorm):
            module.modulation.weight.data *= 5
            module.norm.momentum = None  # the batch's statistics, without the initial ones
    last = generator.layers[-3]
    assert isinstance(last, torch.nn.Conv2d)
    last.weight.data *= 3
    generator.train()(torch.randn(50, 6, generator=torch.Generator().manual_seed(1)))
    return generator.eval()
