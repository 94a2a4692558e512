"""Many images through an extractor, and what is kept of their features."""

import logging
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from facegan.core.events import Message, OnEvent, silent
from facegan.features.extractors import BATCH, load_extractor
from facegan.params import Extractor

# Input pixels of all images together from which on compiling is worth its half minute: 6,000
# images at 224 pixels, where 70 images a second became 94 (AVX2, float32).
WORTH_COMPILING = 300_000_000


class Extraction:
    """An extractor at work: batches of one size, compiled on a CPU where that pays.

    Args:
        images: how many will come, in all processes together.
        batch: how many go through at a time; moves no feature by more than float32's rounding.
    Raises:
        FaceganError: if the extractor's weights are not there.
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
        # A GPU's time goes into kernels that are as fast without.
        if device.type == "cpu" and images * settings.input_size**2 >= WORTH_COMPILING:
            logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
            self.compiled = torch.compile(self.extractor, dynamic=False)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """uint8 (n, H, W, C) -> float32 (n, num_features), on the device."""
        # Else a GPU's convolutions would round float32 to TF32's ten bits.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return torch.cat([self._extract(each) for each in images.split(self.batch)])

    def _extract(self, images: Tensor) -> Tensor:
        # Padded, because another size would have to be compiled anew.
        missing = self.batch - len(images)
        batch = pad(images.to(self.device), (0, 0, 0, 0, 0, 0, 0, missing))
        features: Tensor = self._run(batch)
        return features[: len(images)]

    def _run(self, batch: Tensor) -> Any:
        if self.compiled is not None:
            # Here, because they take two seconds that most evaluations don't have to wait for.
            from torch._dynamo.exc import TorchDynamoException
            from torch._inductor.exc import InductorError

            try:
                # The weights become constants, which torch.compile's own option does not do (2.14).
                with torch._inductor.config.patch(freezing=True):
                    return self.compiled(batch)
            except (TorchDynamoException, InductorError) as error:
                reason = str(error).splitlines()[0]
                text = f"not compiled, so that it takes longer ({reason})"
                self.on_event(Message(text))
                self.compiled = None
        return self.extractor(batch)
