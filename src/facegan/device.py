"""Where tensors live."""

import os

import torch

from facegan.errors import FaceganError


def choose_device() -> torch.device:
    """`FACEGAN_DEVICE` (`cpu`, `cuda`, `cuda:1`, `mps`), else the best that is there.

    Raises:
        FaceganError: if the device named is not there.
    """
    name = os.environ.get("FACEGAN_DEVICE")
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
