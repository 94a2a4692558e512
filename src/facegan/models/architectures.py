"""The available architectures, by name."""

from typing import Any

import torch
from torch import nn

from facegan.models import dcgan, deep_resnet, modulated_resnet, residual, resnet, stylegan2

Generator = dcgan.Generator | resnet.Generator | residual.Generator | stylegan2.Generator
Discriminator = (
    dcgan.Discriminator | resnet.Discriminator | residual.Discriminator | stylegan2.Discriminator
)
ARCHITECTURES = {
    "dcgan": dcgan, "resnet": resnet, "modulated-resnet": modulated_resnet,
    "deep-resnet": deep_resnet, "residual": residual, "stylegan2": stylegan2,
}  # fmt: skip


def build_generator(architecture: str, **config: Any) -> Generator:
    """Build an untrained generator, on the CPU: z float32 (n, latent_dim) -> float32 (n, C, H, W)
    in [-1, 1].

    Args:
        config: keyword arguments of the architecture's `Generator`.
    Raises:
        KeyError: if the architecture does not exist.
        ValueError: if it does not support the size.
    """
    generator: Generator = ARCHITECTURES[architecture].Generator(**config)
    return generator


def build_discriminator(architecture: str, **config: Any) -> Discriminator:
    """Build an untrained discriminator, on the CPU: float32 (n, C, H, W) in [-1, 1] -> logits (n,).

    Args:
        config: keyword arguments of the architecture's `Discriminator`.
    Raises:
        KeyError: if the architecture does not exist.
        ValueError: if it does not support the size.
    """
    discriminator: Discriminator = ARCHITECTURES[architecture].Discriminator(**config)
    return discriminator


def initialise(architecture: str, network: nn.Module, rng: torch.Generator) -> None:
    """Replace the weights, in place, by initial ones as in the architecture's paper."""
    ARCHITECTURES[architecture].initialise(network, rng)


def apply_spectral_norm(network: nn.Module, seed: int) -> None:
    """Divide each layer's weights by their largest singular value (Miyato et al. 2018).

    Args:
        seed: for the initial vectors of the power iteration.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in list(network.modules()):
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.utils.parametrizations.spectral_norm(module)
