"""Time and memory of scoring, against unmodified networks and torch-fidelity."""

import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from subprocess import DEVNULL, Popen
from subprocess import run as run_command
from tempfile import TemporaryDirectory
from unittest import mock

import numpy as np
import psutil
import torch
import yaml
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from benchmarks.harness import (
    SHARED_FACES,
    Line,
    compare,
    cpu_flags,
    seconds,
    serve,
    served,
    timing,
)
from benchmarks.photographs import FACES, SIZE, celeba64, pack, write_many
from benchmarks.training import preset
from conftest import START
from facegan.cli.device import choose_device, keep_freed_memory
from facegan.core.digests import file_sha256
from facegan.core.events import silent
from facegan.core.history import NAME, start_history
from facegan.data.dataset import data_sha256, load_images, preprocessing
from facegan.evaluate import stage as step
from facegan.evaluate.sample_metrics import sample_metrics
from facegan.evaluate.scorer import FeatureSample, Scorer
from facegan.features import extraction, inception_weights
from facegan.features.extraction import Extraction
from facegan.features.extractors import BATCH, EXTRACTORS, EfficientNetLite0
from facegan.features.frechet import FeatureMoments, FrechetDistance, Statistics
from facegan.models.architectures import build_generator, initialise
from facegan.models.files import save_network
from facegan.params import INCEPTION_SIZE, Evaluate, Extractor, Reference
from facegan.reference.stage import reference
from facegan.runtime.autocast import effective_dtype

CPU, SIDE = torch.device("cpu"), 224
# Batch sizes that the plain network may choose from, and images it is measured with.
BATCHES, FEW, PART = (5, 10, 50), 50, 500
STEPS = ("plain network", "allocator keeps memory", "channels last", "compiled", "bfloat16")
STEADY, ROUNDS = 100, 3
# PNGs in a folder; torch-fidelity's command reads them twice.
SMALL, LARGE = 20, 120
# num_samples of the presets, and of the evaluation that is measured.
EVALUATION, FAKES = 5_000, 100
# num_samples whose peak memory is compared, and that of two processes.
MEMORY, WIDE = (1_000, 10_000), 4_000


def run() -> Iterator[Line]:
    """On a CPU: speed against the plain network and torch-fidelity, the parts of an evaluation,
    which features it extracts, its memory, and two processes.
    """
    with mock.patch.dict(os.environ):  # importing the tests' settings changes it
        from inception import random_weights
    with (
        TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, {"FACEGAN_DEVICE": "cpu"}),
        random_weights(Path(folder)),
    ):
        work = Path(folder)
        packed = work / "packed"
        pack(_photographs(work), packed, celeba64())
        yield from _efficientnet(packed)
        yield from _steps(packed)
        yield _inception(work, packed)
        yield _evaluation(work, packed)
        yield from _tiny(work, packed)
        yield from _in_two_processes(work, packed)


def _photographs(work: Path) -> Path:
    if SHARED_FACES.exists():
        return SHARED_FACES.parent
    write_many(partial(_noise, work / "noise"), FACES)
    return work / "noise"


def _noise(folder: Path, number: int) -> None:
    pixels = np.random.default_rng(number).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    Image.fromarray(pixels).save(folder / f"{number:05}.png")


def pictures(packed: Path) -> Tensor:
    """All images of the dataset, uint8 (n, 64, 64, 3)."""
    return torch.cat([load_images(packed, part) for part in ("images", "holdout")])


def lite(input_size: int, dtype: str) -> Extractor:
    settings = {"extractor": "efficientnet-lite0", "input_size": input_size}
    return Extractor.model_validate({**settings, "dtype": dtype})


def _inception_settings() -> Extractor:
    dtype = effective_dtype("bfloat16", CPU, silent)
    return Extractor(extractor="inception", input_size=INCEPTION_SIZE, dtype=dtype)


def extract(packed: str) -> None:
    """Features and moments of all images, as in reference and evaluate."""
    device, images = choose_device(), pictures(Path(packed))
    keep_freed_memory()
    settings = lite(SIDE, effective_dtype("bfloat16", device, silent))
    extraction = Extraction(settings, device, len(images))
    moments = FeatureMoments(extraction.num_features).to(device)
    for block in images.split(BATCH):
        moments.update(extraction(block))


