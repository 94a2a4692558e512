"""Scores from per-image features, by their names."""

import numpy as np
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


def measured(fake: Tensor, held_out: int = 30) -> SampleMetrics:
    """Compare `fake` with 50 photographs, and with held-out ones."""
    real = features(50, 0)
    moments = FeatureMoments(4)
    moments.update(real)
    statistics = Statistics.from_moments(
        moments, {"extractor": EXTRACTOR}, real, torch.arange(50), features(held_out, 1)
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
        assert found.scores[key] == round(found.scores[key], 6)
    assert torch.equal(found.memorisation.nearest, copies.nearest)
    assert found.omitted == {}
    assert found.protocol == {
        "images": 40, "kid_subsets": [100, 20], "photographs": 50, "held_out": 30
    }  # fmt: skip


def test_errors_of_precision_and_recall_are_those_of_the_scores_without_each_tenth() -> None:
    real, fake = features(50, 0)[:40], features(40, 2) + 0.5
    kept = [torch.arange(40) % 10 != group for group in range(10)]
    values = np.array([precision_and_recall(real[mask], fake[mask]) for mask in kept])
    precision, recall = (9 / 10 * np.square(values - values.mean(0)).sum(0)) ** 0.5
    scores = measured(fake).scores
    for metric, error in (("precision", precision), ("recall", recall)):
        assert error > 1 / 40
        key = f"{metric}40_efficientnet-lite0-32_stderr"
        assert scores[key] == pytest.approx(error, abs=1e-6)


def test_fewer_than_20_images_have_no_scores_and_the_reason() -> None:
    of_samples = dict.fromkeys(
        ("kid", "precision", "recall"), "19 images on each side; at least 20 are needed"
    )
    of_held_out = {"memorised": "19 held-out images; at least 20 are needed"}
    assert measured(features(20, 2), 20).omitted == {}
    assert measured(features(19, 2), 20).omitted == of_samples
    assert measured(features(20, 2), 19).omitted == of_held_out
    nothing = measured(features(19, 2), 19)
    assert nothing.omitted == of_samples | of_held_out and nothing.scores == {}


def test_the_least_error_of_precision_and_recall_is_one_image() -> None:
    scores = measured(torch.zeros(40, 4)).scores
    for metric in ("precision", "recall"):
        assert scores[f"{metric}40_efficientnet-lite0-32_stderr"] == 1 / 40
