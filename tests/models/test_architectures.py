from typing import Any

import pytest
import torch
from torch import Tensor, nn

from facegan.models import architectures, sizes
from facegan.models.residual import Block

KINDS = list(architectures.ARCHITECTURES)
SHAPES = [(size, channels) for size in sizes.SIZES for channels in (1, 3)]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def both(kind: str, size: int = 32, channels: int = 1, width: int = 4) -> tuple[Any, Any]:
    """Generator and discriminator with initial weights."""
    config: dict[str, Any] = {
        "architecture": kind,
        "size": size,
        "channels": channels,
        "base_channels": width,
    }
    generator = architectures.build_generator(**config, latent_dim=7)
    discriminator = architectures.build_discriminator(**config)
    for network in (generator, discriminator):
        architectures.initialise(kind, network, seeded(0))
    return generator, discriminator


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("size", "channels"), SHAPES)
def test_latents_give_images_and_images_give_logits(kind: str, size: int, channels: int) -> None:
    generator, discriminator = both(kind, size, channels)
    images = generator(100 * torch.randn(5, 7, generator=seeded(1)))
    assert images.shape == (5, channels, size, size)
    assert images.abs().max() <= 1
    assert discriminator(images).shape == (5,)


@pytest.mark.parametrize("kind", KINDS)
def test_the_generator_has_its_shape_as_attributes(kind: str) -> None:
    generator, _ = both(kind, 28, 3)
    assert (generator.size, generator.channels, generator.latent_dim) == (28, 3, 7)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_weights(kind: str) -> None:
    one, other = both(kind)[0], both(kind)[0]
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_of_both_networks_gets_a_gradient(kind: str) -> None:
    generator, discriminator = both(kind)
    for network in (generator, discriminator):
        for module in network.modules():  # zero weights of new blocks would block gradients
            if isinstance(module, Block):
                nn.init.normal_(module.second.weight)
    discriminator(generator(torch.randn(4, 7, generator=seeded(1)))).square().sum().backward()
    for network in (generator, discriminator):
        assert all(parameter.grad is not None for parameter in network.parameters())
        assert all(p.grad.abs().sum() > 0 for p in network.parameters() if p.ndim > 1)


def test_residual_networks_process_each_image_independently() -> None:
    generator, discriminator = both("residual")
    z = torch.randn(6, 7, generator=seeded(1))
    together = discriminator(generator(z))
    separate = torch.cat([discriminator(generator(row)) for row in z.split(1)])
    torch.testing.assert_close(together, separate)


def test_a_residual_block_is_initialised_as_the_identity() -> None:
    generator, _ = both("residual")
    x = torch.randn(2, 16, 4, 4, generator=seeded(1))
    assert torch.equal(generator.layers[0](x), x)


def test_residual_activations_keep_their_scale_with_depth() -> None:
    generator, discriminator = both("residual", size=128, channels=3, width=16)
    x = generator.layers(
        generator.first(torch.randn(64, 7, generator=seeded(1))).unflatten(1, (64, 4, 4))
    )
    assert 0.2 < x.std() < 2
    images = torch.rand(64, 3, 128, 128, generator=seeded(2)) * 2 - 1
    assert 0.02 < discriminator.layers(images).std() < 2


def singular_values(network: nn.Module, x: Tensor) -> list[float]:
    for _ in range(50):
        network(x)  # each pass is one step of the power iteration
    return [
        float(torch.linalg.matrix_norm(module.weight.detach().flatten(1), 2))
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]


def test_spectral_norm_sets_the_largest_singular_value_of_each_layer_to_one() -> None:
    _, discriminator = both("dcgan")
    x = torch.rand(4, 1, 32, 32, generator=seeded(1))
    assert min(singular_values(discriminator, x)) < 0.9
    architectures.apply_spectral_norm(discriminator, seed=0)
    assert singular_values(discriminator.train(), x) == pytest.approx([1.0] * 4, rel=1e-3)


def test_spectral_norm_depends_on_its_seed_alone() -> None:
    states = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        _, discriminator = both("dcgan")
        architectures.apply_spectral_norm(discriminator, seed=5)
        states.append(discriminator.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.parametrize("size", [0, 16, 48, 256])
def test_an_unsupported_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"size {size}: valid"):
        sizes.widths(size, 8)


def test_widths_double_towards_the_smallest_feature_map() -> None:
    assert sizes.widths(28, 16) == [32, 16]
    assert sizes.widths(128, 16) == [256, 128, 64, 32, 16]
