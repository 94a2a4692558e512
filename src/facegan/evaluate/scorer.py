"""Features of generated images, and their Fréchet distance to the real ones."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import mean

import torch
from torch import Tensor

from facegan.core.errors import FaceganError
from facegan.core.events import Message, OnEvent, Progress, once, silent
from facegan.evaluate.protocol import SEEDS
from facegan.features.extraction import Extraction
from facegan.features.frechet import FrechetDistance, Statistics, rank_warning, summed_over
from facegan.models.architectures import Generator
from facegan.models.sampling import BATCH, generate, latents
from facegan.params import Extractor
from facegan.runtime.distributed import SINGLE, Group


@dataclass(frozen=True)
class FeatureSample:
    """FID of a set of images, and their features.

    Attributes:
        fid: Fréchet distance to the real images; lower is better.
        features: float32 (k, d), on the CPU, of the first k images; k is at most the number of
            training features that the reference stores.
    """

    fid: float
    features: Tensor


class Scorer:
    """Scores images against the reference `statistics`.

    Args:
        images: total number of images that will be scored, over all sets; for progress events.
        group: processes that the images are distributed over; process 0 reports progress.
    Raises:
        FaceganError: if the extractor's weights are missing.
    """

    def __init__(
        self,
        statistics: Statistics,
        images: int,
        device: torch.device,
        group: Group = SINGLE,
        on_event: OnEvent = silent,
    ) -> None:
        self.statistics, self.group = statistics, group
        self.on_event = once(on_event) if group.rank == 0 else silent
        self.device, self.total, self.done = device, images, 0
        settings = Extractor(**statistics.metadata["extractor"])
        self.extraction = Extraction(settings, device, images, self.on_event)

    def sample(self, generator: Generator, num_samples: int, seed: int) -> FeatureSample:
        """Generate the images of `num_samples` seeds, from `seed` on, and measure them.

        Raises:
            FaceganError: if their shape is not that of the real images, or they contain NaN.
        """
        shape = [generator.size, generator.size, generator.channels]
        expected = self.statistics.metadata["shape"]
        if shape != expected:
            raise FaceganError(
                f"the reference was computed for images of shape {expected}; "
                f"the generator makes {shape}"
            )
        if warning := rank_warning(num_samples, self.extraction.num_features, "generated images"):
            self.on_event(Message(warning))
        return self.measure(self._generated(generator, num_samples, seed), num_samples)

    def _generated(
        self, generator: Generator, num_samples: int, seed: int
    ) -> Iterator[tuple[int, Tensor]]:
        for part in self.group.slices(num_samples, BATCH):
            z = latents(part.stop - part.start, generator.latent_dim, seed + part.start)
            yield part.start, torch.cat(list(generate(generator, z)))

    def measure(self, batches: Iterable[tuple[int, Tensor]], count: int) -> FeatureSample:
        """Extract the features of `count` images, and compute their FID.

        Args:
            batches: this process's share, as pairs: index of the first image, uint8 (n, H, W, C).
        """
        distance = FrechetDistance(self.statistics, dist_sync_fn=summed_over(self.group))
        distance.to(self.device)
        kept = min(count, len(self.statistics.subset))
        features = torch.zeros(kept, self.extraction.num_features)
        for first, images in batches:
            extracted = self.extraction(images)
            distance.update(extracted)
            window = features[first : first + len(extracted)]
            window.copy_(extracted[: len(window)])
            self.done += len(images) * self.group.size
            done = min(self.done, self.total)
            self.on_event(Progress(done, self.total))
        self.group.all_reduce_sum([features])
        return FeatureSample(float(distance.compute()), features)

    def mean_fid(self, generator: Generator, num_samples: int) -> float:
        """Mean FID over three sets of latents, by which versions are promoted.

        Raises:
            FaceganError: as `sample` does.
        """
        return round(mean(self.sample(generator, num_samples, seed).fid for seed in SEEDS), 4)
