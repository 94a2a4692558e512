"""Samples and the quick FID."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from facegan.core.pictures import grid
from facegan.evaluate.protocol import SEEDS
from facegan.features.frechet import FeatureMoments, Statistics
from facegan.models import sampling
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


def test_samples_are_the_images_of_seeds_0_to_63(tmp_path: Path) -> None:
    network = build_generator("dcgan", size=28, channels=1, latent_dim=4, base_channels=4).eval()
    make_monitor().save_samples(network, tmp_path / "samples.png")
    images = torch.cat(list(sampling.generate(network, sampling.latents(64, 4, seed=0))))
    with Image.open(tmp_path / "samples.png") as picture:
        assert np.array_equal(np.asarray(picture), grid(images).squeeze(-1))


def test_seeds_of_the_quick_fid_are_none_of_the_official_score(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seeds = list[int]()

    def recorded(count: int, dimensions: int, seed: int) -> torch.Tensor:
        seeds.extend(range(seed, seed + count))
        return torch.zeros(count, dimensions)

    monkeypatch.setattr(sampling, "latents", recorded)
    network = build_generator("dcgan", size=28, channels=1, latent_dim=4, base_channels=4).eval()
    make_monitor(num_samples=250).quick_fid(network)
    assert seeds == list(range(seeds[0], seeds[0] + 250))
    assert all(abs(seeds[0] - first) >= 1_000_000 for first in SEEDS)


def make_monitor(num_samples: int = 8) -> Monitor:
    features = torch.rand(16, FEATURES)
    moments = FeatureMoments(FEATURES)
    moments.update(features)
    extractor = {"extractor": "efficientnet-lite0", "input_size": 32, "dtype": "float32"}
    metadata = {"extractor": extractor, "count": len(features)}
    quick = Statistics.from_moments(moments, metadata, features, torch.arange(16), features[:0])
    images = torch.randint(0, 256, (8, 28, 28, 1), dtype=torch.uint8)
    return Monitor(quick, images, latent_dim=4, num_samples=num_samples, device=CPU)
