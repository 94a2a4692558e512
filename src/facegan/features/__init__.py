"""Feature extractors, and what scores are computed from.

Public: FrechetDistance, a `torchmetrics.Metric`, with FeatureMoments and Statistics.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from facegan.features.frechet import FeatureMoments, FrechetDistance, Statistics

__all__ = ["FeatureMoments", "FrechetDistance", "Statistics"]


def __getattr__(name: str) -> Any:
    # Imported on first use: `facegan fetch` need not wait for torch and torchmetrics.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from facegan.features import frechet

    return getattr(frechet, name)
