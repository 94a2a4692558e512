"""What a score is a score of: its name, and everything that can move it."""

from typing import Any

from facegan.core.digests import fingerprint
from facegan.features import extractors
from facegan.features.frechet import Statistics
from facegan.params import Extractor

# Sets of latents whose mean FID is the FID; other ones than the quick FID's, on which the snapshot
# was chosen.
SEEDS = (11, 13, 17)


def score_name(metric: str, fakes: int, statistics: Statistics) -> str:
    """A metric's name with the main part of its protocol.

    >>> score_name("fid", 5000, statistics)
    'fid5k_efficientnet-lite0-224'
    """
    count = f"{fakes / 1000:g}k" if fakes >= 1000 else str(fakes)
    return f"{metric}{count}_{Extractor(**statistics.about['extractor']).label}"


def describe_protocol(statistics: Statistics, fakes: int) -> dict[str, Any]:
    """The FID's name, everything that can move it, and the digest of that as `id`.

    `comparability_note` says what has to stand beside a score of this protocol: nothing where it
    compares with published FIDs.
    """
    about = statistics.about
    extractor = extractors.EXTRACTORS[about["extractor"]["extractor"]]
    protocol = {
        "name": score_name("fid", fakes, statistics),
        **about["extractor"],
        "resize": extractor.resize,
        "weights": extractor.weights,
        "fakes": fakes,
        "latents": len(SEEDS),
        "reals": about["count"],
        "shape": about["shape"],
        "recipe": about["recipe"],
        "data": about["data"],
        "holdout": about["holdout"],
    }
    return {
        **protocol,
        "id": fingerprint(protocol),
        "comparability_note": extractor.comparability_note,
    }
