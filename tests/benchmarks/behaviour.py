"""What the scores say of sets of images of which one knows what should be said."""

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
from facegan.models.sampling import BLOCK, generate, latent_block
from facegan.params import Extractor, Reference
from facegan.reference.stage import reference
from facegan.runtime.autocast import effective_dtype

COUNT, SUBSET, INPUT_SIZE, SEED = 4_000, 5_000, 112, 19
# A folder that train wrote, from these photographs and with the preset's split of them.
TRAINED = "TRAINED"


@dataclass(frozen=True)
class Scores:
    fid: float
    kid: float
    precision: float
    recall: float
    memorised: float


Rule = tuple[str, Callable[[Scores, Scores], bool]]
# What should be said of a set, and whether it is, beside the scores of another one.
#
# 0.01 is expected of photographs; with some 1,000 held-out ones as the yardstick and 4,000 images
# that has a standard deviation of 0.004.
HONEST: Rule = "memorised < 0.02", lambda own, _: own.memorised < 0.02
COPIED: Rule = "memorised 1", lambda own, _: own.memorised == 1
FURTHER: Rule = "a higher FID", lambda own, other: own.fid > other.fid
ODDER: Rule = (
    "a higher FID, a lower precision",
    lambda own, other: own.fid > other.fid and own.precision < other.precision,
)
NARROWER: Rule = (
    "half the recall, memorised < 0.02",
    lambda own, other: own.recall < other.recall / 2 and own.memorised < 0.02,
)
LEARNT: Rule = (
    "half the recall, memorised 1",
    lambda own, other: own.recall < other.recall / 2 and own.memorised == 1,
)
WORST: Rule = (
    "a higher FID, precision 0, recall 0",
    lambda own, other: own.fid > other.fid and own.precision == own.recall == 0,
)


@dataclass(frozen=True)
class Set:
    """Images, and what should be said of them.

    Attributes:
        make: uint8 (COUNT, H, W, C).
        beside: the set, an earlier one or itself, that they are compared with.
    """

    name: str
    make: Callable[[], Tensor]
    beside: str
    rule: Rule


def run() -> Iterator[Line]:
    """The reference is of all photographs, and 5,000 of those that may be trained on are its
    subset. New to this are the rest of them, 4,000 of which are the first set and make others. The
    held-out ones, too few for a set, remain what memorisation is measured by.
    """
    if not SHARED_FACES.exists():
        raise Skipped(f"{SHARED_FACES} is not there; it has the photographs")
    with TemporaryDirectory() as folder:
        work = Path(folder)
        keep_freed_memory()
        pack(SHARED_FACES.parent, work / "packed", celeba64())
        statistics = _measure(work)
        sets = _sets(load_images(work / "packed"), statistics.train_indices)
        scorer = Scorer(statistics, len(sets) * COUNT, choose_device())
        known: dict[str, Scores] = {}
        for each in sets:
            known[each.name] = _score(scorer, each.make())
            yield _line(each, known[each.name], known[each.beside])


def _measure(work: Path) -> Statistics:
    possible = effective_dtype("bfloat16", choose_device(), silent)
    lite = Extractor(extractor="efficientnet-lite0", input_size=INPUT_SIZE, dtype=possible)
    quick = lite.model_copy(update={"input_size": 32})
    params = Reference(quick=quick, official=lite, subset=SUBSET)
    files = work / "quick.safetensors", work / "official.safetensors"
    reference(work / "packed", *files, params, choose_device())
    return Statistics.load(files[1])


def _score(scorer: Scorer, images: Tensor) -> Scores:
    batches = ((first, images[first : first + BLOCK]) for first in range(0, COUNT, BLOCK))
    sample = scorer.measure(batches, COUNT)
    kid, _, precision, recall, memorised = sample_metrics(scorer.statistics, sample).scores.values()
    return Scores(scorer.fid(sample), kid, precision, recall, memorised)


def _line(each: Set, own: Scores, other: Scores) -> Line:
    expectation, holds = each.rule
    return Line(
        each.name,
        f"FID {own.fid:.2f}, KID {own.kid:.4f}",
        f"FID {other.fid:.2f}: {each.beside}",
        f"precision {own.precision:.3f}, recall {own.recall:.3f}, memorised {own.memorised:.4f}",
        expectation,
        holds(own, other),
    )


def _sets(photographs: Tensor, rows: Tensor) -> list[Set]:
    """
    Args:
        rows: of the photographs whose features the reference keeps.
    """
    others = torch.ones(len(photographs), dtype=torch.bool)
    others[rows] = False
    new, seen = photographs[others][:COUNT], photographs[rows[:COUNT]]
    sets = [
        Set("new photographs", lambda: new, "new photographs", HONEST),
        Set("blurred, radius 1", partial(_blur, new, 1), "new photographs", FURTHER),
        Set("blurred, radius 2", partial(_blur, new, 2), "blurred, radius 1", FURTHER),
        Set("noise, 8 levels", partial(_add_noise, new, 8), "new photographs", ODDER),
        Set("noise, 24 levels", partial(_add_noise, new, 24), "noise, 8 levels", ODDER),
        Set("a quarter of the new, four times", partial(_repeat, new), "new photographs", NARROWER),
        Set("photographs trained on", lambda: seen, "new photographs", COPIED),
        Set("a quarter of those, four times", partial(_repeat, seen), "new photographs", LEARNT),
        Set("untrained generator", _draw_untrained, "noise, 24 levels", WORST),
    ]
    if folder := os.environ.get(TRAINED):
        draw_trained = partial(_draw_trained, Path(folder) / "generator.safetensors")
        rule = ("a lower FID", lambda own, other: own.fid < other.fid)
        sets.append(Set("trained generator", draw_trained, "untrained generator", rule))
    return sets


def _blur(images: Tensor, radius: float) -> Tensor:
    blur = ImageFilter.GaussianBlur(radius)
    pictures = [np.asarray(Image.fromarray(image.numpy()).filter(blur)) for image in images]
    return torch.from_numpy(np.stack(pictures))


def _add_noise(images: Tensor, levels: float) -> Tensor:
    """Gaussian noise of that standard deviation."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(SEED))
    return (images + levels * noise).round().clamp(0, 255).to(torch.uint8)


def _repeat(images: Tensor) -> Tensor:
    return images[: COUNT // 4].repeat(4, 1, 1, 1)


def _draw_untrained() -> Tensor:
    params = preset("celeba64").train
    config = {
        "size": SIZE,
        "channels": 3,
        "latent_dim": params.latent_dim,
        "base_channels": params.base_channels,
    }
    generator = build_generator(params.architecture, **config)
    initialise(params.architecture, generator, torch.Generator().manual_seed(SEED))
    return _draw(generator.eval())


def _draw_trained(path: Path) -> Tensor:
    return _draw(load_generator(path, choose_device()))


def _draw(generator: Generator) -> Tensor:
    latents = (latent_block(each, generator.latent_dim, SEED) for each in range(COUNT // BLOCK))
    return torch.cat([images.cpu() for z in latents for images in generate(generator, z)])
