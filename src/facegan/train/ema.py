"""Exponential moving average (EMA) of a network's weights."""

import copy

import torch
from torch import Tensor, nn


class EMA:
    """EMA of a network's parameters.

    Args:
        network: initial weights; it is copied.
        half_life: images seen after which the contribution of old weights has halved.
    """

    def __init__(self, network: nn.Module, half_life: int) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.half_life = half_life

    @torch.no_grad()
    def update(self, live: nn.Module, images: int) -> None:
        """Include the weights of `live`, which has seen `images` more images."""
        weight = 1 - 0.5 ** (images / self.half_life)
        averaged: list[Tensor] = list(self.network.parameters())
        torch._foreach_lerp_(averaged, list[Tensor](live.parameters()), weight)

    @torch.no_grad()
    def recalibrate_batchnorm(self, batches: tuple[Tensor, ...]) -> nn.Module:
        """A copy in eval mode, with BatchNorm statistics re-estimated on batches of latents.

        The live network's running statistics do not fit averaged weights. As torch's
        `optim.swa_utils.update_bn`.

        Args:
            batches: float32 (n, latent_dim) each.
        """
        network = copy.deepcopy(self.network).train()
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # cumulative average over all batches
        for z in batches if norms else ():
            network(z)
        return network.eval()
