"""The networks that a training can have, by name."""

from typing import Any

import torch
from torch import nn

from facegan.models import dcgan, residual, resnet

Generator = dcgan.Generator | resnet.Generator | residual.Generator
Discriminator = dcgan.Discriminator | resnet.Discriminator | residual.Discriminator
ARCHITECTURES = {"dcgan": dcgan, "resnet": resnet, "residual": residual}


def build_generator(architecture: str, **config: Any) -> Generator:
    """
    Args:
        config: what `Generator` of that architecture takes.
    """
    generator: Generator = ARCHITECTURES[architecture].Generator(**config)
    return generator


def build_discriminator(architecture: str, **config: Any) -> Discriminator:
    """
    Args:
        config: what `Discriminator` of that architecture takes.
    """
    discriminator: Discriminator = ARCHITECTURES[architecture].Discriminator(**config)
    return discriminator


def initialise(architecture: str, network: nn.Module, source: torch.Generator) -> None:
    """Draw the weights as the architecture's paper says."""
    ARCHITECTURES[architecture].initialise(network, source)


def apply_spectral_norm(network: nn.Module, seed: int) -> None:
    """Divide every layer's weights by their largest singular value (Miyato et al. 2018).

    Args:
        seed: of the vectors that the power iteration begins with.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in list(network.modules()):
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.utils.parametrizations.spectral_norm(module)
