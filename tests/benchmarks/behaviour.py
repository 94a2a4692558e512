"""Sanity checks: sets of images whose scores are predictable."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from benchmarks.harness import SHARED_FACES, Line, Skipped
from benchmarks.photographs import SIZE, celeba64, pack
from benchmarks.training import preset
from facegan.cli.device import choose_device, keep_freed_memory
from facegan.core.events import silent
from facegan.data.dataset import load_images
from facegan.evaluate.sample_metrics import sample_metrics
from facegan.evaluate.scorer import Scorer
from facegan.features.frechet import Statistics
from facegan.models.architectures import Generator, build_generator, initialise
from facegan.models.files import load_generator
from facegan.models.sampling import BATCH, generate, latents
from facegan.params import Extractor, Reference
from facegan.reference.stage import reference
from facegan.runtime.autocast import effective_dtype

COUNT, SUBSET, INPUT_SIZE, SEED = 4_000, 5_000, 112, 19
# Environment variable: output folder of train, on these photographs with the preset's split.
TRAINED = "TRAINED"


@dataclass(frozen=True)
class Scores:
    fid: float
    kid: float
    precision: float
    recall: float
    memorised: float


Rule = tuple[str, Callable[[Scores, Scores], bool]]
# An expectation, and whether a set's scores meet it, compared with those of another set.
#
# 0.01 is expected of unseen photographs; with some 1,000 held-out images and 4,000 samples, its
# standard deviation is 0.004.
UNSEEN: Rule = "memorised < 0.02", lambda own, _: own.memorised < 0.02
COPIED: Rule = "memorised 1", lambda own, _: own.memorised == 1
WORSE: Rule = "a higher FID", lambda own, other: own.fid > other.fid
LESS_REALISTIC: Rule = (
    "a higher FID, a lower precision",
    lambda own, other: own.fid > other.fid and own.precision < other.precision,
)
LESS_DIVERSE: Rule = (
    "half the recall, memorised < 0.02",
    lambda own, other: own.recall < other.recall / 2 and own.memorised < 0.02,
)
COPIED_LESS_DIVERSE: Rule = (
    "half the recall, memorised 1",
    lambda own, other: own.recall < other.recall / 2 and own.memorised == 1,
)
UNRELATED: Rule = (
    "a higher FID, precision 0, recall 0",
    lambda own, other: own.fid > other.fid and own.precision == own.recall == 0,
)


@dataclass(frozen=True)
class Set:
    """Images with an expectation.

    Attributes:
        make: returns uint8 (COUNT, H, W, C).
        baseline: name of the set to compare with: an earlier one or itself.
    """

    name: str
    make: Callable[[], Tensor]
    baseline: str
    rule: Rule


def run() -> Iterator[Line]:
    """The reference covers all photographs; its subset is 5,000 training images.

    4,000 of the remaining training images are the unseen ones, and other sets are derived from
    them. The held-out images, too few for a set, calibrate memorisation.
    """
    if not SHARED_FACES.exists():
        raise Skipped(f"photographs not found: {SHARED_FACES}")
    with TemporaryDirectory() as folder:
        work = Path(folder)
        keep_freed_memory()
        pack(SHARED_FACES.parent, work / "packed", celeba64())
        statistics = _measure(work)
        sets = _sets(load_images(work / "packed"), statistics.train_indices)
        scorer = Scorer(statistics, len(sets) * COUNT, choose_device())
        known: dict[str, Scores] = {}
        for images in sets:
            known[images.name] = _score(scorer, images.make())
            yield _line(images, known[images.name], known[images.baseline])


def _measure(work: Path) -> Statistics:
    dtype = effective_dtype("bfloat16", choose_device(), silent)
    lite = Extractor(extractor="efficientnet-lite0", input_size=INPUT_SIZE, dtype=dtype)
    quick = lite.model_copy(update={"input_size": 32})
    params = Reference(quick=quick, official=lite, subset=SUBSET)
    files = work / "quick.safetensors", work / "official.safetensors"
    reference(work / "packed", *files, params, choose_device())
    return Statistics.load(files[1])


def _score(scorer: Scorer, images: Tensor) -> Scores:
    batches = ((first, images[first : first + BATCH]) for first in range(0, COUNT, BATCH))
    sample = scorer.measure(batches, COUNT)
    kid, _, precision, recall, memorised = sample_metrics(scorer.statistics, sample).scores.values()
    return Scores(sample.fid, kid, precision, recall, memorised)


def _line(images: Set, own: Scores, other: Scores) -> Line:
    expectation, holds = images.rule
    return Line(
        images.name,
        f"FID {own.fid:.2f}, KID {own.kid:.4f}",
        f"FID {other.fid:.2f}: {images.baseline}",
        f"precision {own.precision:.3f}, recall {own.recall:.3f}, memorised {own.memorised:.4f}",
        expectation,
        holds(own, other),
    )


def _sets(photographs: Tensor, train_indices: Tensor) -> list[Set]:
    """
    Args:
        train_indices: photographs whose features the reference stores.
    """
    unseen_mask = torch.ones(len(photographs), dtype=torch.bool)
    unseen_mask[train_indices] = False
    unseen, seen = photographs[unseen_mask][:COUNT], photographs[train_indices[:COUNT]]
    new = "unseen photographs"
    sets = [
        Set(new, lambda: unseen, new, UNSEEN),
        Set("blurred, radius 1", partial(_blur, unseen, 1), new, WORSE),
        Set("blurred, radius 2", partial(_blur, unseen, 2), "blurred, radius 1", WORSE),
        Set("noise, 8 levels", partial(_add_noise, unseen, 8), new, LESS_REALISTIC),
        Set("noise, 24 levels", partial(_add_noise, unseen, 24), "noise, 8 levels", LESS_REALISTIC),
        Set("a quarter of unseen, four times", partial(_repeat, unseen), new, LESS_DIVERSE),
        Set("training images", lambda: seen, new, COPIED),
        Set("a quarter of these, four times", partial(_repeat, seen), new, COPIED_LESS_DIVERSE),
        Set("untrained generator", _sample_untrained, "noise, 24 levels", UNRELATED),
    ]
    if folder := os.environ.get(TRAINED):
        sample_trained = partial(_sample_trained, Path(folder) / "generator.safetensors")
        rule = ("a lower FID", lambda own, other: own.fid < other.fid)
        sets.append(Set("trained generator", sample_trained, "untrained generator", rule))
    return sets


def _blur(images: Tensor, radius: float) -> Tensor:
    blur = ImageFilter.GaussianBlur(radius)
    pictures = [np.asarray(Image.fromarray(image.numpy()).filter(blur)) for image in images]
    return torch.from_numpy(np.stack(pictures))


def _add_noise(images: Tensor, levels: float) -> Tensor:
    """Add Gaussian noise with standard deviation `levels`."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(SEED))
    return (images + levels * noise).round().clamp(0, 255).to(torch.uint8)


def _repeat(images: Tensor) -> Tensor:
    return images[: COUNT // 4].repeat(4, 1, 1, 1)


def _sample_untrained() -> Tensor:
    params = preset("celeba64").train
    config = {
        "size": SIZE,
        "channels": 3,
        "latent_dim": params.latent_dim,
        "base_channels": params.base_channels,
    }
    generator = build_generator(params.architecture, **config)
    initialise(params.architecture, generator, torch.Generator().manual_seed(SEED))
    return _sample(generator.eval())


def _sample_trained(path: Path) -> Tensor:
    return _sample(load_generator(path, choose_device()))


def _sample(generator: Generator) -> Tensor:
    z = latents(COUNT, generator.latent_dim, SEED)
    return torch.cat([images.cpu() for images in generate(generator, z)])
