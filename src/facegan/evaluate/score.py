"""Scores of any images, under the protocol of `evaluate`."""

from pathlib import Path
from typing import Any, NamedTuple, Self

import torch

from facegan.core.digests import file_sha256
from facegan.core.events import OnEvent, silent
from facegan.evaluate.companions import companions
from facegan.evaluate.image_set import ImageSet
from facegan.evaluate.protocol import describe_protocol
from facegan.evaluate.scorer import Scorer
from facegan.features.frechet import Statistics
from facegan.models.sampling import BATCH
from facegan.runtime import distributed

# Seed of the order in which images are taken if the reference stores fewer features.
ORDER_SEED = 0


class Reference(NamedTuple):
    """Statistics of the real images, and the sha256 of their file."""

    statistics: Statistics
    sha256: str

    @classmethod
    def load(cls, official: Path) -> Self:
        """
        Raises:
            FaceganError: if it is missing, or has no features of single images, as the quick one.
        """
        statistics = Statistics.load(official)
        statistics.require_official(official)
        return cls(statistics, file_sha256(official))


def score(
    images: ImageSet, reference: Reference, device: torch.device, on_event: OnEvent = silent
) -> dict[str, Any] | None:
    """Score a set of images against the real ones.

    Under `torchrun`, the images are distributed over the processes.

    Args:
        images: of the reference's shape.
    Returns:
        As in `metrics.json`: scores, protocol, omitted, warnings. `images` and `reference` are the
        sha256 of the pixels and of the statistics. None on processes other than the first.
    Raises:
        FaceganError: if the extractor's weights are missing.
    """
    statistics, count = reference.statistics, len(images.pixels)
    order = torch.arange(count)
    if count > len(statistics.subset):  # else the first ones would stand for all, maybe one class
        order = torch.randperm(count, generator=torch.Generator().manual_seed(ORDER_SEED))
    with distributed.process_group(device) as group:
        scorer = Scorer(statistics, count, device, group, on_event)
        windows = group.slices(count, BATCH)
        sample = scorer.measure(((w.start, images.pixels[order[w]]) for w in windows), count)
    if group.rank > 0:
        return None
    protocol = describe_protocol(statistics, count, seeds=())
    others, _ = companions(statistics, sample, count)
    return {
        protocol["name"]: round(sample.fid, 4),
        "fids": [round(sample.fid, 4)],
        "protocol": protocol,
        **others,
        "warnings": others["warnings"] + images.warnings,
        "images": images.sha256,
        "reference": reference.sha256,
    }
