"""The device to compute on, and how its process keeps memory."""

import ctypes
import os
import sys

import torch

from facegan.core.errors import FaceganError


def choose_device() -> torch.device:
    """Return the device that `FACEGAN_DEVICE` names: `cpu`, `cuda`, `cuda:1` or `mps`.

    If it is not set, return the GPU, or the CPU if there is no GPU.

    Raises:
        FaceganError: if the named device cannot be used.
    """
    name = os.environ.get("FACEGAN_DEVICE")
    if name in (None, "cuda") and "LOCAL_RANK" in os.environ and torch.cuda.is_available():
        name = f"cuda:{os.environ['LOCAL_RANK']}"  # under torchrun, each process has its own GPU
    if name is None:
        found = torch.accelerator.current_accelerator(check_available=True)
        return found if found is not None and found.type in ("cuda", "mps") else torch.device("cpu")
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda", "mps"):
            raise RuntimeError("valid: cpu, cuda, mps")
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)  # first, because other calls open a context on GPU 0
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise FaceganError(f"FACEGAN_DEVICE: {name!r}: cannot be used ({reason})") from None


def keep_freed_memory() -> None:
    """Make glibc's malloc keep freed memory for the next tensors of this process.

    By default, malloc returns the pages of large tensors, and the kernel zeroes new ones for the
    next tensor. This took 45% of the time of EfficientNet's features at 224 pixels. Without glibc,
    nothing changes.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        trim_threshold, mmap_threshold, maximum = -1, -3, 2**31 - 1  # as in <malloc.h>
        libc.mallopt(trim_threshold, maximum)
        libc.mallopt(mmap_threshold, maximum)
