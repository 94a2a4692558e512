"""Packed images -> shuffled batches on the device."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from facegan.core.errors import FaceganError
from facegan.runtime.distributed import SINGLE, Group

CPU = torch.device("cpu")


def to_float(images: Tensor) -> Tensor:
    """uint8 (n, H, W, C) in [0, 255] -> float32 (n, C, H, W) in [-1, 1], channels_last."""
    # NHWC => NCHW as a view; the memory layout is then channels_last.
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_device_if_fits(images: Tensor, device: torch.device) -> Tensor:
    """Copy images to a GPU if they fit in half of its free memory; else return them as they are.

    Args:
        images: uint8 (N, H, W, C), on the CPU.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
    elif device.type == "mps":
        free = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    else:
        return images
    return images.to(device) if 2 * images.nbytes <= free else images


def require_batch(size: int, count: int) -> None:
    """
    Raises:
        FaceganError: if a dataset of `count` images has no batch of `size`.
    """
    if size > count:
        raise FaceganError(
            f"train.batch_size: {size}: larger than the dataset of {count} images; "
            "lower it, or add photographs"
        )


class Batches:
    """Endless shuffled batches; each epoch is a permutation drawn from `seed` and its number.

    The next batch depends only on the number of images seen, which is all that a resumed run
    needs. The last partial batch of an epoch is dropped.

    Args:
        images: uint8 (N, H, W, C), on the device or on the CPU.
        size: images per batch over all processes, at most N.
        seed: of the shuffling.
        device: the device of the batches.
        seen: images seen so far, a multiple of `size`.
        group: the processes that share each batch.
    Raises:
        FaceganError: if `size` exceeds N or is not a multiple of the number of processes.
    """

    def __init__(
        self,
        images: Tensor,
        size: int,
        seed: int,
        device: torch.device = CPU,
        seen: int = 0,
        group: Group = SINGLE,
    ) -> None:
        if size % group.size:
            raise FaceganError(
                f"train.batch_size: {size}: must be a multiple of the number of processes, "
                f"{group.size}"
            )
        require_batch(size, len(images))
        self.images, self.device = images, device
        self.size, self.seed, self.seen = size, seed, seen
        self.part = group.part(size)
        self.steps_per_epoch = len(images) // size
        self._epoch = -1
        self._order: Tensor  # of that epoch

    def __iter__(self) -> Iterator[Tensor]:
        return self

    def __next__(self) -> Tensor:
        """This process's part of the next batch: uint8 (n, H, W, C) on the device."""
        epoch, step = divmod(self.seen // self.size, self.steps_per_epoch)
        if epoch != self._epoch:
            # NumPy's generator: torch's on the CPU uses only 32 bits of its seed.
            order = np.random.default_rng((self.seed, epoch)).permutation(len(self.images))
            self._order, self._epoch = torch.from_numpy(order).to(self.images.device), epoch
        self.seen += self.size
        images = self.images[self._order[step * self.size :][self.part]]
        if images.device.type == self.device.type:
            return images
        # Pinned memory makes the copy asynchronous.
        return images.pin_memory().to(self.device, non_blocking=True)
