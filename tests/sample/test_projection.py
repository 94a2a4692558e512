import math

import numpy as np
import pytest
import torch

from facegan.core.events import silent
from facegan.models.architectures import Generator
from facegan.models.sampling import NotFinite, latents
from facegan.sample.projection import course, project
from facegan.sample.renderer import Renderer
from networks import small_generator


def vivid_generator() -> Generator:
    """A generator whose images differ."""
    network = small_generator().eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(3)
    return network


def test_projection_comes_nearer_than_random_images() -> None:
    network = vivid_generator()
    photograph = np.concatenate(list(Renderer(network)(latents(1, 6, 987654))))[0]
    found = project(network, photograph, 25, 0, silent)
    assert found.distance < found.typical / 2
    assert found.z.shape == (6,) and float(found.z.norm()) == pytest.approx(math.sqrt(6), rel=1e-4)
    image = next(Renderer(network)(found.z[None]))[0]
    assert np.abs(found.frames[-1].astype(int) - image).max() <= 4
    frames = list(course(found, photograph))
    assert len(frames) == 26 and {frame.shape for frame in frames} == {(32, 64, 1)}


def test_nan_is_an_error_and_no_black_image() -> None:
    network = small_generator().eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.fill_(math.nan)
    with pytest.raises(NotFinite, match="contains NaN"):
        project(network, np.zeros((32, 32, 1), np.uint8), 1, 0, silent)


def test_the_same_seed_finds_the_same_latent() -> None:
    network, photograph = small_generator().eval(), np.full((32, 32, 1), 90, np.uint8)
    first, again = (project(network, photograph, 3, 5, silent) for _ in range(2))
    assert torch.equal(first.z, again.z)
