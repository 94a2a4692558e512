"""An exponential moving average of a network's weights."""

import copy

import torch
from torch import Tensor, nn


class EMA:
    """EMA of a network's parameters, its half-life counted in images.

    Args:
        half_life: after so many images an old weight counts half.
    """

    def __init__(self, network: nn.Module, half_life: int) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.half_life = half_life

    @torch.no_grad()
    def update(self, live: nn.Module, images: int) -> None:
        weight = 1 - 0.5 ** (images / self.half_life)
        averaged: list[Tensor] = list(self.network.parameters())
        torch._foreach_lerp_(averaged, list[Tensor](live.parameters()), weight)

    @torch.no_grad()
    def recalibrate_batchnorm(self, batches: tuple[Tensor, ...]) -> nn.Module:
        """A copy ready to draw: in eval mode, BatchNorm's statistics estimated over `batches`.

        The live network's running statistics don't fit averaged weights.
        """
        network = copy.deepcopy(self.network).train()
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over all batches
        for z in batches if norms else ():
            network(z)
        return network.eval()
