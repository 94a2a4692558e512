"""Samples and the quick FID."""

import torch

from facegan.features.frechet import FeatureMoments, Statistics
from facegan.models.architectures import build_generator
from facegan.train.monitor import Monitor

CPU, FEATURES = torch.device("cpu"), 1280


def test_the_quick_fid_does_not_use_tf32() -> None:
    monitor, allowed = make_monitor(), list[bool]()
    monitor.extraction.extractor.register_forward_pre_hook(
        lambda *_: allowed.append(torch.backends.cudnn.allow_tf32)
    )
    monitor.quick_fid(build_generator("dcgan", size=28, channels=1, latent_dim=4, base_channels=4))
    assert allowed == [False]


def test_the_quick_fid_of_a_long_training_is_not_compiled() -> None:
    assert make_monitor(num_samples=10**9).extraction.compiled is None


def make_monitor(num_samples: int = 8) -> Monitor:
    features = torch.rand(16, FEATURES)
    moments = FeatureMoments(FEATURES)
    moments.update(features)
    extractor = {"extractor": "efficientnet-lite0", "input_size": 32, "dtype": "float32"}
    metadata = {"extractor": extractor, "count": len(features)}
    quick = Statistics.from_moments(moments, metadata, features, torch.arange(16), features[:0])
    images = torch.randint(0, 256, (8, 28, 28, 1), dtype=torch.uint8)
    return Monitor(quick, images, latent_dim=4, num_samples=num_samples, device=CPU)
