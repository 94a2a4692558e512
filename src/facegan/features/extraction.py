"""Feature extraction in batches, compiled on a CPU where that pays."""

import logging
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from facegan.core.events import Message, OnEvent, silent
from facegan.features.extractors import BATCH, load_extractor
from facegan.params import Extractor

# Total input pixels from which compiling is worth its half minute: 6,000 images at 224 pixels,
# where 70 images/s became 94 (AVX2, float32).
WORTH_COMPILING = 300_000_000


class Extraction:
    """Runs a feature extractor on images, in batches of constant size.

    Args:
        images: expected number of images, in all processes together; decides whether to compile.
        batch: images per forward pass; changes features only by float32 rounding.
    Raises:
        FaceganError: if the extractor's weights are not found.
    """

    def __init__(
        self,
        settings: Extractor,
        device: torch.device,
        images: int,
        on_event: OnEvent = silent,
        batch: int = BATCH,
    ) -> None:
        self.extractor = load_extractor(settings, device)
        self.device, self.on_event, self.batch = device, on_event, batch
        self.num_features = self.extractor.num_features
        self.compiled = None
        # Not on a GPU, whose kernels are as fast without.
        if device.type == "cpu" and images * settings.input_size**2 >= WORTH_COMPILING:
            logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
            self.compiled = torch.compile(self.extractor, dynamic=False)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """uint8 (n, H, W, C) -> float32 (n, num_features), on the device."""
        # TF32 would round a GPU's float32 convolutions to ten bits of mantissa.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return torch.cat([self._extract(batch) for batch in images.split(self.batch)])

    def _extract(self, images: Tensor) -> Tensor:
        # Padded, because another batch size would trigger a recompilation.
        padding = self.batch - len(images)
        batch = pad(images.to(self.device), (0, 0, 0, 0, 0, 0, 0, padding))
        features: Tensor = self._run(batch)
        return features[: len(images)]

    def _run(self, batch: Tensor) -> Any:
        if self.compiled is not None:
            # Imported late: two seconds, which eager runs need not wait for.
            from torch._dynamo.exc import TorchDynamoException
            from torch._inductor.exc import InductorError

            try:
                # Weights become constants; torch.compile's `options` don't do that (2.14).
                with torch._inductor.config.patch(freezing=True):
                    return self.compiled(batch)
            except (TorchDynamoException, InductorError) as error:
                reason = str(error).splitlines()[0]
                text = f"feature extraction runs uncompiled and slower ({reason})"
                self.on_event(Message(text))
                self.compiled = None
        return self.extractor(batch)
