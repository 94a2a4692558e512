import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, relu

from facegan.models import modulated_resnet, resnet
from facegan.models.modulated_resnet import GreyDetail, ModulatedBlock, ModulatedNorm
from networks import modulated_generator


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def test_scale_and_shift_are_functions_of_the_latent() -> None:
    layer, x, z = ModulatedNorm(3, 5), 4 * random(6, 3, 2, 2) + 1, random(6, 5)
    with torch.no_grad():
        layer.hidden.bias.copy_(random(modulated_resnet.HIDDEN))
        layer.modulation.bias.copy_(random(6))
    centred = x - x.mean((0, 2, 3), keepdim=True)
    normal = centred / (centred.square().mean((0, 2, 3), keepdim=True) + 1e-5).sqrt()
    hidden = leaky_relu(z @ layer.hidden.weight.T + layer.hidden.bias, 0.2)
    modulation = hidden @ layer.modulation.weight.T + layer.modulation.bias
    scale, shift = modulation[:, :3, None, None], modulation[:, 3:, None, None]
    torch.testing.assert_close(layer(x, z), normal * (1 + scale) + shift)


def test_a_block_adds_its_normalised_convolution() -> None:
    block, x, z = ModulatedBlock(3, 5), random(6, 3, 4, 4), random(6, 5)
    convolution, norm = block.layers
    torch.testing.assert_close(block(x, z), relu(x + norm(convolution(x), z)))


def test_the_latent_modulates_every_norm_of_resnets_generator_and_of_the_block() -> None:
    network = modulated_generator().train()
    plain = resnet.Generator(32, 3, 6, 4)
    norms = [layer for layer in network.modules() if isinstance(layer, ModulatedNorm)]
    expected = [m.num_features for m in plain.modules() if isinstance(m, nn.BatchNorm2d)]
    assert [layer.norm.num_features for layer in norms] == [*expected, 2]
    z = random(8, 6)
    before = network(z)
    for layer in norms:
        hidden, layer.hidden = layer.hidden, nn.Linear(6, modulated_resnet.HIDDEN)
        assert not torch.allclose(network(z), before)
        layer.hidden = hidden
    assert torch.equal(network(z), before)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["columns", "rows", "a chequerboard"]))
def test_stripes_and_dots_of_one_pixel_become_grey(seed: int, kind: str) -> None:
    colour, contrast = torch.randn(2, 3, 1, 1, generator=torch.Generator().manual_seed(seed))
    stripes = torch.tensor([1.0, -1.0]).repeat(4)
    patterns = {"columns": stripes, "rows": stripes[:, None]}
    pattern = patterns.get(kind, stripes * stripes[:, None]).expand(8, 8)
    y = GreyDetail()((colour + contrast * pattern)[None])
    within = slice(1, -1)  # those at the edge have a neighbour on one side only
    expected = colour + contrast.mean() * pattern
    torch.testing.assert_close(y[0, :, within, within], expected[:, within, within])


def test_images_of_one_colour_and_grey_ones_are_unchanged() -> None:
    colour = random(2, 3, 1, 1).expand(2, 3, 8, 8)
    grey = random(2, 1, 8, 8).expand(2, 3, 8, 8)
    for images in (colour, grey):
        torch.testing.assert_close(GreyDetail()(images), images)


def test_only_generators_of_colour_make_detail_grey() -> None:
    for channels in (1, 3):
        network = modulated_resnet.Generator(32, channels, 6, 4)
        found = [isinstance(layer, GreyDetail) for layer in network.layers]
        assert sum(found) == (channels == 3) and isinstance(network.layers[-1], nn.Tanh)


def test_initial_modulations_are_small_and_centred() -> None:
    network = modulated_generator()
    modulated_resnet.initialise(network, torch.Generator().manual_seed(0))
    layers = [m for m in network.modules() if isinstance(m, ModulatedNorm)]
    z = random(2000, 6)
    values = torch.cat([m.modulation(leaky_relu(m.hidden(z), 0.2)).flatten() for m in layers])
    assert 0.03 < values.std() < 0.2 and abs(values.mean()) < 0.03


def test_the_discriminator_is_resnets() -> None:
    assert modulated_resnet.Discriminator is resnet.Discriminator
