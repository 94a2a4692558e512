"""Random weights for the Inception network, where the published ones are not available."""

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from facegan.features import inception_weights
from samples import natural

# Upper bound of BatchNorm's random biases. With biases of 0, rounding errors grow some 300-fold
# through the network, unlike in a trained one, and bfloat16 features would be off by 20%.
BIAS = 2.0
CALIBRATION = 8


@contextmanager
def random_weights(folder: Path) -> Iterator[Path]:
    """Within the context, a file of random weights in `folder` stands in for the published ones.

    The weights are always the same. The file has the form of the published one: a dict of tensors
    without BatchNorm's counters, in torch's legacy format; the new format would exceed SIZE.
    """
    path = folder / "inception.pth"
    state = _calibrated().state_dict()
    state = {name: value for name, value in state.items() if "num_batches" not in name}
    torch.save(state, path, _use_new_zipfile_serialization=False)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    variables = {inception_weights.VARIABLE: str(path)}
    with (
        mock.patch.object(inception_weights, "SHA256", digest),
        mock.patch.dict(os.environ, variables),
    ):
        yield path


def fidelity_extractor(path: Path) -> nn.Module:
    """torch-fidelity's extractor: uint8 (n, 3, H, W) -> a tuple of one float32 (n, 2048)."""
    network: nn.Module = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(path))
    return network


def pictures(seeds: range, blue: float = 1.0) -> Tensor:
    """uint8 (n, 64, 64, 3), one image per seed; `blue` scales the third channel.

    >>> pictures(range(100, 200), blue=0.97)
    """
    levels = np.stack([np.asarray(natural(seed, 64, 64)) for seed in seeds])
    return torch.from_numpy((levels * [1, 1, blue]).round().astype(np.uint8))


@torch.no_grad()
def _calibrated() -> nn.Module:
    """A network with random convolutions, and BatchNorm statistics of images passed through it."""
    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        with mock.patch.object(FeatureExtractorInceptionV3, "load_state_dict"):
            network: nn.Module = FeatureExtractorInceptionV3("", ["2048"], empty)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0  # running statistics become those of the batch
                module.bias.uniform_(0, BIAS)
    network.train()(pictures(range(CALIBRATION)).permute(0, 3, 1, 2))  # NHWC => NCHW
    return network.eval()
