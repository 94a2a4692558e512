from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from facegan.models.dcgan import Discriminator, Generator, initialise

# "DCGAN Tutorial" of PyTorch: 64 pixels, RGB, 100 latent dimensions, 64 feature maps, no biases.
TUTORIAL = {"generator": 3_576_704, "discriminator": 2_765_568}


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def weights(network: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_latents_give_images_and_images_give_logits(size: int, channels: int) -> None:
    generator = Generator(size, channels, latent_dim=10, base_channels=4)
    images = generator(100 * torch.randn(5, 10, generator=seeded(0)))
    assert images.shape == (5, channels, size, size)
    assert images.abs().max() <= 1
    logits = Discriminator(size, channels, base_channels=4)(images)
    assert logits.shape == (5,)


def test_a_single_image_gives_one_logit() -> None:
    assert Discriminator(32, 1, base_channels=4)(torch.zeros(1, 1, 32, 32)).shape == (1,)


def test_logits_have_both_signs() -> None:
    network = Discriminator(32, 1, base_channels=4)
    logits = network(torch.randn(64, 1, 32, 32, generator=seeded(0)))
    assert logits.min() < 0 < logits.max()


def test_parameters_are_the_tutorials_plus_biases_where_no_batchnorm_follows() -> None:
    generator = Generator(size=64, channels=3, latent_dim=100, base_channels=64)
    discriminator = Discriminator(size=64, channels=3, base_channels=64)
    # Biases of the generator's last layer, and of the discriminator's first and last.
    assert parameters(generator) == TUTORIAL["generator"] + 3
    assert parameters(discriminator) == TUTORIAL["discriminator"] + 64 + 1


def test_the_generator_without_its_bias_is_the_tutorials() -> None:
    widths, layers = [100, 512, 256, 128, 64], []
    for before, after in pairwise(widths):
        step = (1, 0) if before == 100 else (2, 1)
        convolution = nn.ConvTranspose2d(before, after, 4, *step, bias=False)
        layers += [convolution, nn.BatchNorm2d(after), nn.ReLU()]
    tutorial = nn.Sequential(*layers, nn.ConvTranspose2d(64, 3, 4, 2, 1, bias=False), nn.Tanh())
    ours = Generator(size=64, channels=3, latent_dim=100, base_channels=64)
    initialise(ours, seeded(0))
    values = {name: value for name, value in ours.layers.state_dict().items() if name != "12.bias"}
    tutorial.load_state_dict(values)
    z = torch.randn(2, 100, generator=seeded(1))
    torch.testing.assert_close(ours(z), tutorial(z[:, :, None, None]))


def test_the_discriminators_input_layer_has_no_batchnorm() -> None:
    layers = list(Discriminator(64, 3, base_channels=4).layers)
    assert isinstance(layers[0], nn.Conv2d)
    assert not isinstance(layers[1], nn.BatchNorm2d)
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in layers) == 3


@pytest.mark.parametrize("network", [Generator(32, 3, 100, 32), Discriminator(32, 3, 32)])
def test_initial_weights_have_the_papers_distribution(network: nn.Module) -> None:
    initialise(network, seeded(0))
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d):
            batch_norm = isinstance(module, nn.BatchNorm2d)
            weight, count = module.weight.detach(), module.weight.numel()
            # Five standard errors of the mean, and of the standard deviation.
            assert abs(weight.mean() - float(batch_norm)) < 5 * 0.02 / count**0.5
            assert abs(weight.std() - 0.02) < 5 * 0.02 / (2 * count) ** 0.5
            assert module.bias is None or not module.bias.any()


@pytest.mark.parametrize("network", [Generator(32, 1, 10, 4), Discriminator(32, 1, 4)])
def test_initial_weights_depend_on_the_seed_alone(network: nn.Module) -> None:
    initialise(network, seeded(1))
    first = weights(network)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    initialise(network, seeded(1))
    assert torch.equal(weights(network), first)
    assert torch.equal(torch.get_rng_state(), state)
    initialise(network, seeded(2))
    assert not torch.equal(weights(network), first)


def test_initialise_resets_biases() -> None:
    network = Discriminator(32, 1, 4)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(9)
    initialise(network, seeded(0))
    assert weights(network).max() < 2
