"""Scores from per-image features: KID, precision, recall, memorisation."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from facegan.evaluate.kid import SUBSETS, kernel_distance, subset_size
from facegan.evaluate.neighbours import Memorisation, memorisation, precision_and_recall
from facegan.evaluate.protocol import score_name
from facegan.evaluate.scorer import FeatureSample
from facegan.features.frechet import Statistics

KID_SEED = 0


@dataclass(frozen=True)
class SampleMetrics:
    """KID, precision, recall and memorisation of a sample.

    Attributes:
        scores: by full name, see `score_name`.
        protocol: numbers of images compared, and number and size of KID's subsets.
        memorisation: nearest training image of each generated one.
    """

    scores: dict[str, float]
    protocol: dict[str, Any]
    memorisation: Memorisation


def sample_metrics(statistics: Statistics, sample: FeatureSample) -> SampleMetrics:
    """Score the per-image features in `sample`.

    KID, precision and recall use as many real features as generated ones. Memorisation compares
    with all stored training features; without held-out images it has no score.
    """
    fake = sample.features
    count = len(fake)
    real = statistics.subset[:count]
    kid, spread = kernel_distance(real, fake, KID_SEED)
    precision, recall = precision_and_recall(real, fake)
    found = memorisation(fake, statistics.subset, statistics.holdout)
    name = partial(score_name, num_samples=count, statistics=statistics)
    scores = {
        name("kid"): kid,
        f"{name('kid')}_spread": spread,
        name("precision"): precision,
        name("recall"): recall,
    }
    if found.share is not None:
        scores[name("memorised")] = found.share
    scores = {key: round(value, 6) for key, value in scores.items()}
    protocol = {
        "images": count,
        "kid_subsets": [SUBSETS, subset_size(count, count)],
        "photographs": len(statistics.subset),
        "held_out": len(statistics.holdout),
    }
    return SampleMetrics(scores, protocol, found)
