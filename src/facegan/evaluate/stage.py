"""The official scores, under a named protocol."""

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
from facegan.models.sampling import BLOCK, generate, latent_block, latents
from facegan.params import Evaluate, Extractor
from facegan.runtime import distributed

SAMPLE_SEED = 12
SAMPLES = 144
# Generated images with the photograph nearest to each, the nearest first; pairs in a row.
PAIRS, ROW = 24, 6
PICTURE, NEAREST, PLOT = "samples.png", "nearest.png", "quick_fid.png"


def evaluate(
    trained: Path,
    dataset: Path,
    official: Path,
    out: Path,
    metrics: Path,
    params: Evaluate,
    asked: Extractor,
    device: torch.device,
    on_event: OnEvent = silent,
) -> None:
    """Score the generator in the folder `trained`, and the untrained one that it began as.

    Writes pictures into the folder `out`: samples, the generated images that lie nearest to
    photographs beside those, and the quick FID over the training; and to `metrics` the scores with
    their protocol. Processes that `torchrun` started share the images.

    Args:
        asked: the extractor that `official` has to be measured with.
    Raises:
        FaceganError: if an input is missing, if generator, reference and photographs don't fit, or
            if the generator makes no images.
    """
    refuse_foreign(out, PICTURE)
    statistics = Statistics.load(official)
    _refuse_other(statistics, official, dataset, asked)
    events = read_history(trained / NAME)
    generator = load_generator(trained / "generator.safetensors", device)
    initial = load_generator(trained / "untrained.safetensors", device)
    sets = [(generator, seed) for seed in SEEDS] + [(initial, SEEDS[0])]
    with distributed.process_group(device) as group:
        scorer = Scorer(statistics, len(sets) * params.num_samples, device, group, on_event)
        samples = [scorer.sample(network, params.num_samples, seed) for network, seed in sets]
    if group.rank > 0:
        return
    others = sample_metrics(statistics, samples[0])
    content = {
        **_fids(describe_protocol(statistics, params.num_samples), list(map(scorer.fid, samples))),
        **others.scores,
        "floor": round(statistics.metadata["floor"], 4),
        **_course(events),
        "sample_metrics": others.protocol,
        "generator": file_sha256(trained / "generator.safetensors"),
        "reference": file_sha256(official),
    }
    with replacing(out) as folder:
        folder.mkdir()
        save_picture(_samples(generator), folder / PICTURE)
        save_picture(_pairs(generator, others.copies, statistics, dataset), folder / NEAREST)
        plots.save_course(events, content, folder / PLOT)
    with replacing(metrics) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def _fids(protocol: dict[str, Any], all_fids: Sequence[float]) -> dict[str, Any]:
    """What promotion goes by, how much it depends on the latents, the untrained generator's, which
    comes last in `all_fids`, and what they are scores of.
    """
    *fids, untrained = all_fids
    numbers = {"": mean(fids), "_spread": stdev(fids)}
    scores = {f"{protocol['name']}{key}": round(value, 4) for key, value in numbers.items()}
    return {**scores, "untrained": round(untrained, 4), "protocol": protocol}


def _refuse_other(statistics: Statistics, official: Path, dataset: Path, asked: Extractor) -> None:
    """
    Raises:
        FaceganError: if `official` is of other photographs, or measured otherwise than `asked`.
    """
    about, again = statistics.metadata, "make it again: dvc repro reference"
    if (about["data"], about["holdout"]) != tuple(
        data_sha256(dataset, part) for part in ("images", "holdout")
    ):
        raise FaceganError(f"{official}: of other photographs than {dataset}; {again}")
    measured, wanted = about["extractor"], asked.model_dump()
    if measured["dtype"] == "float32":  # which takes bfloat16's place where there is none
        wanted["dtype"] = "float32"
    differs = [
        f"{key} {measured[key]}, not {wanted[key]}"
        for key in wanted
        if measured[key] != wanted[key]
    ]
    if differs:
        raise FaceganError(f"{official}: of another protocol: {'; '.join(differs)}; {again}")


def _course(events: Sequence[dict[str, Any]]) -> dict[str, int]:
    """When the best snapshot was taken, and how often the training collapsed."""
    scores = [event for event in events if event["event"] == "score"]
    best = min(scores, key=lambda event: event["quick_fid"])
    collapses = sum(event["event"] == "collapse" for event in events)
    return {"images_seen": best["images_seen"], "collapses": collapses}


def _samples(generator: Generator) -> NDArray[np.uint8]:
    z = latents(SAMPLES, generator.latent_dim, SAMPLE_SEED)
    return grid(torch.cat(list(generate(generator, z))))


def _pairs(
    generator: Generator, copies: Memorisation, statistics: Statistics, dataset: Path
) -> NDArray[np.uint8]:
    """Generated images, each with the photograph nearest to it at its right."""
    chosen = copies.order[:PAIRS]
    z = [
        latent_block(number // BLOCK, generator.latent_dim, SEEDS[0])[number % BLOCK]
        for number in chosen.tolist()
    ]
    fakes = torch.cat(list(generate(generator, torch.stack(z)))).cpu()
    photographs = load_images(dataset)[statistics.train_indices[copies.rows[chosen]]]
    return grid(torch.cat([fakes, photographs], dim=2), ROW)
