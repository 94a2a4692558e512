"""Does the quick FID rank trainings as the official one does? Over the runs of ablations.

    PYTHONPATH=tests python -m benchmarks.ranking /tmp/ablation [/tmp/another ...]

A row is a quick FID that could be: input size and number of generated images. Spearman's rank
correlation is with the official FIDs of `metrics.json`; 1 is the same order.
"""

import itertools
import json
import sys
import time
from pathlib import Path

import torch
from scipy.stats import spearmanr
from torch import Tensor

from benchmarks.harness import machine
from facegan.cli.device import choose_device, keep_freed_memory
from facegan.data.dataset import load_images
from facegan.features.extraction import Extraction
from facegan.features.frechet import FeatureMoments, FrechetDistance, Statistics
from facegan.models.files import load_generator
from facegan.models.sampling import generate, latents
from facegan.params import Extractor
from facegan.train.monitor import QUICK_SEED

SIZES = 32, 64, 96, 112
COUNTS = 500, 1_500
BATCH = 500


def main(*folders: str) -> None:
    keep_freed_memory()
    runs = sorted(path.parent for name in folders for path in Path(name).glob("*/metrics.json"))
    metrics = [json.loads((run / "metrics.json").read_text("utf-8")) for run in runs]
    names = {content["protocol"]["name"] for content in metrics}
    if len(names) != 1 or len(runs) < 3:
        sys.exit(f"ranking: {len(runs)} runs, protocols {sorted(names)}; valid: 3 or more of one")
    (name,) = names
    official = [content[name] for content in metrics]
    print(f"{len(runs)} trainings, {name} {min(official):.1f} to {max(official):.1f}", flush=True)
    print("| quick FID | rank correlation | seconds a score |\n|---|---|---|", flush=True)
    for size in SIZES:
        for count, fids, spent in _quick_fids(runs, size):
            correlation = spearmanr(official, fids).statistic
            print(
                f"| {size} pixels, {count:,} images | {correlation:.2f} | {spent:.1f} |", flush=True
            )
    print(f"{machine()}.")


def _quick_fids(runs: list[Path], size: int) -> list[tuple[int, list[float], float]]:
    """For each number of images: that number, the FID of each run, and the seconds of one."""
    settings = Extractor(extractor="efficientnet-lite0", input_size=size, dtype="bfloat16")
    extraction = Extraction(settings, choose_device(), images=0)
    real = _statistics(runs[0].parent / "dataset", extraction)
    found: list[tuple[int, list[float], float]] = [(count, [], 0.0) for count in COUNTS]
    for run in runs:
        features, spent = _features(run / "train" / "generator.safetensors", extraction)
        for i, (count, fids, total) in enumerate(found):
            distance = FrechetDistance(real)
            distance.update(features[:count])
            fids.append(float(distance.compute()))
            found[i] = count, fids, total + spent * count / max(COUNTS) / len(runs)
    return found


def _statistics(dataset: Path, extraction: Extraction) -> Statistics:
    moments = FeatureMoments(extraction.num_features)
    parts = (load_images(dataset, part).split(BATCH) for part in ("images", "holdout"))
    for images in itertools.chain(*parts):
        moments.update(extraction(images))
    return Statistics.from_moments(moments)


def _features(path: Path, extraction: Extraction) -> tuple[Tensor, float]:
    """Features of the images that the quick FID draws, and the seconds that they took."""
    began, generator = time.perf_counter(), load_generator(path, extraction.device)
    z = latents(max(COUNTS), generator.latent_dim, QUICK_SEED)
    features = torch.cat([extraction(images) for images in generate(generator, z)])
    return features, time.perf_counter() - began


if __name__ == "__main__":
    main(*sys.argv[1:])
