import math

import numpy as np
import pytest
import torch
from torch import nn

from facegan.core.errors import FaceganError
from facegan.models import sampling
from facegan.models.dcgan import Generator, initialise
from facegan.models.sampling import ImageGenerator, generate, latents


@pytest.fixture
def network() -> Generator:
    generator = Generator(size=32, channels=3, latent_dim=6, base_channels=4)
    initialise(generator, torch.Generator().manual_seed(0))
    return generator.eval()


def levels(values: list[float]) -> list[int]:
    """The uint8 levels of network outputs."""
    x = torch.tensor(values).reshape(1, 1, 1, -1)
    return [int(level) for level in ImageGenerator(nn.Identity())(x).flatten()]


def test_minus_one_zero_and_one_are_0_128_and_255() -> None:
    assert levels([-1.0, 0.0, 1.0]) == [0, 128, 255]


def test_values_out_of_range_are_clamped() -> None:
    assert levels([-1.5, -1e6, 1.01, 1e6]) == [0, 0, 255, 255]


def test_uint8_levels_round_trip_through_floats() -> None:
    from facegan.data.batches import to_float

    images = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1)
    assert torch.equal(ImageGenerator(nn.Identity())(to_float(images)), images)


def test_images_are_channels_last() -> None:
    x = torch.stack([torch.full((2, 4), value) for value in (-1.0, 0.0, 1.0)])[None]
    images = ImageGenerator(nn.Identity())(x)
    assert (images.shape, images.dtype) == ((1, 2, 4, 3), torch.uint8)
    assert (images == torch.tensor([0, 128, 255], dtype=torch.uint8)).all()


def test_latents_are_standard_normal_and_depend_on_the_seed_alone() -> None:
    z = latents(2000, 10, seed=3)
    assert (z.shape, z.dtype) == ((2000, 10), torch.float32)
    assert abs(z.mean()) < 5 / 20_000**0.5
    assert abs(z.std() - 1) < 5 / 40_000**0.5
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert torch.equal(latents(2000, 10, seed=3), z)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(latents(2000, 10, seed=4), z)


@pytest.mark.parametrize("dimensions", [1, 10, 50, 64, 100])
def test_a_seed_has_the_same_latent_whatever_the_count(dimensions: int) -> None:
    z = latents(100, dimensions, seed=5)
    for count in (1, 2, 3, 7, 16, 99):
        assert torch.equal(latents(count, dimensions, seed=5), z[:count])
        assert torch.equal(latents(count, dimensions, seed=105 - count), z[-count:])


def test_latents_are_those_that_numpy_has_frozen() -> None:
    first = [1.764052345967664, 0.4001572083672233, 0.9787379841057392]
    assert latents(1, 3, seed=0)[0].tolist() == np.array(first, np.float32).tolist()


def test_latents_of_consecutive_seeds_are_independent() -> None:
    z = latents(2000, 10, seed=0).double()
    assert len({tuple(row) for row in z.tolist()}) == 2000
    neighbours = (z[:-1].T @ z[1:]) / 1999  # of all pairs of dimensions
    assert neighbours.abs().max() < 5 / 1999**0.5
    assert (z.T @ z / 2000 - torch.eye(10)).abs().max() < 5 * (2 / 2000) ** 0.5


@pytest.mark.parametrize(("count", "seed"), [(1, -1), (1, 2**32), (2, 2**32 - 1)])
def test_a_seed_out_of_range_is_refused(count: int, seed: int) -> None:
    with pytest.raises(FaceganError, match=r"^seeds .*: valid: 0 to 4294967295$"):
        latents(count, 3, seed)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_and_infinity_are_refused(value: float, network: Generator) -> None:
    next(network.parameters()).data[0, 0] = value
    with pytest.raises(FaceganError, match="generator output contains NaN"):
        list(generate(network, latents(3, 6, seed=0)))


@pytest.mark.parametrize("batch", [1, 7, 20, 64])
def test_images_do_not_depend_on_the_batch_size(
    batch: int, network: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    z = latents(20, 6, seed=0)
    whole = torch.cat(list(generate(network, z)))
    monkeypatch.setattr(sampling, "BATCH", batch)
    batches = list(generate(network, z))
    assert [len(part) for part in batches][:-1] == [batch] * (math.ceil(20 / batch) - 1)
    images = torch.cat(batches)
    assert images.shape == whole.shape == (20, 32, 32, 3)
    # Another order of sums may round to the other side.
    assert (images.int() - whole.int()).abs().max() <= 1


def test_images_are_the_networks_output(network: Generator) -> None:
    z = latents(3, 6, seed=0)
    (images,) = generate(network, z)
    assert not images.requires_grad
    expected = ((network(z) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
    assert torch.equal(images, expected)
