from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from facegan.models.sampling import NotFinite, generate, latents
from facegan.sample.renderer import BATCH, Renderer
from networks import modulated_generator, small_generator


@given(st.lists(st.integers(0, 200), min_size=1, max_size=2 * BATCH + 3))
def test_an_image_has_the_same_bytes_whatever_the_others(chosen: list[int]) -> None:
    network = small_generator().eval()
    z = latents(201, 6, 0)
    images = np.concatenate(list(Renderer(network)(z[chosen])))
    assert np.array_equal(images, np.concatenate(list(Renderer(network)(z)))[chosen])


@pytest.mark.parametrize(("make", "channels"), [(small_generator, 1), (modulated_generator, 3)])
def test_images_differ_from_float32_by_a_few_grey_levels(
    make: Callable[[], nn.Module], channels: int
) -> None:
    network = make().eval()
    z = latents(70, 6, 0)
    images = np.concatenate(list(Renderer(network)(z))).astype(int)
    expected = torch.cat(list(generate(network, z))).numpy()
    assert images.shape == (70, 32, 32, channels) and images.std() > 0
    assert np.abs(images - expected).max() <= 4


@pytest.mark.parametrize("make", [small_generator, modulated_generator])
def test_norms_are_folded_into_the_weights_of_a_copy(make: Callable[[], nn.Module]) -> None:
    network = make().eval()
    layers = list(Renderer(network).network.modules())
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in layers)
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())


def test_nan_is_an_error_and_no_black_image() -> None:
    network = small_generator().eval()
    with torch.no_grad():
        next(network.parameters()).fill_(torch.nan)
    with pytest.raises(NotFinite, match="NaN"):
        list(Renderer(network)(latents(1, 6, 0)))


def test_the_network_sees_full_batches_only() -> None:
    """Convolutions may round differently for other sizes, on some machines."""
    render, sizes = Renderer(small_generator().eval()), list[int]()
    render.network.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    images = list(render(latents(BATCH + 1, 6, 0)))
    assert sizes == [BATCH, BATCH] and [len(batch) for batch in images] == [BATCH, 1]
