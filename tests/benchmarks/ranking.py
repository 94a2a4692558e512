"""Does the quick FID rank generators as the official one does?

    PYTHONPATH=tests python -m benchmarks.ranking ABLATION/dataset \
        ABLATION/reference/official.safetensors ABLATION/*/train/generator.safetensors

Generators may also be the snapshots of trainings, which `benchmarks.snapshots` keeps. A row is a
score that the quick FID could be: input size, number of generated images, against all photographs
or the held-out ones. `infinity` is the FID extrapolated to infinitely many images (Chong and
Forsyth 2020, arXiv 1911.07023, section 3). Spearman's rank correlation with the official FID, of
one set of latents, is 1 if the order is the same. *Lost by its choices*: how much higher the
official FID is of the snapshot that the score prefers in a folder than the lowest, in the mean.
"""

import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from benchmarks.harness import machine
from facegan.cli.device import choose_device, keep_freed_memory
from facegan.data.dataset import load_images
from facegan.evaluate.kid import kernel_distance
from facegan.evaluate.protocol import SEEDS, score_name
from facegan.evaluate.scorer import Scorer
from facegan.features.extraction import Extraction
from facegan.features.frechet import FeatureMoments, FrechetDistance, Statistics
from facegan.models.architectures import Generator
from facegan.models.files import load_generator
from facegan.models.sampling import generate, latents
from facegan.params import Extractor
from facegan.train.monitor import QUICK_SEED

SHARES = 0.25, 0.5, 1  # of the official input size
COUNTS = 500, 1_300, 2_000
OFFICIAL, BATCH, POINTS = 5_000, 500, 5
HEADER = "| score | rank correlation | lost by its choices | share of the official time |"

# The features of a generator's images -> a score.
Score = Callable[[Tensor], float]


def main(dataset: str, official: str, *paths: str) -> None:
    keep_freed_memory()
    reference, device = Statistics.load(official), choose_device()
    generators = [load_generator(Path(path), device) for path in paths]
    if len(generators) < 3:
        sys.exit(f"ranking: {len(generators)} generators; valid: 3 or more")
    scorer = Scorer(reference, OFFICIAL * len(generators), device)
    began = time.perf_counter()
    fids = [scorer.sample(generator, OFFICIAL, SEEDS[0]).fid for generator in generators]
    spent = (time.perf_counter() - began) * len(SEEDS) / len(generators)
    for path, fid in zip(paths, fids, strict=True):
        print(f"{path}: {fid:.2f}", flush=True)
    name = score_name("fid", OFFICIAL, reference)
    print(
        f"\n{len(fids)} generators, {name} {min(fids):.1f} to {max(fids):.1f}, {spent:.0f} s each"
    )
    print(f"\n{HEADER}\n|---|---|---|---|", flush=True)
    settings = Extractor(**reference.metadata["extractor"])
    for share in SHARES:
        size = max(int(settings.input_size * share), 32)
        quick = settings.model_copy(update={"input_size": size, "dtype": "bfloat16"})
        for row, scores, seconds in _rows(Path(dataset), quick, generators, device):
            ranked = f"{spearmanr(fids, scores).statistic:.3f} | {_lost(paths, fids, scores):.2f}"
            print(f"| {size} pixels, {row} | {ranked} | {seconds / spent:.1%} |", flush=True)
    print(f"\n{machine()}.")


def _lost(paths: Sequence[str], fids: Sequence[float], scores: Sequence[float]) -> float:
    """How much higher the official FID of the best by a score is than the lowest, in the mean over
    folders."""
    folders = defaultdict(list)
    for path, fid, score in zip(paths, fids, scores, strict=True):
        folders[Path(path).parent].append((score, fid))
    losses = [min(found)[1] - min(fid for _, fid in found) for found in folders.values()]
    return statistics.mean(losses)


def _rows(
    dataset: Path, settings: Extractor, generators: list[Generator], device: torch.device
) -> Iterator[tuple[str, list[float], float]]:
    """Name, score of each generator, and mean seconds of one, of each score at an input size."""
    extraction = Extraction(settings, device, images=0)
    images, holdout = (
        _features(load_images(dataset, part).split(BATCH), extraction)
        for part in ("images", "holdout")
    )
    began = time.perf_counter()
    drawn = [_drawn(generator, extraction) for generator in generators]
    drawing = (time.perf_counter() - began) / max(COUNTS) / len(drawn)
    for count in COUNTS:
        for name, score in _scores(images, holdout, count).items():
            began = time.perf_counter()
            scores = [score(features[:count]) for features in drawn]
            scoring = (time.perf_counter() - began) / len(drawn)
            yield f"{count:,} images, {name}", scores, drawing * count + scoring


def _scores(images: Tensor, holdout: Tensor, count: int) -> dict[str, Score]:
    everything = torch.cat([images, holdout])
    whole = _fid(everything)
    return {
        "FID": whole,
        "FID, held-out photographs": _fid(holdout),
        "FID, infinity": lambda features: _extrapolated(whole, features),
        "KID": lambda features: kernel_distance(everything[:count], features, 0).mean,
    }


def _fid(real: Tensor) -> Score:
    moments = FeatureMoments(real.shape[1])
    moments.update(real)
    against = Statistics.from_moments(moments)

    def fid(features: Tensor) -> float:
        distance = FrechetDistance(against)
        distance.update(features)
        return float(distance.compute())

    return fid


def _extrapolated(fid: Score, features: Tensor) -> float:
    """The intercept of a line through FIDs over one by the number of images."""
    counts = np.linspace(len(features) // 2, len(features), POINTS).astype(int)
    rng = torch.Generator().manual_seed(0)
    orders = [torch.randperm(len(features), generator=rng)[:count] for count in counts]
    return float(np.polyfit(1 / counts, [fid(features[order]) for order in orders], 1)[1])


def _features(batches: Iterable[Tensor], extraction: Extraction) -> Tensor:
    return torch.cat([extraction(images).cpu().float() for images in batches])


def _drawn(generator: Generator, extraction: Extraction) -> Tensor:
    """Features of the images that the quick FID draws."""
    z = latents(max(COUNTS), generator.latent_dim, QUICK_SEED)
    return _features(generate(generator, z), extraction)


if __name__ == "__main__":
    main(*sys.argv[1:])