def plain_network() -> Callable[[Tensor], Tensor]:
    """EfficientNet-Lite0 as its package provides it, with preprocessing and pooling."""
    network = EfficientNetLite0(SIDE, autocast=False).network
    network = network.to(memory_format=torch.contiguous_format)

    def features(images: Tensor) -> Tensor:
        x = images.permute(0, 3, 1, 2).contiguous().float()  # NHWC => NCHW
        x = interpolate(x, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)
        maps: Tensor = network.extract_features((x - 127) / 128)
        return maps.mean((2, 3))

    return features


def variant(name: str) -> Callable[[Tensor], Tensor]:
    """One of STEPS, including those before it; or Inception."""
    if name == STEPS[0]:
        return plain_network()
    keep_freed_memory()
    if name == STEPS[1]:
        return plain_network()
    many = extraction.WORTH_COMPILING
    if name == "inception":
        inception_weights.SHA256 = file_sha256(Path(os.environ[inception_weights.VARIABLE]))
        return Extraction(_inception_settings(), CPU, many)
    dtype = "bfloat16" if name == "bfloat16" else "float32"
    return Extraction(lite(SIDE, dtype), CPU, 0 if name == "channels last" else many)


def serve_variant(name: str, packed: str, batch: int, count: int) -> None:
    """Extract `count` images for each line on stdin."""
    extract, images = variant(name), pictures(Path(packed))[:count]
    with torch.no_grad():
        extract(images[:batch])
        serve(lambda: [extract(part) for part in images.split(batch)])


def _served(
    name: str, packed: Path, batch: int = BATCH, count: int = STEADY
) -> AbstractContextManager[Callable[[], None]]:
    """A callable that extracts `count` images with a variant, in its own process."""
    arguments = f"{name!r}, {str(packed)!r}, {batch}, {count}"
    return served(f"from benchmarks.scoring import serve_variant; serve_variant({arguments})")


def _efficientnet(packed: Path) -> Iterator[Line]:
    """Against the plain network, in our batch size and in its best."""
    count, speeds = len(pictures(packed)), {}
    for batch in BATCHES:
        with _served(STEPS[0], packed, batch, FEW) as extract_few:
            speeds[batch] = seconds(extract_few)
    best = min(BATCHES, key=lambda batch: speeds[batch])
    program = f"from benchmarks.scoring import extract; extract({str(packed)!r})"
    command = [sys.executable, "-c", program]
    for batch, at_least in {best: 0, BATCH: 2.5}.items():
        with _served(STEPS[0], packed, batch, PART) as plain, TemporaryDirectory() as cache:
            environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache}
            before = seconds(plain)
            ours = seconds(partial(run_command, command, env=environment, check=True))
            theirs = (before + seconds(plain)) / 2 * count / PART
        ratio = theirs / ours
        yield Line(
            f"{count:,} images, EfficientNet-Lite0 at {SIDE}, including startup and compilation, "
            f"vs plain eager float32 in batches of {batch}"
            f"{', its best' if batch == best else ''}, extrapolated from {PART} before and after",
            f"{ours:.0f} s", f"{theirs:.0f} s", f"{ratio:.2f}x",
            f">= {at_least}x" if at_least else "-", ratio >= at_least,
        )  # fmt: skip


def _steps(packed: Path) -> Iterator[Line]:
    dtype = effective_dtype("bfloat16", CPU, silent)
    for before, after in pairwise(STEPS if dtype == "bfloat16" else STEPS[:-1]):
        with _served(before, packed) as baseline, _served(after, packed) as ours:
            name = f"{STEADY} images in batches of {BATCH}: {after} vs {before}"
            line = compare(name, ours, baseline, 0, ROUNDS)
        yield dataclasses.replace(line, demanded="-")


def _inception(work: Path, packed: Path) -> Line:
    """Seconds per image of an evaluation, extrapolated from a part of it."""
    few, many = (_write(work / str(count), pictures(packed)[:count]) for count in (SMALL, LARGE))
    count, images = 2 * (LARGE - SMALL), 4 * EVALUATION
    begin = time.perf_counter()
    with _served("inception", packed, BATCH, count) as served:
        start = time.perf_counter() - begin
        rounds = [(seconds(served), _fidelity(few), _fidelity(many)) for _ in range(ROUNDS)]
    ours = [start / images + own / count for own, _, _ in rounds]
    theirs = [less / images + (more - less) / count for _, less, more in rounds]
    ratios = [baseline / own for own, baseline in zip(ours, theirs, strict=True)]
    ratio, fast = median(ratios), bool(cpu_flags() & {"amx_bf16", "avx512_bf16"})
    return Line(
        f"seconds per image of {images:,}, Inception, including startup and compilation, "
        f"vs torch-fidelity's command, extrapolated from {count}",
        f"{median(ours):.4f}", f"{median(theirs):.4f}",
        f"{ratio:.2f}x ({' '.join(f'{value:.2f}' for value in ratios)})",
        ">= 4x" if fast else "- (4x with native bfloat16)", ratio >= 4 or not fast,
    )  # fmt: skip


