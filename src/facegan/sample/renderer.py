"""Latents -> images, fast, and each image independent of the others."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facegan.core.events import silent
from facegan.models.architectures import Generator
from facegan.models.sampling import NotFinite, to_uint8
from facegan.runtime.autocast import effective_dtype

# Every batch is filled up to this size, because convolutions may round differently for others.
BATCH = 32


def render(network: Generator, z: Tensor) -> Iterator[NDArray[np.uint8]]:
    """Generate the images of latents, in batches: uint8 (n, H, W, C).

    An image has the same bytes on the same machine, whatever the other latents. It is computed in
    bfloat16 where the device has native arithmetic in it, else in float32; the two differ by a few
    grey levels.

    Args:
        z: float32 (n, latent_dim), on the CPU.
    Raises:
        NotFinite: if the output contains NaN or infinity.
    """
    device = next(network.parameters()).device
    dtype = getattr(torch, effective_dtype("bfloat16", device, silent))
    for batch in z.split(BATCH):
        padded = torch.zeros(BATCH, z.shape[1])
        padded[: len(batch)] = batch
        with torch.inference_mode(), torch.autocast(device.type, dtype, dtype != torch.float32):
            x = network(padded.to(device))[: len(batch)].float()
            if not x.isfinite().all():
                raise NotFinite("generator output contains NaN; lower train.lr and train again")
            yield to_uint8(x).cpu().numpy()
