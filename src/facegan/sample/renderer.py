"""Latents -> images, fast, and each image independent of the others."""

import copy
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from facegan.core.events import silent
from facegan.models.modulated_resnet import ModulatedNorm
from facegan.models.sampling import NotFinite, to_uint8
from facegan.runtime.autocast import effective_dtype

# Every batch is filled up to this size, because convolutions may round differently for others.
BATCH = 32


class Renderer:
    """Generates images. Each has the same bytes on the same machine, whatever the other latents.

    They are computed in bfloat16 where the device has native arithmetic in it, else in float32. The
    two differ by a few grey levels.

    Args:
        network: a generator in eval mode, z (n, latent_dim) -> (n, C, H, W) in [-1, 1]; copied.
    """

    def __init__(self, network: nn.Module) -> None:
        self.device = next(network.parameters()).device
        dtype = effective_dtype("bfloat16", self.device, silent)
        self.dtype: torch.dtype = getattr(torch, dtype)
        self.network = _folded(copy.deepcopy(network)).to(memory_format=torch.channels_last)
        for module in self.network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                module.to(self.dtype)  # once; autocast would do so for every batch

    def __call__(self, z: Tensor) -> Iterator[NDArray[np.uint8]]:
        """Generate in batches: uint8 (n, H, W, C).

        Args:
            z: float32 (n, latent_dim), on the CPU.
        Raises:
            NotFinite: if the output contains NaN or infinity.
        """
        is_reduced = self.dtype != torch.float32
        for batch in z.split(BATCH):
            padded = torch.zeros(BATCH, z.shape[1])
            padded[: len(batch)] = batch
            with (
                torch.inference_mode(),
                torch.autocast(self.device.type, self.dtype, enabled=is_reduced),
            ):
                x = self.network(padded.to(self.device))[: len(batch)].float()
                if not x.sum().isfinite():  # in half the time of all elements; they are bounded
                    raise NotFinite("generator output contains NaN; lower train.lr and train again")
                yield to_uint8(x).cpu().numpy()


def _folded(network: nn.Module) -> nn.Module:
    """Fold each BatchNorm that follows a convolution into its weights, in place."""
    for sequence in list(network.modules()):
        if not isinstance(sequence, nn.Sequential):
            continue
        for name, layer in list(sequence.named_children()):
            holder: nn.Module = sequence
            key = str(int(name) + 1)
            following = getattr(sequence, key, None)
            if isinstance(following, ModulatedNorm):
                holder, key, following = following, "norm", following.norm
            if isinstance(following, nn.BatchNorm2d) and isinstance(
                layer, nn.Conv2d | nn.ConvTranspose2d
            ):
                is_transposed = isinstance(layer, nn.ConvTranspose2d)
                setattr(sequence, name, fuse_conv_bn_eval(layer, following, is_transposed))
                setattr(holder, key, nn.Identity())
    return network
