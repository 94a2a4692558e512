"""Monitoring of a training: samples, their diversity, and the quick FID."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import pdist

from facegan.core import pictures
from facegan.features import extraction, frechet
from facegan.models import sampling
from facegan.params import Extractor

# The same latents in every run, so that samples of two runs are comparable. The official score and
# BatchNorm's calibration have other latents.
SAMPLE_SEED, QUICK_SEED = 1, 2
SAMPLES = 64


class Monitor:
    """Draws samples of a generator and scores it.

    Args:
        quick: statistics of the real images' features.
        images: real images, uint8 (N, H, W, C); diversity is relative to that of the first 64.
        latent_dim: of the generators.
        num_samples: generated images per quick FID.
        device: of the feature extractor.
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
        # Never compiled, so that scores do not depend on the length of the training.
        self.extraction = extraction.Extraction(settings, device, images=0)
        self.real_distance = _mean_distance(images[:SAMPLES])

    @property
    def comparability_note(self) -> str:
        """A note if the quick FID is not comparable with published FIDs; else empty."""
        note = self.extraction.extractor.comparability_note
        return note and f"{self.name} is {note}"

    def save_samples(self, network: nn.Module, path: Path) -> float:
        """Write a sample grid of the fixed latents.

        Returns:
            Diversity: mean pairwise distance of the samples, divided by that of real images.
        """
        z = sampling.latents(SAMPLES, self.latent_dim, SAMPLE_SEED)
        images = torch.cat(list(sampling.generate(network, z)))
        pictures.save_picture(pictures.grid(images), path)
        return round(_mean_distance(images) / max(self.real_distance, 1e-9), 4)

    def quick_fid(self, network: nn.Module) -> float:
        """Fréchet distance between `num_samples` generated and all real images."""
        moments = frechet.Moments(self.extraction.num_features)
        z = sampling.latents(self.num_samples, self.latent_dim, QUICK_SEED)
        for images in sampling.generate(network, z):
            moments.update(self.extraction(images))
        return round(frechet.frechet_distance(self.quick, moments), 6)


def _mean_distance(images: Tensor) -> float:
    """Mean Euclidean distance over all pairs of uint8 images (n, H, W, C), in levels."""
    return float(pdist(images.flatten(1).cpu().float()).mean())
