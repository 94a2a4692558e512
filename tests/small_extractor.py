"""A feature extractor for tests: with 24 features, a Fréchet distance takes microseconds.

It stands in for EfficientNet-Lite0, whose 1,280 features take half a second: in the tests' own
processes (`conftest.py`), and in those that they start, by PYTHONPATH. The real one is used in
`tests/features`, and by `make run`, whose result `tests/integration/test_digits.py` looks at.
"""

import os
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from facegan.features import extractors

NAME = "efficientnet-lite0"
SIDE = 8
HERE = Path(__file__).parent
SRC = Path(extractors.__file__).parents[2]  # of a copy, in `make mutants`
# With it, processes import the code that is tested, and at their start `sitecustomize`, which
# installs the extractor.
PYTHONPATH = os.pathsep.join(map(str, (HERE / "child_processes", HERE, SRC)))


class SmallExtractor(extractors.EfficientNetLite0):
    """Random projections of 8x8 pixels, of which half are rectified."""

    num_features = 24

    def __init__(self, input_size: int, autocast: bool) -> None:
        torch.nn.Module.__init__(self)
        self.projection = torch.nn.Linear(3 * SIDE**2, self.num_features)
        rng = torch.Generator().manual_seed(input_size)
        for parameter in self.projection.parameters():
            parameter.data.normal_(generator=rng)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (n, H, W, 1 or 3) -> float32 (n, 24)."""
        x = images.permute(0, 3, 1, 2).float()  # NHWC => NCHW
        x = interpolate(x, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)
        x = ((x - 127) / 128).expand(-1, 3, -1, -1)
        linear, rectified = self.projection(x.flatten(1)).chunk(2, dim=1)
        return torch.cat([linear, rectified.relu()], dim=1)


def install() -> None:
    extractors.EXTRACTORS[NAME] = SmallExtractor
