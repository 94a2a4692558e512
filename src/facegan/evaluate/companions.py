"""What accompanies an FID: the other scores, why some are missing, and what makes it unreliable."""

from typing import Any

from facegan.evaluate.heldout import heldout_metrics
from facegan.evaluate.neighbours import Memorisation
from facegan.evaluate.sample_metrics import sample_metrics
from facegan.evaluate.scorer import FeatureSample
from facegan.features.frechet import Statistics, rank_warning


def companions(
    statistics: Statistics, sample: FeatureSample, num_samples: int
) -> tuple[dict[str, Any], Memorisation]:
    """Their part of `metrics.json`, and the nearest training image of each generated one.

    Args:
        num_samples: images that the FID is of.
    """
    others = sample_metrics(statistics, sample)
    held_out = heldout_metrics(statistics, sample.features)
    return {
        **others.scores,
        **held_out.scores,
        "floor": round(statistics.metadata["floor"], 4),
        "omitted": others.omitted | held_out.omitted,
        "warnings": _rank_warnings(statistics, num_samples) + held_out.warnings,
        "sample_metrics": others.protocol,
        "heldout_metrics": held_out.protocol,
    }, others.memorisation


def _rank_warnings(statistics: Statistics, num_samples: int) -> list[str]:
    """What makes the FID unreliable; its spread over sets of latents does not show it."""
    count = statistics.metadata["count"]
    counts = {
        "photographs": count,
        "photographs in each half of the floor": count // 2,
        "generated images": num_samples,
    }
    dimensions = len(statistics.mean)
    return [
        warning
        for what, count in counts.items()
        if (warning := rank_warning(count, dimensions, what))
    ]
