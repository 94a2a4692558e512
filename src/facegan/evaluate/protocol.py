"""A score's protocol: its name, and everything that can change its value."""

from collections.abc import Sequence
from typing import Any

from facegan.core.digests import fingerprint
from facegan.features import extractors
from facegan.features.frechet import Statistics
from facegan.params import Extractor

# First seeds of the sets of latents that the FID is averaged over; image i of a set is that of seed
# first + i. The quick FID, which selects the snapshot, has other seeds.
SEEDS = (0, 10_000_000, 20_000_000)


def score_name(metric: str, num_samples: int, statistics: Statistics) -> str:
    """Name of a metric, with the main part of its protocol.

    >>> score_name("fid", 5000, statistics)
    'fid5k_efficientnet-lite0-224'
    """
    count = f"{num_samples / 1000:g}k" if num_samples >= 1000 else str(num_samples)
    return f"{metric}{count}_{Extractor(**statistics.metadata['extractor']).label}"


def describe_protocol(
    statistics: Statistics, num_samples: int, seeds: Sequence[int] = SEEDS
) -> dict[str, Any]:
    """The FID's name, everything that can change its value, and a digest of these as `id`.

    `comparability_note` is to accompany each score of this protocol; it is empty if the protocol is
    that of published FIDs.

    Args:
        seeds: first seed of each set of latents; none if the images were given.
    """
    metadata = statistics.metadata
    extractor = extractors.EXTRACTORS[metadata["extractor"]["extractor"]]
    protocol = {
        "name": score_name("fid", num_samples, statistics),
        **metadata["extractor"],
        "resize": extractor.resize,
        "weights": extractor.weights,
        "num_samples": num_samples,
        "seeds": list(seeds),
        "num_real": metadata["count"],
        "shape": metadata["shape"],
        "preprocessing": metadata["preprocessing"],
        "data": metadata["data"],
        "holdout": metadata["holdout"],
    }
    return {
        **protocol,
        "id": fingerprint(protocol),
        "comparability_note": extractor.comparability_note,
    }
