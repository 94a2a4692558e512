"""The evaluate stage: official scores under a named protocol, and pictures."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from facegan.core.atomic import refuse_foreign, replacing
from facegan.core.digests import file_sha256
from facegan.core.errors import FaceganError
from facegan.core.events import OnEvent, silent
from facegan.core.history import NAME, read_history
from facegan.core.paths import require_folder
from facegan.core.pictures import grid, save_picture
from facegan.data.dataset import data_sha256, load_images
from facegan.evaluate import plots
from facegan.evaluate.neighbours import Memorisation
from facegan.evaluate.protocol import SEEDS, describe_protocol
from facegan.evaluate.sample_metrics import sample_metrics
from facegan.evaluate.scorer import Scorer
from facegan.features.frechet import Statistics
from facegan.models.architectures import Generator
from facegan.models.files import load_generator
from facegan.models.sampling import generate, latents
from facegan.params import Evaluate, Extractor
from facegan.runtime import distributed

# Image i is that of seed i.
SAMPLES = 144
# Pairs of a generated image and its nearest training image, closest first; pairs per row.
PAIRS, ROW = 24, 6
PICTURE, NEAREST, PLOT = "samples.png", "nearest.png", "quick_fid.png"


def evaluate(
    trained: Path,
    dataset: Path,
    official: Path,
    out: Path,
    metrics: Path,
    params: Evaluate,
    requested: Extractor,
    device: torch.device,
    on_event: OnEvent = silent,
) -> None:
    """Score the trained generator in the folder `trained`, and the untrained one.

    Writes the scores and their protocol to `metrics`, and pictures into the folder `out`: samples,
    the generated images closest to training images beside these, and the quick FID over the
    training. Under `torchrun`, the images are distributed over the processes.

    Args:
        requested: the extractor that `official` must have been computed with.
    Raises:
        FaceganError: if an input is missing, if generator, reference and dataset don't match, or
            if the generator's output contains NaN.
    """
    refuse_foreign(out, PICTURE)
    require_folder(trained, "the folder that facegan train wrote")
    statistics = Statistics.load(official)
    _check_reference(statistics, official, dataset, requested)
    events = read_history(trained / NAME)
    generator = load_generator(trained / "generator.safetensors", device)
    untrained = load_generator(trained / "untrained.safetensors", device)
    sets = [(generator, seed) for seed in SEEDS] + [(untrained, SEEDS[0])]
    with distributed.process_group(device) as group:
        scorer = Scorer(statistics, len(sets) * params.num_samples, device, group, on_event)
        samples = [scorer.sample(network, params.num_samples, seed) for network, seed in sets]
    if group.rank > 0:
        return
    others, fids = sample_metrics(statistics, samples[0]), [sample.fid for sample in samples]
    content = {
        **_fids(describe_protocol(statistics, params.num_samples), fids),
        **others.scores,
        "floor": round(statistics.metadata["floor"], 4),
        **_training_summary(events),
        "sample_metrics": others.protocol,
        "generator": file_sha256(trained / "generator.safetensors"),
        "reference": file_sha256(official),
    }
    with replacing(out) as folder:
        folder.mkdir()
        save_picture(_samples(generator), folder / PICTURE)
        save_picture(_pairs(generator, others.memorisation, statistics, dataset), folder / NEAREST)
        plots.plot_quick_fid(events, content, folder / PLOT)
    with replacing(metrics) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def _fids(protocol: dict[str, Any], all_fids: Sequence[float]) -> dict[str, Any]:
    """Mean and spread of the FID over the sets of latents, the untrained generator's FID, protocol.

    Args:
        all_fids: the trained generator's, one per set of latents; then the untrained one's.
    """
    *fids, untrained = all_fids
    values = {"": mean(fids), "_spread": stdev(fids)}
    scores = {f"{protocol['name']}{suffix}": round(value, 4) for suffix, value in values.items()}
    return {**scores, "untrained": round(untrained, 4), "protocol": protocol}


def _check_reference(
    statistics: Statistics, official: Path, dataset: Path, requested: Extractor
) -> None:
    """
    Raises:
        FaceganError: if `official` was computed on a different dataset or with other settings.
    """
    metadata, advice = statistics.metadata, "run again: dvc repro reference"
    if (metadata["data"], metadata["holdout"]) != tuple(
        data_sha256(dataset, part) for part in ("images", "holdout")
    ):
        raise FaceganError(f"{official}: computed on a different dataset than {dataset}; {advice}")
    actual, expected = metadata["extractor"], requested.model_dump()
    if actual["dtype"] == "float32":  # the fallback on devices without native bfloat16
        expected["dtype"] = "float32"
    differences = [
        f"{key} is {actual[key]}, expected {expected[key]}"
        for key in expected
        if actual[key] != expected[key]
    ]
    if differences:
        details = "; ".join(differences)
        raise FaceganError(f"{official}: computed with other settings: {details}; {advice}")


def _training_summary(events: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Images seen at the best snapshot, and number of collapses."""
    scores = [event for event in events if event["event"] == "score"]
    best = min(scores, key=lambda event: event["quick_fid"])
    collapses = sum(event["event"] == "collapse" for event in events)
    return {"images_seen": best["images_seen"], "collapses": collapses}


def _samples(generator: Generator) -> NDArray[np.uint8]:
    z = latents(SAMPLES, generator.latent_dim, seed=0)
    return grid(torch.cat(list(generate(generator, z))))


def _pairs(
    generator: Generator, found: Memorisation, statistics: Statistics, dataset: Path
) -> NDArray[np.uint8]:
    """Grid of the generated images closest to the training set, each left of its neighbour."""
    closest = found.order[:PAIRS]
    z = [latents(1, generator.latent_dim, SEEDS[0] + index) for index in closest.tolist()]
    fakes = torch.cat(list(generate(generator, torch.cat(z)))).cpu()
    neighbours = load_images(dataset)[statistics.train_indices[found.nearest[closest]]]
    return grid(torch.cat([fakes, neighbours], dim=2), ROW)
