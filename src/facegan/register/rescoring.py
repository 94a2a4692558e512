"""Scores a registered version under the protocol of another one's scores."""

from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory
from typing import Any

import torch

from facegan.evaluate.protocol import SEEDS
from facegan.evaluate.sample_metrics import sample_metrics
from facegan.evaluate.scorer import Scorer
from facegan.features.frechet import Statistics
from facegan.register import versions
from facegan.register.registry import Version
from facegan.register.scores import Scores


def rescore(
    version: Version, protocol: dict[str, Any], official: Path, device: torch.device
) -> Scores:
    """Load a version's generator and score it as `evaluate` does.

    Args:
        protocol: that of `metrics.json`.
        official: feature statistics of that protocol.
    Raises:
        FaceganError: if the generator cannot be loaded, or makes images of another shape.
    """
    with TemporaryDirectory() as folder:
        generator = versions.load_version(version, Path(folder), device)
    statistics = Statistics.load(official)
    count = protocol["num_samples"]
    scorer = Scorer(statistics, len(SEEDS) * count, device)
    samples = [scorer.sample(generator, count, seed) for seed in SEEDS]
    fids = [sample.fid for sample in samples]
    metrics = sample_metrics(statistics, samples[0])
    metric = protocol["name"]
    return Scores.from_metrics(
        {
            metric: round(mean(fids), 4),
            f"{metric}_spread": round(stdev(fids), 4),
            **metrics.scores,
            "protocol": protocol,
            "sample_metrics": metrics.protocol,
        }
    )
