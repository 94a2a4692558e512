"""A photograph -> the latent whose image is nearest to it.

The generator's own images are the only ones that it can draw: the result is a look-alike, never the
person, and says nothing about who is in the training photographs.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from facegan.core.events import Metrics, OnEvent, Progress
from facegan.features.extractors import load_extractor
from facegan.models.architectures import Generator
from facegan.models.sampling import NotFinite, latents, to_uint8
from facegan.params import Extractor

# The first latents are the nearest of so many random ones.
CANDIDATES, STARTS = 500, 4
RATE, FINAL_RATE = 0.1, 0.005  # of Adam, and at the end of its cosine decay
FEATURE_WEIGHT = 1.0
# Resolutions that pixels are compared at: large shapes first decide, then details.
SCALES = (1, 2, 4)
EXTRACTOR = Extractor(extractor="efficientnet-lite0", input_size=64, dtype="float32")


@dataclass(frozen=True)
class Projection:
    """
    Attributes:
        z: float32 (latent_dim,).
        distance: mean absolute difference of its image's pixels, in grey levels.
        typical: the same of the nearest of CANDIDATES random images.
        frames: the course of the optimisation, uint8 (H, W, C) each.
    """

    z: Tensor
    distance: float
    typical: float
    frames: list[NDArray[np.uint8]]


class Distance(nn.Module):
    """Distance of images to one target, in pixels at several scales and in features.

    Args:
        target: float (1, C, H, W) in [-1, 1].
    """

    def __init__(self, target: Tensor) -> None:
        super().__init__()
        self.extractor, self.target = load_extractor(EXTRACTOR, target.device), target
        self.features = self._features(target)

    def forward(self, x: Tensor) -> Tensor:
        """float (n, C, H, W) in [-1, 1] -> float (n,)."""
        pixels = sum(
            (avg_pool2d(x, s) - avg_pool2d(self.target, s)).square().mean((1, 2, 3)) for s in SCALES
        )
        features = (self._features(x) - self.features).square().mean(1)
        total: Tensor = pixels + FEATURE_WEIGHT * features / self.features.square().mean()
        return total

    def _features(self, x: Tensor) -> Tensor:
        # As the extractor's own input, but not rounded to uint8, which has no gradient.
        levels = (x + 1) * 127.5
        features: Tensor = self.extractor(levels.permute(0, 2, 3, 1))
        return features


def project(
    network: Generator, photograph: NDArray[np.uint8], steps: int, seed: int, on_event: OnEvent
) -> Projection:
    """Optimise latents by Adam from the nearest of random ones, and take the best.

    The norm of a latent stays sqrt(latent_dim), which that of a standard normal one is close to, so
    that the image stays one that the generator was trained to draw.

    Args:
        photograph: uint8 (H, W, C), of the generator's size and channels.
        steps: of Adam.
        seed: of the first random latent.
    Raises:
        NotFinite: if the output contains NaN or infinity.
    """
    device = next(network.parameters()).device
    target = torch.tensor(photograph).permute(2, 0, 1)[None].to(device).float() / 127.5 - 1
    distance = Distance(target)
    z, typical = _nearest(network, distance, target, seed)
    z = z.requires_grad_()
    optimizer = torch.optim.Adam([z], RATE)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, FINAL_RATE)
    frames = list[NDArray[np.uint8]]()
    best: tuple[float, Tensor] = (math.inf, z.detach()[0])
    for step in range(steps):
        x = network(_on_sphere(z))
        losses = distance(x)
        (gradient,) = torch.autograd.grad(losses.sum(), z)
        losses = losses.detach()
        index = int(losses.argmin())
        if losses[index] < best[0]:
            best = (float(losses[index]), _on_sphere(z.detach())[index].clone())
        frames.append(to_uint8(x.detach()[index : index + 1])[0].cpu().numpy())
        z.grad = gradient
        optimizer.step()
        decay.step()
        on_event(Metrics({"distance": best[0]}))
        on_event(Progress(step + 1, steps))
    image = network(best[1][None]).detach()
    frames.append(to_uint8(image)[0].cpu().numpy())
    return Projection(best[1].cpu(), _levels(image, target)[0], typical, frames)


@torch.no_grad()
def _nearest(
    network: Generator, distance: Distance, target: Tensor, seed: int
) -> tuple[Tensor, float]:
    """The nearest of random latents, on the sphere, and the least difference in grey levels."""
    z = latents(CANDIDATES, network.latent_dim, seed).to(target.device)
    found, levels = list[Tensor](), list[float]()
    for batch in z.split(100):
        x = network(_on_sphere(batch))
        found.append(distance(x))
        levels += _levels(x, target)
    if not torch.cat(found).isfinite().all():
        raise NotFinite("generator output contains NaN; lower train.lr and train again")
    order = torch.cat(found).argsort()[:STARTS]
    return _on_sphere(z[order]).clone(), min(levels)


def _on_sphere(z: Tensor) -> Tensor:
    scaled: Tensor = z * (math.sqrt(z.shape[1]) / z.norm(dim=1, keepdim=True))
    return scaled


def _levels(x: Tensor, target: Tensor) -> list[float]:
    differences: list[float] = ((x - target).abs().mean((1, 2, 3)) * 127.5).tolist()
    return differences


def course(projection: Projection, photograph: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """The frames of a film: left the photograph, right the images of the optimisation."""
    for frame in projection.frames:
        yield np.concatenate([photograph, frame], axis=1)
