"""Feature statistics of the real images, for the quick and the official score."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facegan.core.errors import FaceganError
from facegan.core.events import Message, OnEvent, Progress, silent
from facegan.data.dataset import data_sha256, load_images, preprocessing
from facegan.features.extraction import Extraction
from facegan.features.extractors import BATCH
from facegan.features.frechet import Moments, Statistics, frechet_distance, rank_warning
from facegan.params import MIN_IMAGES, Extractor, Reference
from facegan.runtime import distributed
from facegan.runtime.autocast import effective_dtype
from facegan.runtime.distributed import Group

# Which images make a half, and which the subsets, is drawn once and for all.
SPLIT_SEED = 0


@dataclass(frozen=True)
class _Choice:
    """Which images are measured how: of all, in the order of the parts.

    Attributes:
        in_first: bool (n,), the first half; the floor is its distance to the second.
        places: int64 (n,), where an image's features are kept among the single ones; -1: nowhere.
        train_indices: int64 (k,), the kept images of the training part.
        kept: how many single features there are, those of the training part first.
    """

    in_first: Tensor
    places: Tensor
    train_indices: Tensor
    kept: int


def reference(
    dataset: Path,
    quick: Path,
    official: Path,
    params: Reference,
    device: torch.device,
    on_event: OnEvent = silent,
) -> None:
    """Write the statistics of all photographs, held-out ones included, to `quick` and `official`.

    `official` also has the features of single images: at most `params.subset` of those that are
    trained on, and as many held-out ones. Processes that `torchrun` started share the images.

    Raises:
        FaceganError: if the data set is unusable or too small for the floor, or an extractor's
            weights are missing.
    """
    parts = [load_images(dataset, part) for part in ("images", "holdout")]
    metadata = _describe(dataset, parts)
    count = metadata["count"]
    with distributed.process_group(device) as group:
        listener = on_event if group.rank == 0 else silent
        wanted = {params.quick.dtype, params.official.dtype}
        possible = {each: effective_dtype(each, device, listener) for each in wanted}
        done = 0

        def on_images(images: int) -> None:
            nonlocal done
            done += images
            listener(Progress(min(done, 2 * count), 2 * count))

        for path, asked, subset in (
            (quick, params.quick, 0),
            (official, params.official, params.subset),
        ):
            settings = asked.model_copy(update={"dtype": possible[asked.dtype]})
            work = _Measurement(settings, _choose(parts, subset), device, group, listener)
            statistics = work.measure(parts, metadata, on_images)
            if group.rank == 0:
                statistics.save(path)


def _describe(dataset: Path, parts: list[Tensor]) -> dict[str, Any]:
    """What is measured, whichever the extractor."""
    if len(parts[0]) < MIN_IMAGES:
        raise FaceganError(f"{dataset}: {len(parts[0])} images; scores need at least {MIN_IMAGES}")
    return {
        "count": sum(map(len, parts)),
        "shape": list(parts[0].shape[1:]),
        "preprocessing": preprocessing(dataset),
        "data": data_sha256(dataset),
        "holdout": data_sha256(dataset, "holdout"),
    }


def _choose(parts: list[Tensor], subset: int) -> _Choice:
    source = torch.Generator().manual_seed(SPLIT_SEED)
    train, count = len(parts[0]), sum(map(len, parts))
    order = torch.randperm(count, generator=source)
    in_first = torch.zeros(count, dtype=torch.bool)
    in_first[order[: count // 2]] = True
    # In random order, so that any first ones are as good a choice as all.
    train_indices, held_out = order[order < train][:subset], order[order >= train][:subset]
    places = torch.full((count,), -1)
    places[train_indices] = torch.arange(len(train_indices))
    places[held_out] = torch.arange(len(held_out)) + len(train_indices)
    return _Choice(in_first, places, train_indices, len(train_indices) + len(held_out))


class _Measurement:
    """All images through one extractor."""

    def __init__(
        self,
        settings: Extractor,
        choice: _Choice,
        device: torch.device,
        group: Group,
        on_event: OnEvent,
    ) -> None:
        self.settings, self.choice, self.group, self.on_event = settings, choice, group, on_event
        count = len(choice.places)
        self.extraction = Extraction(settings, device, count, on_event)
        dimensions = self.extraction.num_features
        self.halves = Moments(dimensions, device), Moments(dimensions, device)
        self.single = torch.zeros(choice.kept, dimensions)

    def measure(
        self, parts: list[Tensor], metadata: dict[str, Any], on_images: Callable[[int], None]
    ) -> Statistics:
        begin = 0
        for part in parts:
            for here in self.group.slices(len(part), BATCH):
                self._add(self.extraction(part[here]), begin + here.start)
                on_images(len(part[here]) * self.group.size)
            begin += len(part)
        self.group.all_reduce_sum([self.single])
        for half in self.halves:
            half.all_reduce(self.group)
        first, second = self.halves
        both = first + second
        if warning := rank_warning(both.count, self.extraction.num_features, "photographs"):
            self.on_event(Message(warning))
        floor = frechet_distance(Statistics.from_moments(first, {}), second)
        metadata = {**metadata, "extractor": self.settings.model_dump(), "floor": floor}
        train_indices = self.choice.train_indices
        return Statistics.from_moments(
            both,
            metadata,
            self.single[: len(train_indices)],
            train_indices,
            self.single[len(train_indices) :],
        )

    def _add(self, features: Tensor, first: int) -> None:
        here = slice(first, first + len(features))
        in_first = self.choice.in_first[here].to(features.device)
        self.halves[0].update(features[in_first])
        self.halves[1].update(features[~in_first])
        places = self.choice.places[here]
        kept = places >= 0
        self.single[places[kept]] = features.cpu()[kept]
