"""The official scores, under a named protocol."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from facegan.atomic import refuse_foreign, replacing
from facegan.checkpoint import file_sha256, fingerprint, load_generator
from facegan.errors import FaceganError
from facegan.events import OnEvent, silent
from facegan.features import EfficientNetLite0, load_extractor
from facegan.frechet import Statistics
from facegan.history import NAME, read_history
from facegan.models.architectures import Generator
from facegan.params import Evaluate, Extractor
from facegan.sampling import draw, grid, latents, save_picture

# Other latents than the quick score's, on which the snapshot was chosen.
OFFICIAL_SEED, SAMPLE_SEED = 11, 12
SAMPLES = 144
PICTURE = "samples.png"


def evaluate(
    trained: Path,
    official: Path,
    out: Path,
    metrics: Path,
    params: Evaluate,
    device: torch.device,
    on_event: OnEvent = silent,
) -> None:
    """Score the generator in the folder `trained`, and the untrained one that it began as.

    Writes sample images into the folder `out`, and the scores with their protocol to `metrics`.

    Raises:
        FaceganError: if an input is missing, or generator and reference don't fit.
    """
    refuse_foreign(out, PICTURE)
    statistics = Statistics.load(official)
    events = read_history(trained / NAME)
    scores = [event for event in events if event["event"] == "score"]
    best = min(scores, key=lambda event: event["quick_fid"])
    path = trained / "generator.safetensors"
    generator = load_generator(path, device)
    initial = load_generator(trained / "initial.safetensors", device)
    total = 2 * params.fakes

    def progress(done: int) -> None:
        on_event({"event": "progress", "done": done, "total": total})

    protocol = describe_protocol(statistics, params.fakes)
    fid = score(generator, statistics, params.fakes, device, progress)
    before = score(initial, statistics, params.fakes, device, lambda n: progress(params.fakes + n))
    content = {
        protocol["name"]: fid,
        "untrained": before,
        "floor": round(statistics.about["floor"], 4),
        "images_seen": best["images_seen"],
        "collapses": sum(event["event"] == "collapse" for event in events),
        "protocol": protocol,
        "generator": file_sha256(path),
    }
    with replacing(out) as folder:
        folder.mkdir()
        z = latents(SAMPLES, generator.latent_dim, SAMPLE_SEED).to(device)
        save_picture(grid(torch.cat(list(draw(generator, z)))), folder / PICTURE)
    with replacing(metrics) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def describe_protocol(statistics: Statistics, fakes: int) -> dict[str, Any]:
    """Everything that can move a score, and the score's name, which carries the main part."""
    about = statistics.about
    settings = Extractor(**about["extractor"])
    thousands = f"{fakes / 1000:g}k" if fakes >= 1000 else str(fakes)
    protocol = {
        "name": f"fid{thousands}_{settings.label}",
        **about["extractor"],
        "resize": "bilinear, antialiased",
        "fakes": fakes,
        "reals": about["count"],
        "shape": about["shape"],
        "recipe": about["recipe"],
        "data": about["data"],
    }
    return {**protocol, "id": fingerprint(protocol)}


def score(
    generator: Generator,
    statistics: Statistics,
    fakes: int,
    device: torch.device,
    on_images: Callable[[int], None] = lambda done: None,
) -> float:
    """FID of `fakes` generated images against the real ones in `statistics`; lower is better.

    Raises:
        FaceganError: if the generator's images have another shape than the real ones.
    """
    # Here, because it takes five seconds that train and register don't have to wait for.
    from torchmetrics.image.fid import FrechetInceptionDistance

    shape = [generator.size, generator.size, generator.channels]
    if shape != statistics.about["shape"]:
        real = statistics.about["shape"]
        raise FaceganError(f"the generator makes images {shape}, the reference is of {real}")
    settings = Extractor(**statistics.about["extractor"])
    metric = FrechetInceptionDistance(_OnCpu(load_extractor(settings, device)))
    mean, count = statistics.mean, statistics.about["count"]
    # The sums that the metric would have after an update with every real image.
    metric.real_features_sum = mean * count
    outer = statistics.covariance * (count - 1) + count * torch.outer(mean, mean)
    metric.real_features_cov_sum = outer
    metric.real_features_num_samples = torch.tensor(count)
    done = 0
    for images in draw(generator, latents(fakes, generator.latent_dim, OFFICIAL_SEED)):
        metric.update(images, real=False)
        done += len(images)
        on_images(done)
    return round(float(metric.compute()), 4)


class _OnCpu(nn.Module):
    """An extractor on any device whose features come to the CPU, which has float64."""

    def __init__(self, extractor: EfficientNetLite0) -> None:
        super().__init__()
        self.extractor, self.num_features = extractor, extractor.num_features

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.extractor(images)
        return features.cpu()
