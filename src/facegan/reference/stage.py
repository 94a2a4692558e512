"""The reference stage: feature statistics of the real images, for quick and official FID."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facegan.core.errors import FaceganError
from facegan.core.events import Message, OnEvent, Progress, once, silent
from facegan.core.outputs import check_output_file
from facegan.data.batches import require_batch
from facegan.data.dataset import data_sha256, load_images, preprocessing
from facegan.features.extraction import Extraction
from facegan.features.extractors import BATCH
from facegan.features.frechet import (
    FeatureMoments,
    Statistics,
    frechet_distance,
    rank_warning,
    summed_over,
)
from facegan.params import MIN_IMAGES, Extractor, Reference
from facegan.runtime import distributed
from facegan.runtime.autocast import effective_dtype
from facegan.runtime.distributed import Group

# In the header of every file of statistics.
MARKER = "extractor"
# Seed of the random halves and subsets; fixed, so that statistics are comparable.
SPLIT_SEED = 0


@dataclass(frozen=True)
class _Split:
    """Random halves and subsets of all n images, training images before held-out ones.

    Attributes:
        in_first: bool (n,), mask of the first half; the floor is its distance to the second.
        slots: int64 (n,), row of an image's features among the kept ones; -1 if not kept.
        train_indices: int64 (k,), training images whose features are kept.
        num_kept: number of kept features, those of training images first.
    """

    in_first: Tensor
    slots: Tensor
    train_indices: Tensor
    num_kept: int


def reference(
    dataset: Path,
    quick: Path,
    official: Path,
    params: Reference,
    device: torch.device,
    on_event: OnEvent = silent,
    batch_size: int = 1,
) -> None:
    """Compute statistics of all images, held-out ones included, and write `quick` and `official`.

    `official` also stores per-image features of at most `params.subset` training images and as many
    held-out ones. Under `torchrun`, the images are distributed over the processes.

    Args:
        batch_size: of the training to come, which needs that many images. Checked here, because
            this stage may take hours.
    Raises:
        FaceganError: if the dataset is unusable or too small, an extractor's weights are missing,
            or an output cannot be written.
    """
    parts = [load_images(dataset, part) for part in ("images", "holdout")]
    require_batch(batch_size, len(parts[0]))
    metadata = _describe(dataset, parts)
    count = metadata["count"]
    with distributed.process_group(device) as group:
        if group.is_main:  # other machines may lack the outputs' folders
            check_output_file(quick, MARKER, [dataset, official])
            check_output_file(official, MARKER, [dataset])
        listener = once(on_event) if group.rank == 0 else silent
        requested = {params.quick.dtype, params.official.dtype}
        effective = {dtype: effective_dtype(dtype, device, listener) for dtype in requested}
        done = 0

        def on_images(images: int) -> None:
            nonlocal done
            done += images
            listener(Progress(min(done, 2 * count), 2 * count))

        # Both before the first image, because the weights of one may be missing.
        measurements = []
        for extractor, subset in ((params.quick, 0), (params.official, params.subset)):
            settings = extractor.model_copy(update={"dtype": effective[extractor.dtype]})
            split = _split(parts, subset)
            measurements.append(_Measurement(settings, split, device, group, listener))
        for path, measurement in zip((quick, official), measurements, strict=True):
            statistics = measurement.run(parts, metadata, on_images)
            if group.is_main:
                statistics.save(path)


def _describe(dataset: Path, parts: list[Tensor]) -> dict[str, Any]:
    """Metadata of the dataset, which does not depend on the extractor."""
    if len(parts[0]) < MIN_IMAGES:
        raise FaceganError(f"{dataset}: {len(parts[0])} images; scores need at least {MIN_IMAGES}")
    return {
        "count": sum(map(len, parts)),
        "shape": list(parts[0].shape[1:]),
        "preprocessing": preprocessing(dataset),
        "data": data_sha256(dataset),
        "holdout": data_sha256(dataset, "holdout"),
    }


def _split(parts: list[Tensor], subset: int) -> _Split:
    rng = torch.Generator().manual_seed(SPLIT_SEED)
    n_train, count = len(parts[0]), sum(map(len, parts))
    order = torch.randperm(count, generator=rng)
    in_first = torch.zeros(count, dtype=torch.bool)
    in_first[order[: count // 2]] = True
    # In random order, so that any prefix is a random subset.
    train_indices, held_out = order[order < n_train][:subset], order[order >= n_train][:subset]
    slots = torch.full((count,), -1)
    slots[train_indices] = torch.arange(len(train_indices))
    slots[held_out] = torch.arange(len(held_out)) + len(train_indices)
    return _Split(in_first, slots, train_indices, len(train_indices) + len(held_out))


class _Measurement:
    """Statistics of all images under one extractor."""

    def __init__(
        self,
        settings: Extractor,
        split: _Split,
        device: torch.device,
        group: Group,
        on_event: OnEvent,
    ) -> None:
        self.settings, self.split, self.group, self.on_event = settings, split, group, on_event
        self.extraction = Extraction(settings, device, len(split.slots), on_event)
        self.halves = self._moments(device), self._moments(device)
        self.kept = torch.zeros(split.num_kept, self.extraction.num_features)

    def _moments(self, device: torch.device) -> FeatureMoments:
        sync = summed_over(self.group)
        return FeatureMoments(self.extraction.num_features, dist_sync_fn=sync).to(device)

    def run(
        self, parts: list[Tensor], metadata: dict[str, Any], on_images: Callable[[int], None]
    ) -> Statistics:
        offset = 0
        for part in parts:
            for window in self.group.slices(len(part), BATCH):
                self._add(self.extraction(part[window]), offset + window.start)
                on_images(len(part[window]) * self.group.size)
            offset += len(part)
        self.group.all_reduce_sum([self.kept])
        first, second = self.halves
        both = deepcopy(first)
        both.merge_state(second)
        if warning := rank_warning(offset, self.extraction.num_features, "photographs"):
            self.on_event(Message(warning))
        mean, covariance = second.compute()
        floor = float(
            frechet_distance(Statistics.from_moments(first), mean.cpu(), covariance.cpu())
        )
        metadata = {**metadata, "extractor": self.settings.model_dump(), "floor": floor}
        train_indices = self.split.train_indices
        subset, holdout = self.kept.tensor_split([len(train_indices)])
        return Statistics.from_moments(both, metadata, subset, train_indices, holdout)

    def _add(self, features: Tensor, first: int) -> None:
        window = slice(first, first + len(features))
        in_first = self.split.in_first[window].to(features.device)
        self.halves[0].update(features[in_first])
        self.halves[1].update(features[~in_first])
        slots = self.split.slots[window]
        keep = slots >= 0
        self.kept[slots[keep]] = features.cpu()[keep]
