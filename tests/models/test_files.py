import json
import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from facegan.core.digests import file_sha256
from facegan.core.errors import FaceganError
from facegan.models.architectures import build_generator
from facegan.models.dcgan import Discriminator, Generator
from facegan.models.files import load_generator, save_network
from networks import CONFIG, small_generator

CPU = torch.device("cpu")


@pytest.fixture
def network() -> Generator:
    return small_generator()


def test_a_saved_generator_has_the_same_output(network: Generator, tmp_path: Path) -> None:
    path = tmp_path / "generator.safetensors"
    save_network(network.state_dict(), CONFIG, path)
    loaded = load_generator(path, CPU)
    assert not any(module.training for module in loaded.modules())
    assert (loaded.size, loaded.channels, loaded.latent_dim) == (32, 1, 6)
    z = torch.randn(3, 6, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(loaded(z), network.eval()(z))


def test_the_file_has_one_metadata_key_with_the_configuration(
    network: Generator, tmp_path: Path
) -> None:
    path = tmp_path / "generator.safetensors"
    save_network(network.state_dict(), CONFIG, path)
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"facegan": json.dumps(CONFIG, sort_keys=True)}
        tensors = {name: file.get_tensor(name) for name in list(file.keys())}
    torch.testing.assert_close(tensors, dict(network.state_dict()), rtol=0, atol=0)


def test_saving_is_deterministic(network: Generator, tmp_path: Path) -> None:
    state = network.state_dict()
    contents = set()
    for number in range(5):
        path = tmp_path / f"{number}.safetensors"
        config = dict(reversed(CONFIG.items())) if number % 2 else CONFIG
        save_network(state, config, path)
        contents.add(path.read_bytes())
    assert len(contents) == 1


def test_bytes_do_not_depend_on_the_memory_format(network: Generator, tmp_path: Path) -> None:
    save_network(network.state_dict(), CONFIG, tmp_path / "one")
    channels_last = network.to(memory_format=torch.channels_last)
    save_network(channels_last.state_dict(), CONFIG, tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_others_can_read_the_file_as_the_umask_says(
    umask: int, mode: int, network: Generator, tmp_path: Path
) -> None:
    before = os.umask(umask)
    try:
        save_network(network.state_dict(), CONFIG, tmp_path / "generator.safetensors")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "generator.safetensors").stat().st_mode) == mode


def write_invalid(path: Path, kind: str) -> None:
    tensors = {"weight": torch.zeros(2)}
    match kind:
        case "text":
            path.write_text("text")
        case "empty":
            path.write_bytes(b"")
        case "folder":
            path.mkdir()
        case "no metadata":
            save_file(tensors, path)
        case "other metadata":
            save_file(tensors, path, {"format": "pt"})
        case "no json":
            save_file(tensors, path, {"facegan": "{"})
        case "nested":
            save_file(tensors, path, {"facegan": "[" * 100_000})
        case "no object":
            save_file(tensors, path, {"facegan": "[1]"})
        case "other keys":
            save_file(tensors, path, {"facegan": json.dumps({"count": 5})})
        case "other tensors":
            save_network(tensors, CONFIG, path)
        case "other width":
            save_network(
                build_generator(**CONFIG).state_dict(), {**CONFIG, "base_channels": 8}, path
            )
        case "impossible size":
            save_network(build_generator(**CONFIG).state_dict(), {**CONFIG, "size": 48}, path)
        case "discriminator":
            save_network(Discriminator(32, 1, 4).state_dict(), CONFIG, path)
        case "truncated":
            save_network(build_generator(**CONFIG).state_dict(), CONFIG, path)
            path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    "kind",
    ["missing", "text", "empty", "folder", "no metadata", "other metadata", "no json", "nested",
     "no object",
     "other keys", "other tensors", "other width", "impossible size", "discriminator",
     "truncated"],
)  # fmt: skip
def test_an_invalid_file_is_reported_with_its_path(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    write_invalid(path, kind)
    reasons = "not a (generator|network) written by facegan train|(is a folder|not found); expected"
    with pytest.raises(FaceganError, match=f"^{path}: ({reasons}) ") as caught:
        load_generator(path, CPU)
    assert len(str(caught.value).splitlines()) == 1


def test_a_generator_of_other_layers_is_said_to_be_of_another_version(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    write_invalid(path, "other tensors")
    reason = r"train \(its tensors are not the layers of dcgan in this version of FaceGAN\)$"
    with pytest.raises(FaceganError, match=reason):
        load_generator(path, CPU)


def test_networks_with_the_same_weights_have_the_same_hash(tmp_path: Path) -> None:
    def save(name: str, value: float) -> str:
        network = nn.Linear(2, 1)
        nn.init.constant_(network.weight, value)
        nn.init.zeros_(network.bias)
        save_network(network.state_dict(), {}, tmp_path / name)
        return file_sha256(tmp_path / name)

    assert save("one", 1.0) == save("two", 1.0) != save("three", 2.0)
