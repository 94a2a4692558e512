"""Where bfloat16 is arithmetic, and where it is emulated."""

import torch

from facegan.core.events import Message, OnEvent
from facegan.params import Dtype


def effective_dtype(wanted: Dtype, device: torch.device, on_event: OnEvent) -> Dtype:
    """`wanted`, or float32 on a device that has no arithmetic in bfloat16, with a message.

    Emulated, it is both slower and less exact: EfficientNet-Lite0 at 64 pixels made 31 images a
    second on a processor with AVX2, and 586 in float32.
    """
    if wanted == "float32" or _computes_in_bfloat16(device):
        return wanted
    text = f"this {device.type} has no arithmetic in bfloat16; float32 takes its place"
    on_event(Message(text))
    return "float32"


def _computes_in_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "mps":
        return torch.backends.mps.is_macos_or_newer(14, 0)
    # What torch itself asks before it gives a convolution to oneDNN.
    has_onednn = torch.backends.mkldnn.is_available()
    return has_onednn and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
