"""Monitoring of a training: samples, their diversity, and the quick FID."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import pdist

from facegan.core import pictures
from facegan.features import extraction, frechet
from facegan.models import sampling
from facegan.params import Extractor
from facegan.runtime.distributed import SINGLE, Group

# The same seeds in every run, so that samples of two runs are comparable: 0 to 63, and from
# QUICK_SEED on for the quick FID. The official score has other ones.
SAMPLES = 64
QUICK_SEED = 30_000_000
# Collapse: diversity below, discriminator accuracy above, or quick FID over the best above these.
# The FID is needed, because one face in 64 shades of brightness has a diversity of 0.9.
MIN_DIVERSITY, MAX_ACCURACY, MAX_FID_RATIO = 0.1, 0.999, 2.0


class Monitor:
    """Draws samples of a generator and scores it.

    Args:
        quick: statistics of the real images' features.
        images: real images, uint8 (N, H, W, C); diversity is relative to that of the first 64.
        latent_dim: of the generators.
        num_samples: generated images per quick FID.
        device: of the feature extractor.
        group: the processes that share the images of a quick FID.
    """

    def __init__(
        self,
        quick: frechet.Statistics,
        images: Tensor,
        latent_dim: int,
        num_samples: int,
        device: torch.device,
        group: Group = SINGLE,
    ) -> None:
        settings = Extractor(**quick.metadata["extractor"])
        self.group = group
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
        """Draw the images of seeds 0 to 63; process 0 writes them as a grid.

        Returns:
            Diversity: mean pairwise distance of the samples, divided by that of real images.
        """
        z = sampling.latents(SAMPLES, self.latent_dim, seed=0)
        images = torch.cat(list(sampling.generate(network, z)))
        if self.group.is_main:
            pictures.save_picture(pictures.grid(images), path)
        return round(_mean_distance(images) / max(self.real_distance, 1e-9), 4)

    def quick_fid(self, network: nn.Module) -> float:
        """Fréchet distance between `num_samples` generated and all real images.

        Each process generates its part of the images; all return the same value.
        """
        sync = frechet.summed_over(self.group)
        distance = frechet.FrechetDistance(self.quick, dist_sync_fn=sync)
        for part in self.group.slices(self.num_samples, sampling.BATCH):
            count, first = part.stop - part.start, QUICK_SEED + part.start
            z = sampling.latents(count, self.latent_dim, first)
            for images in sampling.generate(network, z):
                distance.update(self.extraction(images))
        return round(float(distance.compute()), 6)


def collapse_reason(diversity: float, accuracy: float, fid: float, best_fid: float) -> str:
    """Why these metrics mean a collapse; empty if they do not.

    Args:
        diversity: of `Monitor.save_samples`.
        accuracy: of the discriminator, in [0, 1].
        fid, best_fid: the current and the best quick FID.
    """
    reasons = []
    if diversity < MIN_DIVERSITY:
        reasons.append(f"the diversity of samples is {diversity:.1%} of the photographs'")
    if accuracy > MAX_ACCURACY:
        reasons.append(f"the discriminator's accuracy is {accuracy:.2%}")
    if fid > MAX_FID_RATIO * best_fid:
        reasons.append(f"the quick FID of {fid:.1f} is {fid / best_fid:.1f} times the best")
    return " and ".join(reasons)


def _mean_distance(images: Tensor) -> float:
    """Mean Euclidean distance over all pairs of uint8 images (n, H, W, C), in levels."""
    return float(pdist(images.flatten(1).cpu().float()).mean())
