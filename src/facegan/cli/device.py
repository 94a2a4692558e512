"""Where tensors live."""

import ctypes
import os
import sys

import torch

from facegan.core.errors import FaceganError


def choose_device() -> torch.device:
    """`FACEGAN_DEVICE` (`cpu`, `cuda`, `cuda:1`, `mps`), else the best that is there.

    From then on this process keeps the memory that it frees, for its next tensors.

    Raises:
        FaceganError: if the device named is not there.
    """
    _keep_freed_memory()
    name = os.environ.get("FACEGAN_DEVICE")
    if name in (None, "cuda") and "LOCAL_RANK" in os.environ and torch.cuda.is_available():
        name = f"cuda:{os.environ['LOCAL_RANK']}"  # torchrun: a GPU for each process
    if name is None:
        found = torch.accelerator.current_accelerator(check_available=True)
        return found if found is not None and found.type in ("cuda", "mps") else torch.device("cpu")
    try:
        if torch.device(name).type not in ("cpu", "cuda", "mps"):
            raise RuntimeError("valid: cpu, cuda, mps")
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise FaceganError(f"FACEGAN_DEVICE: {name!r}: cannot be used ({reason})") from None


def _keep_freed_memory() -> None:
    """Have glibc's malloc keep what is freed.

    By default it gives large tensors' pages back, and the kernel clears them anew for the next
    one: that took 45% of the time of EfficientNet's features at 224 pixels.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        trim_threshold, mmap_threshold, most = -1, -3, 2**31 - 1  # as in <malloc.h>
        libc.mallopt(trim_threshold, most)
        libc.mallopt(mmap_threshold, most)
