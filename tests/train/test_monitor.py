"""Samples and the quick FID."""

import pytest
import torch
from torch import nn

from facegan.core.errors import Interrupted
from facegan.features.frechet import FeatureMoments, Statistics
from facegan.models.architectures import build_generator
from facegan.models.sampling import NotFinite
from facegan.runtime.distributed import Group
from facegan.train.monitor import Monitor

CPU, FEATURES = torch.device("cpu"), 1280


def test_the_quick_fid_does_not_use_tf32() -> None:
    monitor, allowed = make_monitor(), list[bool]()
    monitor.extraction.extractor.register_forward_pre_hook(
        lambda *_: allowed.append(torch.backends.cudnn.allow_tf32)
    )
    monitor.quick_fid(make_generator(), lambda: None)
    assert allowed == [False]


def test_the_quick_fid_of_a_long_training_is_not_compiled() -> None:
    assert make_monitor(num_samples=10**9).extraction.compiled is None


def test_between_extraction_batches_the_quick_fid_can_be_ended() -> None:
    """The same number of calls in every process, whatever its share of the images."""
    for num_samples, size, rank in ((120, 1, 0), (120, 2, 0), (120, 2, 1)):
        monitor, calls = make_monitor(num_samples), list[int]()
        monitor.group = Group(rank, size)
        monitor.group.any = bool  # type: ignore[assignment,method-assign]

        def stop(calls: list[int] = calls, last: int = 4 // size) -> None:
            calls.append(len(calls))
            if len(calls) == last:
                raise Interrupted

        with pytest.raises(Interrupted):
            monitor.quick_fid(make_generator(), stop)
    extracted = list[int]()
    monitor = make_monitor(num_samples=120)
    monitor.extraction.extractor.register_forward_pre_hook(lambda *_: extracted.append(1))
    with pytest.raises(Interrupted):
        monitor.quick_fid(make_generator(), interrupt)
    assert len(extracted) == 1


def test_images_with_nan_end_the_quick_fid() -> None:
    network = make_generator()
    next(network.parameters()).data.fill_(float("nan"))
    with pytest.raises(NotFinite):
        make_monitor().quick_fid(network, lambda: None)


def interrupt() -> None:
    raise Interrupted


def make_generator() -> nn.Module:
    return build_generator("dcgan", size=28, channels=1, latent_dim=4, base_channels=4)


def make_monitor(num_samples: int = 8) -> Monitor:
    features = torch.rand(16, FEATURES)
    moments = FeatureMoments(FEATURES)
    moments.update(features)
    extractor = {"extractor": "efficientnet-lite0", "input_size": 32, "dtype": "float32"}
    metadata = {"extractor": extractor, "count": len(features)}
    quick = Statistics.from_moments(moments, metadata, features, torch.arange(16), features[:0])
    images = torch.randint(0, 256, (8, 28, 28, 1), dtype=torch.uint8)
    return Monitor(quick, images, latent_dim=4, num_samples=num_samples, device=CPU)