def _write(folder: Path, images: Tensor) -> Path:
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image.numpy()).save(folder / f"{number:05}.png")
    return folder


def _fidelity(folder: Path) -> float:
    """Seconds for the FID of a folder against itself, which reads its images twice."""
    command = [sys.executable, "-m", "torch_fidelity.fidelity", "--cpu", "--fid"]
    command += ["--input1", str(folder), "--input2", str(folder)]
    command += ["--feature-extractor-weights-path", os.environ[inception_weights.VARIABLE]]
    return seconds(lambda: run_command(command, capture_output=True, check=True))


def _write_training(folder: Path, base_channels: int) -> None:
    """The files of a training that evaluate reads, with untrained networks."""
    folder.mkdir()
    architecture = preset("celeba64").train.architecture
    config = {"size": SIZE, "channels": 3, "latent_dim": 100, "base_channels": base_channels}
    for seed, name in enumerate(("generator", "untrained")):
        network = build_generator(architecture, **config)
        initialise(architecture, network, torch.Generator().manual_seed(seed))
        whole = {"architecture": architecture, **config}
        save_network(network.state_dict(), whole, folder / f"{name}.safetensors")
    score = {"event": "score", "images_seen": 1, "quick_fid": 1.0}
    start_history(folder / NAME, [START, score])


