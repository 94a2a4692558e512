"""Samples and the quick FID."""

import numpy as np
import pytest
import torch
import yaml
from scipy.spatial.distance import pdist
from torch import Tensor, nn

from facegan.core.errors import Interrupted
from facegan.core.pictures import grid
from facegan.evaluate.protocol import SEEDS
from facegan.features.frechet import FeatureMoments, FrechetDistance, Statistics
from facegan.models import sampling
from facegan.models.architectures import build_generator
from facegan.models.sampling import NotFinite
from facegan.presets.auto import AUGMENT, TARGET
from facegan.runtime.distributed import Group
from facegan.train.monitor import QUICK_SEED, Monitor, collapse_advice, collapse_reason
from small_extractor import SmallExtractor

CPU, FEATURES = torch.device("cpu"), SmallExtractor.num_features


def test_the_quick_fid_does_not_use_tf32() -> None:
    monitor, allowed = make_monitor(), list[bool]()
    monitor.extraction.extractor.register_forward_pre_hook(
        lambda *_: allowed.append(torch.backends.cudnn.allow_tf32)
    )
    monitor.quick_fid(make_generator(), lambda: None)
    assert allowed == [False]


def test_the_quick_fid_of_a_long_training_is_not_compiled() -> None:
    assert make_monitor(num_samples=10**9).extraction.compiled is None


def test_diversity_is_relative_to_drawn_photographs_not_to_the_first() -> None:
    """Sorted by class: the first 64 are one grey level, as a video's first frames nearly are."""
    images = torch.randint(0, 256, (640, 28, 28, 1), dtype=torch.uint8)
    images[:64] = 128
    first, again = (make_monitor(images=images).real_distance for _ in range(2))
    assert first == again
    shuffled = make_monitor(images=images[torch.randperm(640)]).real_distance
    assert first == pytest.approx(shuffled, rel=0.15) and first > 1000


def test_samples_as_diverse_as_the_photographs_have_a_diversity_of_1(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nearly_alike = torch.zeros(64, 28, 28, 1, dtype=torch.uint8)
    nearly_alike[0, 0, 0, 0] = 1
    for images in (torch.randint(0, 256, (64, 28, 28, 1), dtype=torch.uint8), nearly_alike):
        samples = images.flip(0)
        monkeypatch.setattr(sampling, "generate", lambda network, z, x=samples: iter([x]))
        _, diversity = make_monitor(images=images).sample(make_generator())
        assert diversity == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("metrics", "reason"),
    [
        ((0.5, 0.9, 10.0, 8.0), ""),
        ((0.1, 0.999, 16.0, 8.0), ""),  # the limits themselves
        ((0.05, 0.9, 10.0, 8.0), "the diversity of samples is 5.0% of the photographs'"),
        ((0.5, 1.0, 10.0, 8.0), "the discriminator's accuracy is 100.00%"),
        ((0.5, 0.9, 20.0, 8.0), "the quick FID of 20.0 is 2.5 times the best"),
        (
            (0.05, 0.9, 20.0, 8.0),
            "the diversity of samples is 5.0% of the photographs' and "
            "the quick FID of 20.0 is 2.5 times the best",
        ),
    ],
)
def test_a_collapse_is_explained_by_the_metrics_beyond_their_limits(
    metrics: tuple[float, float, float, float], reason: str
) -> None:
    assert collapse_reason(*metrics) == reason


@pytest.mark.parametrize(
    ("images", "augmented", "advice"),
    [
        (2000, False, "lower train.lr or train.discriminator_lr"),
        (50, False, "50 photographs are few: set train.augment: [brightness, saturation, "),
        (50, True, "50 photographs are few: fetch more, or lower train.discriminator_lr"),
    ],
)
def test_advice_at_a_collapse_fits_the_data(images: int, augmented: bool, advice: str) -> None:
    assert collapse_advice(images, augmented).startswith(advice)


def test_the_advised_augmentation_is_that_of_preset_auto() -> None:
    advice = collapse_advice(50, False).partition("set ")[2].partition(", or ")[0]
    advised = {k: v for text in advice.split(" and ") for k, v in yaml.safe_load(text).items()}
    assert advised == {"train.augment": list(AUGMENT), "train.augment_target": TARGET}


def test_between_extraction_batches_the_quick_fid_can_be_ended() -> None:
    """The same number of calls in every process, whatever its share of the images."""
    for num_samples, size, rank in ((120, 1, 0), (120, 2, 0), (120, 2, 1), (60, 2, 1)):
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
    with pytest.raises(NotFinite, match=r"^generator output contains NaN$"):
        make_monitor().quick_fid(network, lambda: None)


def interrupt() -> None:
    raise Interrupted


def make_generator() -> nn.Module:
    return build_generator("dcgan", size=28, channels=1, latent_dim=4, base_channels=4)


def test_samples_are_the_images_of_seeds_0_to_63() -> None:
    network = make_generator().eval()
    monitor = make_monitor()
    found, diversity = monitor.sample(network)
    images = torch.cat(list(sampling.generate(network, sampling.latents(64, 4, seed=0))))
    assert np.array_equal(found, grid(images))
    expected = pdist(images.flatten(1).double().numpy()).mean() / monitor.real_distance
    assert diversity == pytest.approx(expected, abs=5e-5) and diversity == round(diversity, 4)


def test_the_quick_fid_is_the_distance_of_all_samples_to_the_photographs() -> None:
    network, monitor, calls = make_generator().eval(), make_monitor(num_samples=201), list[int]()
    quick_fid = monitor.quick_fid(network, lambda: calls.append(1))
    images = torch.cat(list(sampling.generate(network, sampling.latents(201, 4, QUICK_SEED))))
    expected = float(FrechetDistance(monitor.quick)(monitor.extraction(images)))
    assert quick_fid == pytest.approx(expected, rel=1e-4) and quick_fid == round(quick_fid, 6)
    assert monitor.name == (name := "quick_fid201_efficientnet-lite0-32")
    assert monitor.comparability_note == f"{name} is not comparable with published FIDs"
    assert len(calls) == 6  # two extraction batches for each batch of 100 samples


def test_seeds_of_the_quick_fid_are_none_of_the_official_score(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seeds = list[int]()

    def recorded(count: int, dimensions: int, seed: int) -> torch.Tensor:
        seeds.extend(range(seed, seed + count))
        return torch.zeros(count, dimensions)

    monkeypatch.setattr(sampling, "latents", recorded)
    make_monitor(num_samples=250).quick_fid(make_generator().eval(), lambda: None)
    assert seeds == list(range(seeds[0], seeds[0] + 250))
    assert all(abs(seeds[0] - first) >= 1_000_000 for first in SEEDS)


def make_monitor(num_samples: int = 8, images: Tensor | None = None) -> Monitor:
    features = torch.rand(16, FEATURES)
    moments = FeatureMoments(FEATURES)
    moments.update(features)
    extractor = {"extractor": "efficientnet-lite0", "input_size": 32, "dtype": "float32"}
    metadata = {"extractor": extractor, "count": len(features)}
    quick = Statistics.from_moments(moments, metadata, features, torch.arange(16), features[:0])
    if images is None:
        images = torch.randint(0, 256, (8, 28, 28, 1), dtype=torch.uint8)
    return Monitor(quick, images, latent_dim=4, num_samples=num_samples, device=CPU)
