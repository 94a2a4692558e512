"""Monitoring of a training: samples, their diversity, and the quick FID."""

from collections.abc import Callable, Iterator
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn.functional import pdist

from facegan.core import pictures
from facegan.features import extraction, frechet
from facegan.models import sampling
from facegan.models.sampling import NotFinite
from facegan.params import Extractor
from facegan.runtime.distributed import SINGLE, Group

# The same seeds in every run, so that samples of two runs are comparable: 0 to 63, from QUICK_SEED
# on for the quick FID, from FINAL_SEED on for the final one. The official score has other ones.
SAMPLES = 64
QUICK_SEED, FINAL_SEED, PHOTOGRAPHS_SEED = 30_000_000, 40_000_000, 1
# Images of a final FID, as a multiple of those of a quick one.
FINAL = 3
# Collapse: diversity below, discriminator accuracy above, or quick FID over the best above these.
# The FID is needed, because one face in 64 shades of brightness has a diversity of 0.9.
MIN_DIVERSITY, MAX_ACCURACY, MAX_FID_RATIO = 0.1, 0.999, 2.0
# Below, a discriminator soon knows the photographs by heart (Zhao et al. 2020, arXiv 2006.10738).
FEW_IMAGES = 2000


class Monitor:
    """Draws samples of a generator and scores it.

    Args:
        quick: statistics of the real images' features.
        images: real images, uint8 (N, H, W, C); diversity is relative to that of 64 drawn ones.
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
        # Drawn, because files are often sorted: by class, by person, frame after frame.
        rng = torch.Generator().manual_seed(PHOTOGRAPHS_SEED)
        drawn = torch.randperm(len(images), generator=rng)[:SAMPLES]
        self.real_distance = _mean_distance(images[drawn.sort().values])

    @property
    def comparability_note(self) -> str:
        """A note if the quick FID is not comparable with published FIDs; else empty."""
        note = self.extraction.extractor.comparability_note
        return note and f"{self.name} is {note}"

    def sample(self, network: nn.Module) -> tuple[pictures.Pixels, float]:
        """Draw the images of seeds 0 to 63.

        Returns:
            The samples as a grid, and their diversity: mean pairwise distance, divided by that of
            real images.
        Raises:
            NotFinite: if they contain NaN or infinity.
        """
        z = sampling.latents(SAMPLES, self.latent_dim, seed=0)
        images = torch.cat(list(sampling.generate(network, z)))
        diversity = _mean_distance(images) / max(self.real_distance, 1e-9)
        return pictures.grid(images), round(diversity, 4)

    def quick_fid(self, network: nn.Module, on_batch: Callable[[], None]) -> float:
        """Fréchet distance between `num_samples` generated and all real images.

        Each process generates its part of the images; all return the same value.

        Args:
            on_batch: called after each extraction batch, equally often in every process. What it
                raises in all of them ends the scoring.
        Raises:
            NotFinite: in every process, if an image contains NaN or infinity.
        """
        return self._fid(network, self.num_samples, QUICK_SEED, on_batch)

    def final_fid(self, network: nn.Module, on_batch: Callable[[], None]) -> float:
        """As `quick_fid`, of FINAL times as many images, none of which a quick FID has."""
        return self._fid(network, FINAL * self.num_samples, FINAL_SEED, on_batch)

    def _fid(
        self, network: nn.Module, count: int, seed: int, on_batch: Callable[[], None]
    ) -> float:
        sync, is_finite = frechet.summed_over(self.group), True
        distance = frechet.FrechetDistance(self.quick, dist_sync_fn=sync)
        windows = self.group.slices(count, sampling.BATCH)
        for _ in range(0, count, sampling.BATCH * self.group.size):
            features, batches = [], self._batches(network, next(windows, None), seed)
            for _ in range(-(-sampling.BATCH // self.extraction.batch)):
                try:
                    features += [self.extraction(batch) for batch in islice(batches, 1)]
                except NotFinite:
                    is_finite = False
                on_batch()
            if features:
                distance.update(torch.cat(features))
        if self.group.any(not is_finite):
            raise NotFinite("generator output contains NaN")
        return round(float(distance.compute()), 6)

    def _batches(self, network: nn.Module, window: slice | None, seed: int) -> Iterator[Tensor]:
        """Images of the seeds in `window`, counted from `seed`, uint8 (n, H, W, C), in extraction
        batches."""
        if window is not None:
            count, first = window.stop - window.start, seed + window.start
            z = sampling.latents(count, self.latent_dim, first)
            for images in sampling.generate(network, z):
                yield from images.split(self.extraction.batch)


def collapse_reason(diversity: float, accuracy: float, fid: float, best_fid: float) -> str:
    """Why these metrics mean a collapse; empty if they do not.

    Args:
        diversity: of `Monitor.sample`.
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


def collapse_advice(images: int, augmented: bool) -> str:
    """What to try after a collapse.

    Args:
        images: number of training images.
        augmented: whether `train.augment` is set.
    """
    if images >= FEW_IMAGES:
        return "lower train.lr or train.discriminator_lr"
    few = f"{images:,} photographs are few"
    augment = (
        "set train.augment: [brightness, saturation, contrast, translation, affine] and "
        "train.augment_target: 0.7"
    )
    return f"{few}: {'fetch more' if augmented else augment}, or lower train.discriminator_lr"


def _mean_distance(images: Tensor) -> float:
    """Mean Euclidean distance over all pairs of uint8 images (n, H, W, C), in levels."""
    return float(pdist(images.flatten(1).cpu().float()).mean())
