"""Images on their way to scores: their features, and the Fréchet distance to real ones."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import mean

import torch
from torch import Tensor

from facegan.core.errors import FaceganError
from facegan.core.events import Message, OnEvent, Progress, silent
from facegan.evaluate.protocol import SEEDS
from facegan.features.extraction import Extraction
from facegan.features.frechet import Moments, Statistics, frechet_distance, rank_warning
from facegan.models.architectures import Generator
from facegan.models.sampling import BLOCK, generate, latent_block
from facegan.params import Extractor
from facegan.runtime.distributed import SINGLE, Group


@dataclass(frozen=True)
class Sample:
    """Images as their features.

    Attributes:
        moments: of all of them.
        features: float32 (k, d), of the first ones, as many as the reference has single ones.
    """

    moments: Moments
    features: Tensor


class Scorer:
    """Scores images against the real ones in `statistics`.

    Args:
        images: how many there will be to score, all sets together.
        group: the processes that share them; the first one tells how far they are.
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
        self.on_event = on_event if group.rank == 0 else silent
        self.device, self.total, self.done = device, images, 0
        settings = Extractor(**statistics.metadata["extractor"])
        self.extraction = Extraction(settings, device, images, self.on_event)

    def sample(self, generator: Generator, num_samples: int, seed: int) -> Sample:
        """The features of `num_samples` generated images.

        Raises:
            FaceganError: if they have another shape than the real ones, or are no images.
        """
        shape, real = [generator.size, generator.size, generator.channels], self.statistics.metadata
        if shape != real["shape"]:
            raise FaceganError(
                f"the generator makes images {shape}, the reference is of {real['shape']}"
            )
        if warning := rank_warning(num_samples, self.extraction.num_features, "generated images"):
            self.on_event(Message(warning))
        return self.measure(self._generated(generator, num_samples, seed), num_samples)

    def _generated(
        self, generator: Generator, num_samples: int, seed: int
    ) -> Iterator[tuple[int, Tensor]]:
        for here in self.group.slices(num_samples, BLOCK):
            z = latent_block(here.start // BLOCK, generator.latent_dim, seed)
            yield here.start, torch.cat(list(generate(generator, z[: here.stop - here.start])))

    def measure(self, batches: Iterable[tuple[int, Tensor]], count: int) -> Sample:
        """The features of `count` images.

        Args:
            batches: this process's: the number of the first image, uint8 (n, H, W, C).
        """
        dimensions = self.extraction.num_features
        moments = Moments(dimensions, self.device)
        features = torch.zeros(min(count, len(self.statistics.subset)), dimensions)
        for first, images in batches:
            here = self.extraction(images)
            moments.update(here)
            room = features[first : first + len(here)]
            room.copy_(here[: len(room)])
            self.done += len(images) * self.group.size
            done = min(self.done, self.total)
            self.on_event(Progress(done, self.total))
        moments.all_reduce(self.group)
        self.group.all_reduce_sum([features])
        return Sample(moments, features)

    def fid(self, sample: Sample) -> float:
        """The Fréchet distance to the real images; lower is better."""
        return frechet_distance(self.statistics, sample.moments)

    def mean_fid(self, generator: Generator, num_samples: int) -> float:
        """What promotion goes by: the mean over three sets of latents."""
        samples = (self.sample(generator, num_samples, seed) for seed in SEEDS)
        return round(mean(map(self.fid, samples)), 4)
