"""Which dtype autocast can use: bfloat16 where the device has native arithmetic in it."""

import torch

from facegan.core.events import Message, OnEvent
from facegan.params import Dtype


def effective_dtype(requested: Dtype, device: torch.device, on_event: OnEvent) -> Dtype:
    """`requested`, or float32 on a device without native bfloat16, with a message.

    Emulated bfloat16 is both slower and less accurate: on a CPU with AVX2, EfficientNet-Lite0 at 64
    pixels had 31 images/s in bfloat16 and 586 in float32.
    """
    if requested == "float32" or _has_native_bfloat16(device):
        return requested
    text = f"no native bfloat16 on this {device.type} device; using float32"
    on_event(Message(text))
    return "float32"


def _has_native_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "mps":
        return torch.backends.mps.is_macos_or_newer(14, 0)
    # The check that torch does before it dispatches a convolution to oneDNN.
    has_onednn = torch.backends.mkldnn.is_available()
    return has_onednn and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
