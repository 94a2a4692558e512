"""A generator in the middle of its training: its samples, its quick FID, whether it collapses."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import pdist

from facegan.core import pictures
from facegan.features import extraction, frechet
from facegan.models import sampling
from facegan.params import Extractor

# The same latents in every run, so that two runs compare picture by picture. The official score
# and BatchNorm's statistics have latents of their own.
SAMPLE_SEED, QUICK_SEED = 1, 2
SAMPLES = 64


class Monitor:
    """Looks at generators.

    Args:
        quick: the real images' statistics.
        images: the real images, uint8 (N, H, W, C); the first 64 are the measure of diversity.
        num_samples: how many images the quick FID takes.
    """

    def __init__(
        self,
        quick: frechet.Statistics,
        images: Tensor,
        latent_dim: int,
        num_samples: int,
        device: torch.device,
    ) -> None:
        settings = Extractor(**quick.metadata["extractor"])
        self.quick, self.latent_dim, self.num_samples = quick, latent_dim, num_samples
        self.name = f"quick_fid{num_samples}_{settings.label}"
        # Never compiled: a training of more epochs has to have the same scores.
        self.extraction = extraction.Extraction(settings, device, images=0)
        self.real_distance = _mean_distance(images[:SAMPLES])

    @property
    def comparability_note(self) -> str:
        """What the quick FID is, where its features are not the literature's."""
        note = self.extraction.extractor.comparability_note
        return note and f"{self.name} is {note}"

    def save_samples(self, network: nn.Module, path: Path) -> float:
        """Write the picture of the fixed latents' images.

        Returns:
            Their diversity: the mean distance of two of them as a share of two photographs'.
        """
        z = sampling.latents(SAMPLES, self.latent_dim, SAMPLE_SEED)
        images = torch.cat(list(sampling.generate(network, z)))
        pictures.save_picture(pictures.grid(images), path)
        return round(_mean_distance(images) / max(self.real_distance, 1e-9), 4)

    def quick_fid(self, network: nn.Module) -> float:
        """The Fréchet distance to the real images, with few num_samples; lower is better."""
        # Process 0 alone scores, so there is nothing to synchronise.
        distance = frechet.FrechetDistance(self.quick, sync_on_compute=False)
        z = sampling.latents(self.num_samples, self.latent_dim, QUICK_SEED)
        for images in sampling.generate(network, z):
            distance.update(self.extraction(images))
        return round(float(distance.compute()), 6)


def _mean_distance(images: Tensor) -> float:
    """Between all pairs of uint8 images (n, H, W, C): Euclidean, in grey levels."""
    return float(pdist(images.flatten(1).cpu().float()).mean())
