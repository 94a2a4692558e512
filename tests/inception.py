"""Weights for the Inception network where the literature's can't be had: random ones."""

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

# BatchNorm's biases are random up to this one. With none, rounding grows some 300-fold on its way
# through the network, as it does not in a trained one: bfloat16 features would be 20% off.
BIAS = 2.0
CALIBRATION = 8


@contextmanager
def random_weights(folder: Path) -> Iterator[Path]:
    """While it lasts, random weights in a file in `folder` are those that `weights` looks for.

    They are the same each time. The file has the official one's form: a dict of all tensors but
    BatchNorm's counts, in torch's old format; in the new one it would be larger than the official.
    """
    path = folder / "inception.pth"
    state = _calibrated().state_dict()
    state = {name: value for name, value in state.items() if "num_batches" not in name}
    torch.save(state, path, _use_new_zipfile_serialization=False)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    named = {inception_weights.VARIABLE: str(path)}
    with mock.patch.object(inception_weights, "SHA256", digest), mock.patch.dict(os.environ, named):
        yield path


def torch_fidelitys(path: Path) -> nn.Module:
    """torch-fidelity's own extractor: uint8 (n, 3, H, W) -> a tuple with float32 (n, 2048)."""
    network: nn.Module = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(path))
    return network


def pictures(seeds: range, blue: float = 1.0) -> Tensor:
    """uint8 (n, 64, 64, 3), one for each seed; `blue` is what the third channel is multiplied by.

    >>> pictures(range(100, 200), blue=0.97)
    """
    levels = np.stack([np.asarray(natural(seed, 64, 64)) for seed in seeds])
    return torch.from_numpy((levels * [1, 1, blue]).round().astype(np.uint8))


@torch.no_grad()
def _calibrated() -> nn.Module:
    """Random convolutions, and the statistics that images have on their way through these."""
    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        with mock.patch.object(FeatureExtractorInceptionV3, "load_state_dict"):
            network: nn.Module = FeatureExtractorInceptionV3("", ["2048"], nothing)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0  # the statistics become those of the one batch
                module.bias.uniform_(0, BIAS)
    network.train()(pictures(range(CALIBRATION)).permute(0, 3, 1, 2))  # NHWC => NCHW
    return network.eval()