def _write_official(packed: Path, settings: Extractor, count: int, path: Path) -> Statistics:
    """Statistics of `count` random features instead of photographs'."""
    dimensions, images = EXTRACTORS[settings.extractor].num_features, load_images(packed)
    features, moments = torch.randn(count, dimensions), FeatureMoments(dimensions)
    moments.update(features)
    metadata = {
        "count": count,
        "shape": list(images.shape[1:]),
        "preprocessing": preprocessing(packed),
        "data": data_sha256(packed),
        "holdout": data_sha256(packed, "holdout"),
        "extractor": settings.model_dump(),
        "floor": 1.0,
    }
    holdout = torch.randn(count // 10, dimensions)
    statistics = Statistics.from_moments(moments, metadata, features, torch.arange(count), holdout)
    statistics.save(path)
    return statistics


def _evaluation(work: Path, packed: Path) -> Line:
    """Extrapolated from the seconds of its parts, each by what it scales with."""
    settings, official = _inception_settings(), work / "inception.safetensors"
    statistics = _write_official(packed, settings, FACES * 9 // 10, official)
    _write_training(work / "trained", preset("celeba64").train.base_channels)
    paths = work / "trained", packed, official, work / "evaluation", work / "metrics.json"
    params, device = Evaluate(num_samples=FAKES), choose_device()
    keep_freed_memory()
    watched = (
        (Extraction, "__call__"),
        (Scorer, "sample"),
        (FrechetDistance, "compute"),
        (step, "sample_metrics"),
    )
    with mock.patch.object(extraction, "WORTH_COMPILING", 0), timing(*watched) as spent:
        measured = seconds(lambda: step.evaluate(*paths, params, settings, device))
    calls, sampling, fids, others = (spent[name] for _, name in watched)
    growth, block = EVALUATION / FAKES, fmean(calls[1:])
    alone = calls[0] - block + growth * len(calls) * block
    sample = FeatureSample(0.0, torch.randn(EVALUATION, statistics.subset.shape[1]))
    parts = {
        "generating": growth * (sum(sampling) - sum(calls) - sum(fids)),
        "distances": sum(fids),
        "sample metrics": seconds(lambda: sample_metrics(statistics, sample)),
        "rest": measured - sum(sampling) - sum(others),
    }
    ratio = 1 + sum(parts.values()) / alone
    details = ", ".join(f"{name} {value:.0f} s" for name, value in parts.items())
    return Line(
        f"evaluate, Inception, {EVALUATION:,} samples, extrapolated from {FAKES}, vs extraction",
        f"{ratio * alone:.0f} s", f"{alone:.0f} s", f"{ratio:.2f}x ({details})", "<= 1.1x",
        ratio <= 1.1,
    )  # fmt: skip


def _tiny(work: Path, packed: Path) -> Iterator[Line]:
    """At 32 pixels: which features a second evaluation extracts, and peak memory."""
    settings, official = lite(32, "float32"), work / "tiny.safetensors"
    params = Reference(quick=settings, official=settings, subset=MEMORY[0])
    reference(packed, work / "quick.safetensors", official, params, choose_device())
    _write_training(work / "tiny", 8)
    paths = work / "tiny", packed, official, work / "again", work / "again.json"
    extracted: list[bytes] = []
    original = Extraction.__call__

    def record(self: Extraction, images: Tensor) -> Tensor:
        extracted.extend(image.numpy().tobytes() for image in images)
        return original(self, images)

    for _ in range(2):
        extracted.clear()
        with mock.patch.object(Extraction, "__call__", record):
            step.evaluate(*paths, Evaluate(num_samples=FAKES), settings, choose_device())
    photographs = {image.numpy().tobytes() for image in pictures(packed)}
    found = sum(image in photographs for image in extracted)
    yield Line(
        "real images among those whose features a second evaluation extracts",
        f"{found} of {len(extracted)}", f"{len(photographs):,} in the reference", "-",
        "none", found == 0 and len(extracted) == 4 * FAKES,
    )  # fmt: skip
    commands = [_evaluate(work, packed, settings, official, count) for count in MEMORY]
    small, large = map(_peak, commands)
    yield Line(
        "peak memory of evaluate, 4 x {1:,} vs 4 x {0:,} samples, subset {0:,}".format(*MEMORY),
        f"{large / 1e6:.0f} MB", f"{small / 1e6:.0f} MB", f"{large / small:.2f}x", "<= 1.1x",
        large <= 1.1 * small,
    )  # fmt: skip


def _evaluate(
    work: Path, packed: Path, settings: Extractor, official: Path, count: int, name: str = "out"
) -> list[str]:
    """Arguments for python; the scores are written to `name`.json."""
    values = preset("celeba64").model_dump(by_alias=True)
    values["reference"]["official"] = settings.model_dump()
    values["evaluate"]["num_samples"] = count
    params = work / f"{official.stem}-{count}.yaml"
    params.write_text(yaml.safe_dump(values), "utf-8")
    paths = work / "tiny", packed, official, work / name, work / f"{name}.json"
    return ["-m", "facegan", "evaluate", *map(str, paths), "--params", str(params)]


def _peak(arguments: list[str]) -> int:
    """Peak resident memory of a process, in bytes."""
    peak = 0
    with Popen([sys.executable, *arguments], stderr=DEVNULL) as process:
        info = psutil.Process(process.pid)
        while process.poll() is None:
            with suppress(psutil.NoSuchProcess):
                peak = max(peak, info.memory_info().rss)
            time.sleep(0.05)
    assert process.returncode == 0
    return peak


def _in_two_processes(work: Path, packed: Path) -> Iterator[Line]:
    settings, official = lite(112, "float32"), work / "middle.safetensors"
    _write_official(packed, settings, 250, official)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    commands = {
        name: [sys.executable, *prefix, *_evaluate(work, packed, settings, official, WIDE, name)]
        for name, prefix in (("two", launcher), ("one", []))
    }

    def start(name: str) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        run_command(commands[name], env=environment, stderr=DEVNULL, check=True)

    yield compare(
        f"evaluate, 4 x {WIDE:,} samples, EfficientNet-Lite0 at 112, torchrun with two processes "
        "of one thread vs one process of one thread",
        partial(start, "two"), partial(start, "one"), 1.6, ROUNDS - 1,
    )  # fmt: skip
    contents = [json.loads((work / f"{name}.json").read_text("utf-8")) for name in commands]
    two, one = (content[content["protocol"]["name"]] for content in contents)
    difference = abs(two - one) / one
    yield Line(
        "the FID of those, float32", f"{two:.4f}", f"{one:.4f}", f"{difference:.1g} relative",
        "<= 1e-06", difference <= 1e-6,
    )  # fmt: skip
