from typing import Any

import pytest
import torch
from torch import Tensor

from facegan.models import stylegan2


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def initialised(network: Any) -> Any:
    stylegan2.initialise(network, seeded(0))
    return network


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed))


@pytest.mark.parametrize("kernel", [1, 3, 4])
def test_demodulated_outputs_keep_the_leaky_relus_variance_whatever_the_style(kernel: int) -> None:
    layer = initialised(stylegan2.Modulated(64, 64, kernel, 8))
    x = normal(16, 64, 16, 16)
    for scale in (0.1, 10):
        y = layer(x, scale * normal(16, 8, seed=2))
        inner = y[:, :, 2:-2, 2:-2]  # edges see fewer pixels
        assert float(inner.detach().std()) == pytest.approx(stylegan2.GAIN, rel=0.1)


def test_a_modulated_convolution_equals_one_with_modulated_weights_for_each_image() -> None:
    layer = initialised(stylegan2.Modulated(6, 5, 3, 4))
    x, w = normal(3, 6, 8, 8), normal(3, 4, seed=2)
    style = layer.style(w)
    for image, own, y in zip(x, style, layer(x, w), strict=True):
        weight = layer.weight * own[None, :, None, None] / layer.fan_in**0.5
        norm = weight.square().sum((1, 2, 3), keepdim=True).add(1e-8).rsqrt()  # eq. 3
        expected = torch.nn.functional.conv2d(image[None], weight * norm, padding=1)
        torch.testing.assert_close(y, stylegan2.GAIN * expected[0])


def test_activations_keep_their_scale_with_depth() -> None:
    generator = initialised(stylegan2.Generator(128, 3, 32, 16))
    discriminator = initialised(stylegan2.Discriminator(128, 3, 16))
    scales = list[float]()
    for network in (generator, discriminator):
        for module in network.modules():
            if isinstance(module, stylegan2.Modulated | stylegan2.Block):
                module.register_forward_hook(
                    lambda _, __, y: scales.append(float(y.detach().std()))
                )
    with torch.no_grad():
        generator(normal(16, 32))
        discriminator(normal(16, 3, 128, 128))
    assert len(scales) == 1 + 3 * 5 + 1 + 5
    assert min(scales) > 0.2 and max(scales) < 3


def test_groups_of_four_images_share_their_standard_deviation_and_no_others_do() -> None:
    discriminator = initialised(stylegan2.Discriminator(32, 1, 4))
    x = normal(8, 1, 32, 32)
    before = discriminator(x)
    x[7] = 0
    after = discriminator(x)
    torch.testing.assert_close(after[:4], before[:4])
    assert (after[4:] != before[4:]).all()


def test_mapping_learns_at_a_hundredth_of_the_rate() -> None:
    fast, slow = (initialised(stylegan2.Linear(8, 8, rate=rate)) for rate in (1.0, 0.01))
    x = normal(4, 8)
    torch.testing.assert_close(fast(x), slow(x))
    for layer in (fast, slow):
        layer.weight.data.add_(0.01)  # Adam's steps do not depend on the gradient's scale
    torch.testing.assert_close(
        slow(x) - fast(x), -0.99 * 0.01 * x.sum(1, keepdim=True).expand(4, 8) / 8**0.5
    )
