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


def modulated_norm() -> ModulatedNorm:
    """In eval mode, with biases as large as weights."""
    layer, rng = ModulatedNorm(3, 5), torch.Generator().manual_seed(2)
    for parameter in layer.parameters():
        parameter.data.normal_(0.0, 0.5, generator=rng)
    return layer.eval()


def modulations(layer: ModulatedNorm, z: Tensor) -> Tensor:
    """Scales and shifts as in training: (n, 6)."""
    found: Tensor = layer.modulation(leaky_relu(layer.hidden(z), 0.2))
    return found


def found_modulations(layer: ModulatedNorm, z: Tensor) -> Tensor:
    """Those that features of 0 and 1 show, whose BatchNorm changes nothing: (n, 6)."""
    layer.norm.eps = 0.0
    shift = layer(torch.zeros(len(z), 3, 1, 1), z)
    return torch.cat([layer(torch.ones(len(z), 3, 1, 1), z) - shift - 1, shift], 1).flatten(1)


def test_the_mean_modulation_is_that_of_many_latents() -> None:
    layer = modulated_norm()
    mean = modulations(layer, random(1_000_000, 5)).mean(0)
    torch.testing.assert_close(layer.mean(), mean, rtol=0, atol=0.01)
    assert (mean - modulations(layer, torch.zeros(1, 5))).abs().max() > 0.3


@given(st.floats(0.01, 0.89), st.integers(0, 2**32 - 1))
def test_modulations_of_a_short_latent_are_nearer_to_the_mean(length: float, seed: int) -> None:
    layer = modulated_norm()
    z = torch.randn(4, 5, generator=torch.Generator().manual_seed(seed))
    z /= z.square().mean(1, keepdim=True).sqrt()
    expected = layer.mean() + length / 0.9 * (modulations(layer, 0.9 * z) - layer.mean())
    torch.testing.assert_close(found_modulations(layer, length * z), expected, rtol=1e-3, atol=1e-3)


@given(st.floats(0.91, 3.0), st.integers(0, 2**32 - 1))
def test_other_latents_are_those_of_training(length: float, seed: int) -> None:
    layer = modulated_norm()
    z = torch.randn(4, 5, generator=torch.Generator().manual_seed(seed))
    z *= length / z.square().mean(1, keepdim=True).sqrt()
    torch.testing.assert_close(found_modulations(layer, z), modulations(layer, z))


def test_the_first_convolution_has_no_short_latent_but_in_training() -> None:
    network, z = modulated_generator(), random(4, 6)
    z *= 0.1 / z.square().mean(1, keepdim=True).sqrt()
    seen = list[Tensor]()
    network.layers[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(z), network(10 * z), network.train()(z)
    lengths = [x.square().mean((1, 2, 3)).sqrt() for x in seen]
    torch.testing.assert_close(torch.stack(lengths), torch.tensor([[0.9], [1], [0.1]]).expand(3, 4))


def test_a_latent_of_zeros_has_an_image_and_a_gradient() -> None:
    z = torch.zeros(2, 6, requires_grad=True)
    image = modulated_generator()(z)
    image.sum().backward()
    assert z.grad is not None and z.grad.isfinite().all() and image.isfinite().all()


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
