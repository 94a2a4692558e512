"""Feature statistics of the real images. They don't depend on any generator."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from facegan.dataset import data_sha256, load_images, recipe
from facegan.errors import FaceganError
from facegan.events import OnEvent, silent
from facegan.features import BATCH, load_extractor
from facegan.frechet import Moments, Statistics, frechet_distance
from facegan.params import Extractor, Reference

# Which images make a half, and which the subset, is drawn once and for all.
SPLIT_SEED = 0


def reference(
    dataset: Path,
    quick: Path,
    official: Path,
    params: Reference,
    device: torch.device,
    on_event: OnEvent = silent,
) -> None:
    """Write the statistics of all photographs, held-out ones included, to `quick` and `official`.

    Raises:
        FaceganError: if the data set is unusable or too small for the floor.
    """
    parts = [load_images(dataset, part) for part in ("images", "holdout")]
    count = sum(map(len, parts))
    if count < 4:
        raise FaceganError(f"{dataset}: {count} images; the floor needs two halves of 2 at least")
    about = {
        "count": count,
        "shape": list(parts[0].shape[1:]),
        "recipe": recipe(dataset),
        "data": data_sha256(dataset),
    }
    done = 0

    def on_batch(images: int) -> None:
        nonlocal done
        done += images
        on_event({"event": "progress", "done": done, "total": 2 * count})

    for path, settings in ((quick, params.quick), (official, params.official)):
        moments, subset, floor = _measure(parts, settings, params.subset, device, on_batch)
        measured = {**about, "extractor": settings.model_dump(), "floor": floor}
        Statistics.of(moments, subset, measured).save(path)


def _measure(
    parts: list[Tensor],
    settings: Extractor,
    subset: int,
    device: torch.device,
    on_batch: Callable[[int], None],
) -> tuple[Moments, Tensor, float]:
    """The moments of all images, single features of a few, and the floor (half against half)."""
    network = load_extractor(settings, device)
    count = sum(map(len, parts))
    order = torch.randperm(count, generator=torch.Generator().manual_seed(SPLIT_SEED))
    in_first, in_subset = torch.zeros(2, count, dtype=torch.bool)
    in_first[order[: count // 2]] = True
    in_subset[order[:subset]] = True
    first, second = Moments(network.num_features), Moments(network.num_features)
    kept: list[Tensor] = []
    done = 0
    for images in (batch for part in parts for batch in part.split(BATCH)):
        features = network(images.to(device)).cpu()
        here = slice(done, done + len(images))
        first.update(features[in_first[here]])
        second.update(features[~in_first[here]])
        kept.append(features[in_subset[here]])
        done += len(images)
        on_batch(len(images))
    floor = frechet_distance(Statistics.of(first, torch.empty(0), {}), second)
    return first + second, torch.cat(kept), floor
