"""The exported model, without MLflow around it; test_serving.py has both."""

import pytest
import torch
from torch import Tensor
from torch.export import Dim

from facegan.models.architectures import ARCHITECTURES, build_generator, initialise
from facegan.models.sampling import generate, latents
from facegan.register.export import CheckedGenerator
from facegan.register.files import MAX_LATENTS


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_exported_model_takes_valid_latents_of_any_number_and_no_others(
    architecture: str,
) -> None:
    network = build_generator(architecture, size=28, channels=1, latent_dim=6, base_channels=2)
    initialise(architecture, network, torch.Generator().manual_seed(0))
    checked = CheckedGenerator(network.eval()).eval()
    # As mlflow.pytorch exports.
    program = torch.export.export(checked, (latents(2, 6, 0),), dynamic_shapes=[{0: Dim.AUTO}])
    model = program.module()
    for count in (1, 2, 5, MAX_LATENTS):
        z = latents(count, 6, 0)
        expected = torch.cat(list(generate(network, z)))
        assert (model(z).int() - expected.int()).abs().max() <= 1
    refused: tuple[tuple[Tensor, str], ...] = (
        (latents(MAX_LATENTS + 1, 6, 0), f"too many latents; valid: at most {MAX_LATENTS} at once"),
        (torch.full((1, 6), torch.nan), "latents contain NaN, infinity or null"),
        (torch.full((1, 6), torch.inf), "latents contain NaN, infinity or null"),
    )
    for z, message in refused:
        with pytest.raises(RuntimeError, match=message):
            model(z)


def test_latents_that_overflow_the_network_are_refused() -> None:
    network = build_generator("dcgan", size=28, channels=1, latent_dim=6, base_channels=2)
    initialise("dcgan", network, torch.Generator().manual_seed(0))
    z = latents(1, 6, 0)
    checked = CheckedGenerator(network.eval()).eval()
    assert checked(z).shape == (1, 28, 28, 1)
    for parameter in network.parameters():
        parameter.data *= 1e10
    with pytest.raises(RuntimeError, match="latents are too large: the images contain NaN"):
        checked(z * 1e20)
