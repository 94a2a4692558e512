"""FID against held-out photographs beside that against as many training ones."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_ind
from torch import Tensor

from facegan.evaluate.heldout import LEVEL, HeldoutMetrics, heldout_metrics
from facegan.features.frechet import FeatureMoments, FrechetDistance, Statistics

METADATA = {"extractor": {"extractor": "efficientnet-lite0", "input_size": 32, "dtype": "float32"}}
LABEL = "efficientnet-lite0-32"


def features(count: int, dimensions: int, seed: int) -> Tensor:
    """Correlated features, as an extractor's are."""
    rng = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dimensions, dimensions, generator=torch.Generator().manual_seed(0))
    return torch.randn(count, dimensions, generator=rng) @ mixing


def statistics(train: Tensor, held_out: Tensor, metadata: dict[str, Any] = METADATA) -> Statistics:
    """As `reference` writes them of these photographs."""
    moments = FeatureMoments(train.shape[1])
    moments.update(train)
    indices = torch.arange(len(train))
    return Statistics.from_moments(moments, metadata, train, indices, held_out)


def fid(real: Tensor, fake: Tensor) -> float:
    """By the covariances' roots, as the official FID."""
    metric = FrechetDistance(statistics(real, real[:0]))
    metric.update(fake)
    return float(metric.compute())


def compared(fake: Tensor, train: Tensor, held_out: Tensor) -> HeldoutMetrics:
    return heldout_metrics(statistics(train, held_out), fake)


@given(
    generated=st.integers(20, 90),
    train=st.integers(100, 260),
    held_out=st.integers(20, 90),
    dimensions=st.integers(2, 40),
    seed=st.integers(0, 2**16),
)
def test_scores_are_fids_against_groups_of_as_many_photographs(
    generated: int, train: int, held_out: int, dimensions: int, seed: int
) -> None:
    fake, real, other = (
        features(count, dimensions, seed + number)
        for number, count in enumerate((generated, train, held_out))
    )
    fake += 0.2
    found = compared(fake, real, other)
    n = min(held_out, train // 5)
    assert found.protocol["photographs"] == n
    groups = [min(10, count // n) for count in (train, held_out)]
    assert found.protocol["groups"] == groups
    to_train, to_heldout = (
        [fid(photographs[n * k : n * (k + 1)], fake) for k in range(count)]
        for photographs, count in zip((real, other), groups, strict=True)
    )
    floors = [fid(real[:generated], other[n * k : n * (k + 1)]) for k in range(groups[1])]
    test = ttest_ind(to_heldout, to_train, alternative="greater")
    gap = np.mean(to_heldout) - np.mean(to_train)
    expected = {
        "heldout": np.mean(to_heldout),
        "train": np.mean(to_train),
        "heldout_floor": np.mean(floors),
        "gap": gap,
        "gap_stderr": gap / test.statistic,
    }
    scores = {f"fid{generated}_{LABEL}_{name}": value for name, value in expected.items()}
    assert found.scores == pytest.approx(scores, rel=1e-5, abs=2e-4)
    assert bool(found.warnings) == bool(test.pvalue < LEVEL)
    assert found.omitted == {}


def test_a_generator_that_does_not_memorise_is_rarely_warned_about() -> None:
    warned = 0
    for seed in range(150):
        train, held_out, fake = features(300, 40, seed).split([140, 20, 140])
        warned += bool(compared(0.9 * fake, train, held_out).warnings)
    assert warned <= 5  # 1.5 are expected


def test_copies_of_training_photographs_are_warned_about() -> None:
    train, fresh, held_out = features(440, 100, 1).split([200, 200, 40])
    (warning,) = compared(train, train, held_out).warnings
    assert "against 40 held-out photographs" in warning
    assert "overfits its training photographs" in warning
    assert compared(fresh, train, held_out).warnings == []


@pytest.mark.parametrize(
    ("generated", "train", "held_out", "reason"),
    [
        (40, 100, 0, "0 held-out images; at least 20 are needed"),
        (40, 100, 19, "19 held-out images; at least 20 are needed"),
        (19, 100, 20, "19 images; at least 20 are needed"),
        (40, 99, 20, "99 training images stored; at least 100 are needed"),
    ],
)
def test_from_too_few_images_there_is_no_score(
    generated: int, train: int, held_out: int, reason: str
) -> None:
    found = compared(features(generated, 4, 0), features(train, 4, 1), features(held_out, 4, 2))
    assert found == HeldoutMetrics({}, {"fid_heldout": reason}, {}, [])
