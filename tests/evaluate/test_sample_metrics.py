"""Scores from per-image features, by their names."""

import pytest
import torch
from torch import Tensor

from facegan.evaluate.kid import kernel_distance
from facegan.evaluate.neighbours import memorisation, precision_and_recall
from facegan.evaluate.sample_metrics import KID_SEED, SampleMetrics, sample_metrics
from facegan.evaluate.scorer import FeatureSample
from facegan.features.frechet import FeatureMoments, Statistics

EXTRACTOR = {"extractor": "efficientnet-lite0", "input_size": 32, "dtype": "float32"}


def features(count: int, seed: int) -> Tensor:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))


def measured(fake: Tensor) -> SampleMetrics:
    """Compare `fake` with 50 photographs, and 30 held-out ones."""
    real = features(50, 0)
    moments = FeatureMoments(4)
    moments.update(real)
    statistics = Statistics.from_moments(
        moments, {"extractor": EXTRACTOR}, real, torch.arange(50), features(30, 1)
    )
    return sample_metrics(statistics, FeatureSample(1.0, fake))


def test_fakes_that_are_all_alike_have_precision_but_no_recall() -> None:
    scores = measured(torch.zeros(40, 4)).scores
    assert scores["precision40_efficientnet-lite0-32"] == 1
    assert scores["recall40_efficientnet-lite0-32"] == 0


def test_scores_are_those_of_as_many_photographs_as_fakes() -> None:
    real, fake = features(50, 0), features(40, 2) + 0.5
    found = measured(fake)
    kid = kernel_distance(real[:40], fake, KID_SEED)
    precision, recall = precision_and_recall(real[:40], fake)
    copies = memorisation(fake, real, features(30, 1))
    assert 0 < recall < 1 and precision != recall
    expected = {
        "kid": kid.mean,
        "kid_spread": kid.spread,
        "kid_stderr": kid.error,
        "precision": precision,
        "recall": recall,
        "memorised": copies.share,
        "memorised_expected": copies.expected,
        "memorised_stderr": copies.error,
    }
    for name, value in expected.items():
        metric, _, suffix = name.partition("_")
        key = f"{metric}40_efficientnet-lite0-32" + (f"_{suffix}" if suffix else "")
        assert found.scores[key] == pytest.approx(value, abs=1e-6), name
    assert found.omitted == {}
    assert found.protocol == {
        "images": 40, "kid_subsets": [100, 20], "photographs": 50, "held_out": 30
    }  # fmt: skip


def test_the_least_error_of_precision_and_recall_is_one_image() -> None:
    scores = measured(torch.zeros(40, 4)).scores
    for metric in ("precision", "recall"):
        assert scores[f"{metric}40_efficientnet-lite0-32_stderr"] == 1 / 40
