"""The scores that stand beside the FID, and need the features of single images."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from facegan.evaluate.kid import SUBSETS, kernel_distance, subset_size
from facegan.evaluate.neighbours import Memorisation, memorisation, precision_and_recall
from facegan.evaluate.protocol import score_name
from facegan.evaluate.scorer import Sample
from facegan.features.frechet import Statistics

KID_SEED = 0


@dataclass(frozen=True)
class SampleMetrics:
    """KID, precision, recall and copies of a sample.

    Attributes:
        scores: by names that carry the protocol's main part.
        protocol: how many images of each kind they compare, and KID's number and size of subsets.
        copies: which of the images lie how near to which photographs.
    """

    scores: dict[str, float]
    protocol: dict[str, Any]
    copies: Memorisation


def sample_metrics(statistics: Statistics, sample: Sample) -> SampleMetrics:
    """Compare as many photographs as there are single features in `sample` with those.

    Copies are looked for among all of the reference's photographs. Without held-out ones there is
    nothing to compare their nearness with, and no share of them among the scores.
    """
    fake = sample.features
    count = len(fake)
    real = statistics.subset[:count]
    kid, spread = kernel_distance(real, fake, KID_SEED)
    precision, recall = precision_and_recall(real, fake)
    copies = memorisation(fake, statistics.subset, statistics.holdout)
    name = partial(score_name, num_samples=count, statistics=statistics)
    scores = {
        name("kid"): kid,
        f"{name('kid')}_spread": spread,
        name("precision"): precision,
        name("recall"): recall,
    }
    if copies.share is not None:
        scores[name("memorised")] = copies.share
    scores = {key: round(value, 6) for key, value in scores.items()}
    protocol = {
        "images": count,
        "kid_subsets": [SUBSETS, subset_size(count, count)],
        "photographs": len(statistics.subset),
        "held_out": len(statistics.holdout),
    }
    return SampleMetrics(scores, protocol, copies)
