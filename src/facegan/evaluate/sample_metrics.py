"""Scores from per-image features: KID, precision, recall, memorisation."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from facegan.evaluate.jackknife import MIN_IMAGES, standard_error, without_each_group
from facegan.evaluate.kid import SUBSETS, kernel_distance, subset_size
from facegan.evaluate.neighbours import Memorisation, manifold_shares, memorisation
from facegan.evaluate.protocol import score_name
from facegan.evaluate.scorer import FeatureSample
from facegan.features.frechet import Statistics

KID_SEED = 0


@dataclass(frozen=True)
class SampleMetrics:
    """KID, precision, recall and memorisation of a sample.

    Attributes:
        scores: by full name, see `score_name`; each is followed by its uncertainty.
        omitted: metric -> why it has no score.
        protocol: numbers of images compared, and number and size of KID's subsets.
        memorisation: nearest training image of each generated one.
    """

    scores: dict[str, float]
    omitted: dict[str, str]
    protocol: dict[str, Any]
    memorisation: Memorisation


def sample_metrics(statistics: Statistics, sample: FeatureSample) -> SampleMetrics:
    """Score the per-image features in `sample`.

    KID, precision and recall use as many real features as generated ones. Memorisation compares
    with all stored training features. From fewer than MIN_IMAGES images, nothing is scored.
    """
    fake = sample.features
    count, held_out = len(fake), len(statistics.holdout)
    name = partial(score_name, num_samples=count, statistics=statistics)
    found = memorisation(fake, statistics.subset, statistics.holdout)
    scores, omitted = {}, {}
    if count >= MIN_IMAGES:
        shares = _compare(statistics, sample)
        scores = {name(metric) + suffix: v for (metric, suffix), v in shares.items()}
    else:
        reason = f"{count} images on each side; at least {MIN_IMAGES} are needed"
        omitted = dict.fromkeys(("kid", "precision", "recall"), reason)
    if found.share is not None and held_out >= MIN_IMAGES:
        metric = name("memorised")
        scores[metric] = found.share
        scores |= {f"{metric}_expected": found.expected, f"{metric}_stderr": found.error}
    else:
        omitted["memorised"] = f"{held_out} held-out images; at least {MIN_IMAGES} are needed"
    scores = {key: round(value, 6) for key, value in scores.items()}
    protocol = {
        "images": count,
        "kid_subsets": [SUBSETS, subset_size(count, count)],
        "photographs": len(statistics.subset),
        "held_out": held_out,
    }
    return SampleMetrics(scores, omitted, protocol, found)


def _compare(statistics: Statistics, sample: FeatureSample) -> dict[tuple[str, str], float]:
    """KID, precision and recall with their uncertainty, by metric and suffix.

    The standard errors of precision and recall are at least the share of one image: where all or
    none are within the manifold, the jackknife says 0.
    """
    fake = sample.features
    count = len(fake)
    real = statistics.subset[:count]
    kid = kernel_distance(real, fake, KID_SEED)
    masks = torch.cat([torch.ones(1, count, dtype=torch.bool), without_each_group(count)])
    (precision, recall), *remaining = manifold_shares(real, fake, masks, masks).unbind()
    errors = torch.stack(remaining).T
    return {
        ("kid", ""): kid.mean,
        ("kid", "_spread"): kid.spread,
        ("kid", "_stderr"): kid.error,
        ("precision", ""): float(precision),
        ("precision", "_stderr"): max(standard_error(errors[0]), 1 / count),
        ("recall", ""): float(recall),
        ("recall", "_stderr"): max(standard_error(errors[1]), 1 / count),
    }
