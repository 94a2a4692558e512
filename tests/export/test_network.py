import itertools
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from export.conftest import contrasty
from facegan.core.errors import FaceganError
from facegan.export import network as writer
from facegan.models.architectures import ARCHITECTURES, Generator
from facegan.models.sampling import generate, latents


def assert_equal(path: Path, network: Generator, count: int) -> None:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    z = latents(count, network.latent_dim, 100)
    (images,) = session.run(["images"], {"z": z.numpy()})
    expected = torch.cat(list(generate(network, z))).numpy()
    assert images.dtype == np.uint8
    assert images.shape == expected.shape
    assert expected.std() > 5
    assert np.abs(images.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("count", [1, 3, 40])
def test_a_batch_of_any_size_has_the_images_of_pytorch(
    count: int, exported: Path, network: Generator
) -> None:
    assert_equal(exported / "generator.onnx", network, count)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("architecture", "channels"), list(zip(ARCHITECTURES, itertools.cycle((1, 3)), strict=False))
)
def test_every_architecture_has_the_images_of_pytorch(
    architecture: str, channels: int, tmp_path: Path
) -> None:
    network = contrasty(architecture, channels=channels, size=28 if channels == 1 else 32)
    writer.write(network, tmp_path / "generator.onnx")
    assert_equal(tmp_path / "generator.onnx", network, 5)


def test_other_images_than_pytorch_fail_the_export(
    exported: Path, network: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = exported / "generator.onnx"
    writer.check(network, path)
    monkeypatch.setattr(writer, "latents", lambda *arguments: latents(*arguments) * 0.9)
    monkeypatch.setattr(writer, "generate", lambda network, z: generate(network, z * 1.1))
    with pytest.raises(FaceganError, match=r"differ from PyTorch's by \d+ grey levels, in a batch"):
        writer.check(network, path)


def test_a_generator_of_nan_fails_the_export(exported: Path) -> None:
    broken = contrasty("dcgan")
    next(broken.parameters()).data[0] = torch.nan
    with pytest.raises(FaceganError, match="contains NaN"):
        writer.check(broken, exported / "generator.onnx")


def test_the_file_says_nothing_of_the_machine(exported: Path) -> None:
    model = onnx.load(exported / "generator.onnx")
    assert b"site-packages" not in (content := (exported / "generator.onnx").read_bytes())
    assert str(Path(writer.__file__).parents[3]).encode() not in content
    assert {len(node.metadata_props) for node in model.graph.node} == {0}
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["z", "images"]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "n"


def test_a_missing_package_is_one_line_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "facegan.export.network.find_spec",
        lambda name: None if name == "onnxscript" else find_spec(name),
    )
    with pytest.raises(FaceganError) as caught:
        writer.require_packages()
    assert str(caught.value) == "export needs onnxscript: pip install 'facegan[export]'"
