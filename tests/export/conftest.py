"""A small generator, and the folder that `facegan export` writes of it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from facegan.core.events import silent
from facegan.export import folder, web_runtime
from facegan.models.architectures import Generator, build_generator, initialise
from facegan.models.files import load_generator, save_network
from facegan.sample.opening import Opened, open_generator

CPU = torch.device("cpu")


def contrasty(architecture: str, size: int = 32, **config: Any) -> Generator:
    """An untrained generator, in eval mode, whose images have light and dark parts."""
    full = {"size": size, "channels": 3, "latent_dim": 12, "base_channels": 4} | config
    network = build_generator(architecture, **full)
    initialise(architecture, network, torch.Generator().manual_seed(0))
    for parameter in network.parameters():
        if parameter.ndim == 4 and architecture != "stylegan2":
            parameter.data *= 30
    z = torch.randn(32, full["latent_dim"], generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        network.train()(z)
    return network.eval()


@pytest.fixture(scope="session")
def generator_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("generator") / "generator.safetensors"
    network = contrasty("dcgan")
    config = {
        "architecture": "dcgan", "size": 32, "channels": 3, "latent_dim": 12, "base_channels": 4,
    }  # fmt: skip
    save_network(network.state_dict(), config, path)
    return path


@pytest.fixture
def opened(generator_file: Path) -> Opened:
    return open_generator(str(generator_file), CPU, silent)


@pytest.fixture(scope="session")
def runtime() -> Path:
    """The folder with onnxruntime-web."""
    if not (web_runtime.FOLDER / web_runtime.VERSION).is_file():
        pytest.skip("onnxruntime-web was not fetched (make install, with npm)")
    return web_runtime.require()


@pytest.fixture(scope="session")
def exported(generator_file: Path, runtime: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "page"
    folder.export(open_generator(str(generator_file), CPU, silent), out, silent)
    return out


@pytest.fixture(scope="session")
def network(generator_file: Path) -> Generator:
    return load_generator(generator_file, CPU)
