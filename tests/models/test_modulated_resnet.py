import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from facegan.models import modulated_resnet, resnet
from facegan.models.modulated_resnet import ModulatedNorm
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


def test_the_latent_modulates_every_norm_of_resnets_generator() -> None:
    network = modulated_generator().train()
    plain = resnet.Generator(32, 3, 6, 4)
    norms = [layer for layer in network.layers if isinstance(layer, ModulatedNorm)]
    expected = [m.num_features for m in plain.modules() if isinstance(m, nn.BatchNorm2d)]
    assert [layer.norm.num_features for layer in norms] == expected
    assert len(network.layers) == len(plain.layers)
    z = random(8, 6)
    before = network(z)
    for layer in norms:
        hidden, layer.hidden = layer.hidden, nn.Linear(6, modulated_resnet.HIDDEN)
        assert not torch.allclose(network(z), before)
        layer.hidden = hidden
    assert torch.equal(network(z), before)


def test_initial_modulations_are_small_and_centred() -> None:
    network = modulated_generator()
    modulated_resnet.initialise(network, torch.Generator().manual_seed(0))
    layers = [m for m in network.modules() if isinstance(m, ModulatedNorm)]
    z = random(2000, 6)
    values = torch.cat([m.modulation(leaky_relu(m.hidden(z), 0.2)).flatten() for m in layers])
    assert 0.03 < values.std() < 0.2 and abs(values.mean()) < 0.03


def test_the_discriminator_is_resnets() -> None:
    assert modulated_resnet.Discriminator is resnet.Discriminator
