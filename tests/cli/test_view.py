"""The command `sample`. tests/integration/test_pipeline.py tests `summary`."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from commands import invoke
from facegan.cli.main import app
from facegan.core.errors import FaceganError
from facegan.models.architectures import build_generator
from facegan.models.dcgan import initialise
from facegan.models.files import save_network

CONFIG: dict[str, Any] = {
    "architecture": "dcgan",
    "size": 32,
    "channels": 3,
    "latent_dim": 6,
    "base_channels": 4,
}


@pytest.fixture
def generator(tmp_path: Path) -> Path:
    network = build_generator(**CONFIG)
    initialise(network, torch.Generator().manual_seed(0))
    with torch.no_grad():  # else all images are grey
        for weight in network.parameters():
            weight.mul_(3)
    save_network(network.state_dict(), CONFIG, tmp_path / "generator.safetensors")
    return tmp_path / "generator.safetensors"


def sample(generator: Path, out: Path, *options: str) -> bytes:
    result = CliRunner().invoke(app, ["sample", str(generator), str(out), *options])
    assert result.exit_code == 0, result.output
    return out.read_bytes()


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (5, 3, 2), (9, 3, 3)])
def test_a_sample_is_a_png_with_the_requested_number_of_images(
    count: int, columns: int, rows: int, generator: Path, tmp_path: Path
) -> None:
    content = sample(generator, tmp_path / "faces.png", "--count", str(count))
    with Image.open(io.BytesIO(content)) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        assert image.size == (columns * 32, rows * 32)


def test_a_sample_has_64_images_by_default(generator: Path, tmp_path: Path) -> None:
    result = invoke("sample", generator, "faces.png", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (0, "faces.png: 64 images\n")
    with Image.open(tmp_path / "faces.png") as image:
        assert image.size == (8 * 32, 8 * 32)


@pytest.mark.parametrize(("count", "seed"), [(1, 0), (3, 0), (7, 2), (1, 8)])
def test_a_seed_is_one_face_whatever_the_count(
    count: int, seed: int, generator: Path, tmp_path: Path
) -> None:
    options = ("--count", str(count), "--seed", str(seed))
    faces = cells(sample(generator, tmp_path / "some.png", *options))[:count]
    expected = cells(sample(generator, tmp_path / "all.png", "--count", "9"))[seed : seed + count]
    assert len(np.unique(expected, axis=0)) == count
    # Another batch size may round to the other side.
    assert np.abs(faces.astype(int) - expected).max() <= 1


def cells(png: bytes) -> NDArray[np.uint8]:
    """The images of a grid, with its black cells: uint8 (n, 32, 32, 3)."""
    with Image.open(io.BytesIO(png)) as image:
        pixels = np.asarray(image)
    rows, columns = pixels.shape[0] // 32, pixels.shape[1] // 32
    return pixels.reshape(rows, 32, columns, 32, 3).swapaxes(1, 2).reshape(-1, 32, 32, 3)


def test_the_seed_determines_the_picture(generator: Path, tmp_path: Path) -> None:
    out = tmp_path / "faces.png"
    pictures = [sample(generator, out, "--count", "4", "--seed", seed) for seed in "0011"]
    assert pictures[0] == pictures[1] != pictures[2] == pictures[3]


@pytest.mark.parametrize(
    ("option", "value"),
    [("--seed", "-1"), ("--seed", "x"), ("--seed", str(2**64)), ("--count", "0"), ("--count", "x")],
)
def test_an_invalid_number_is_a_usage_error(
    option: str, value: str, generator: Path, tmp_path: Path
) -> None:
    arguments = ["sample", str(generator), str(tmp_path / "out.png"), option, value]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("out", ["holiday", ".", ".."])
def test_a_picture_never_replaces_a_folder(
    out: str, generator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    current = tmp_path / "one" / "two"
    (current / "holiday").mkdir(parents=True)
    (current / "holiday" / "face.jpg").write_text("precious")
    monkeypatch.chdir(current)
    result = CliRunner().invoke(app, ["sample", str(generator), out])
    assert isinstance(result.exception, FaceganError)
    assert (current / "holiday" / "face.jpg").read_text() == "precious"


def test_a_missing_generator_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    result = CliRunner().invoke(app, ["sample", str(tmp_path / "absent.safetensors"), str(out)])
    assert isinstance(result.exception, FaceganError)
    assert not out.exists()
