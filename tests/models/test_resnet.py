import pytest
import torch
from torch import nn
from torch.nn.functional import leaky_relu

from facegan.models import dcgan, sizes
from facegan.models.resnet import SLOPE, Block, Discriminator, Generator, initialise


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def convolutions(network: nn.Module) -> list[tuple[int, ...]]:
    kinds = nn.Conv2d | nn.ConvTranspose2d
    return [tuple(m.weight.shape) for m in network.modules() if isinstance(m, kinds)]


def test_a_block_adds_its_input() -> None:
    block = Block(8)
    x = torch.randn(4, 8, 5, 5, generator=seeded(0))
    nn.init.zeros_(block.norm.weight)
    assert torch.equal(block(x), leaky_relu(x, SLOPE))
    nn.init.ones_(block.norm.weight)
    residual = block.norm(block.convolution(x))
    torch.testing.assert_close(block(x), leaky_relu(x + residual, SLOPE))


@pytest.mark.parametrize("size", sizes.SIZES)
def test_the_discriminators_middle_layers_are_dcgans(size: int) -> None:
    *ours, block, last = Discriminator(size, 3, 8).layers
    *theirs, their_last = dcgan.Discriminator(size, 3, 8).layers
    assert isinstance(block, Block)
    assert list(map(repr, [*ours[4:], last])) == list(map(repr, [*theirs[2:], their_last]))


@pytest.mark.parametrize("size", sizes.SIZES)
def test_the_discriminators_first_convolution_is_at_full_resolution(size: int) -> None:
    network = Discriminator(size, 3, 8)
    assert convolutions(network)[:2] == [(4, 3, 3, 3), (8, 4, 4, 4)]
    sides = [network.layers[:depth](torch.zeros(2, 3, size, size)).shape[-1] for depth in (2, 4)]
    assert sides == [size, size // 2]


@pytest.mark.parametrize("size", sizes.SIZES)
def test_the_generators_last_convolution_is_at_full_resolution(size: int) -> None:
    ours, theirs = Generator(size, 3, 7, 8), dcgan.Generator(size, 3, 7, 8)
    assert convolutions(ours)[:-2] == convolutions(theirs)[:-1]
    assert convolutions(ours)[-2:] == [(8, 4, 4, 4), (3, 4, 3, 3)]
    last_maps = ours.layers[:-2](torch.zeros(2, 7, 1, 1))
    assert last_maps.shape == (2, 4, size, size)


def test_networks_with_one_base_channel_work() -> None:
    images = Generator(32, 1, 7, 1)(torch.zeros(2, 7))
    assert Discriminator(32, 1, 1)(images).shape == (2,)


def test_initial_weights_are_dcgans() -> None:
    network = Discriminator(32, 3, 32)
    initialise(network, seeded(0))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.1)
        elif isinstance(module, nn.BatchNorm2d):
            assert module.weight.mean().item() == pytest.approx(1, abs=0.02)
