"""The evaluate stage: official scores under a named protocol, and pictures."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from facegan.core.atomic import replacing
from facegan.core.digests import file_sha256
from facegan.core.events import Message, OnEvent, silent
from facegan.core.history import NAME, best_score, read_history
from facegan.core.outputs import check_output_file, check_output_folder
from facegan.core.paths import require_folder
from facegan.core.pictures import attempt, grid, save_picture
from facegan.data.dataset import load_images, require_same_data
from facegan.evaluate import plots
from facegan.evaluate.companions import companions
from facegan.evaluate.neighbours import Memorisation
from facegan.evaluate.protocol import SEEDS, describe_protocol
from facegan.evaluate.scorer import FeatureSample, Scorer
from facegan.features.frechet import Statistics
from facegan.models.architectures import Generator
from facegan.models.files import load_generator
from facegan.models.sampling import generate, latents
from facegan.params import Evaluate, Extractor
from facegan.runtime import distributed

# The untrained generator's FID is computed with all sets of latents, instead of the first alone, if
# it is below this many times the trained one's: only then does its noise matter.
CLOSE = 2
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
    training. A picture that cannot be written is left out and reported. Under `torchrun`, the
    images are distributed over the processes.

    Args:
        requested: the extractor that `official` must have been computed with.
    Raises:
        FaceganError: if an input is missing, if generator, reference and dataset don't match, or
            if the generator's output contains NaN.
    """
    require_folder(trained, "the folder that facegan train wrote")
    statistics, count = _load_reference(official, dataset, requested), params.num_samples
    events = read_history(trained / NAME)
    generator = load_generator(trained / "generator.safetensors", device)
    untrained = load_generator(trained / "untrained.safetensors", device)
    with distributed.process_group(device) as group:
        if group.is_main:  # other machines may lack the outputs' folders
            _check_outputs(out, metrics, (trained, dataset, official))
        scorer = Scorer(statistics, (len(SEEDS) + 1) * count, device, group, on_event)
        fids, sample = _fids(scorer, generator, untrained, count)
    if group.rank > 0:
        return
    others, memorisation = companions(statistics, sample, count)
    missing = [f"no score for {metric}: {why}" for metric, why in others["omitted"].items()]
    for text in [*missing, *others["warnings"]]:
        scorer.on_event(Message(text))
    content = {
        **fids,
        **others,
        **_training_summary(events),
        "generator": file_sha256(trained / "generator.safetensors"),
        "reference": file_sha256(official),
    }
    with replacing(metrics) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    nearest = partial(_pairs, generator, memorisation, statistics, dataset)
    plot = partial(plots.plot_quick_fid, events, content)
    _write_pictures(partial(_samples, generator), nearest, plot, out, on_event)


def _write_pictures(
    samples: Callable[[], NDArray[np.uint8]],
    nearest: Callable[[], NDArray[np.uint8]],
    plot: Callable[[Path], None],
    out: Path,
    on_event: OnEvent,
) -> None:
    writers: dict[str, Callable[[Path], None]] = {
        PICTURE: lambda path: save_picture(samples(), path),
        NEAREST: lambda path: save_picture(nearest(), path),
        PLOT: plot,
    }
    with replacing(out) as folder:
        folder.mkdir()
        for name, write in writers.items():
            attempt(folder / name, write, on_event)


def _load_reference(official: Path, dataset: Path, requested: Extractor) -> Statistics:
    """
    Raises:
        FaceganError: if `official` was computed on a different dataset or with other settings, or
            is for the quick FID.
    """
    statistics = Statistics.load(official)
    require_same_data(official, statistics.metadata, dataset)
    statistics.require_extractor(official, requested)
    statistics.require_official(official)
    return statistics


def _check_outputs(out: Path, metrics: Path, inputs: tuple[Path, ...]) -> None:
    written = (name for name in (PICTURE, NEAREST, PLOT) if (out / name).is_file())
    check_output_folder(out, next(written, PICTURE), inputs)
    check_output_file(metrics, '"protocol"', inputs)


def _fids(
    scorer: Scorer, generator: Generator, untrained: Generator, num_samples: int
) -> tuple[dict[str, Any], FeatureSample]:
    """Mean, spread and single values of the FID over the sets of latents, after training and
    before; the protocol; and the trained generator's features of the first set.
    """
    samples = [scorer.sample(generator, num_samples, seed) for seed in SEEDS]
    fids = [sample.fid for sample in samples]
    protocol = describe_protocol(scorer.statistics, num_samples)
    scores = {protocol["name"]: mean(fids), f"{protocol['name']}_spread": stdev(fids)}
    before = [scorer.sample(untrained, num_samples, SEEDS[0]).fid]
    scores["untrained"] = before[0]
    if before[0] < CLOSE * mean(fids):
        scorer.total += (len(SEEDS) - 1) * num_samples
        before += [scorer.sample(untrained, num_samples, seed).fid for seed in SEEDS[1:]]
        scores["untrained_spread"] = stdev(before)
    sets = {"fids": fids, "untrained_fids": before}
    return {
        **{name: round(value, 4) for name, value in scores.items()},
        **{name: [round(value, 4) for value in values] for name, values in sets.items()},
        "protocol": protocol,
    }, samples[0]


def _training_summary(events: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Images seen at the best snapshot, and number of collapses."""
    collapses = sum(event["event"] == "collapse" for event in events)
    return {"images_seen": best_score(events)["images_seen"], "collapses": collapses}


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
