"""The commands `sample` and `score`. tests/integration/test_pipeline.py tests `summary`."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from commands import error_lines, invoke
from facegan.cli.main import app
from facegan.core.digests import file_sha256
from facegan.core.errors import FaceganError
from facegan.data.dataset import load_images
from facegan.models.architectures import build_generator
from facegan.models.dcgan import initialise
from facegan.models.files import save_network
from samples import encoded, fill, zipped

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


@pytest.fixture
def project(dataset: Path, references: tuple[Path, Path], tmp_path: Path) -> Path:
    """A project with the digits' statistics, and 40 of the digits as a zip and as a folder."""
    (tmp_path / "stats").mkdir()
    shutil.copy(references[1], tmp_path / "stats/official.safetensors")
    command = "facegan reference data quick.safetensors stats/official.safetensors"
    (tmp_path / "dvc.yaml").write_text(f"stages:\n  reference:\n    cmd: {command}\n")
    images = load_images(dataset).numpy()[:40, ..., 0]
    files = {f"{n:02d}.png": encoded(Image.fromarray(image)) for n, image in enumerate(images)}
    fill(tmp_path, {"faces.zip": zipped(files)})
    fill(tmp_path / "faces [b]", files)
    return tmp_path


def test_score_shows_a_table(project: Path) -> None:
    result = invoke("score", "faces [b]", cwd=project)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("faces [b]")
    for text in ("fid40_efficientnet-lite0-32", "40 images against 600 real images", "recall"):
        assert text in result.stdout
    assert result.stderr.splitlines() == ["read: 40/40", "score: 40/40"]


def test_score_prints_json_like_metrics_json(project: Path) -> None:
    (project / "below").mkdir()
    result = invoke("score", "../faces.zip", "--json", cwd=project / "below")
    scores = json.loads(result.stdout)
    fid = "fid40_efficientnet-lite0-32"
    assert scores[fid] > 0 and scores["protocol"]["name"] == fid
    assert scores["precision20_efficientnet-lite0-32"] > 0.5  # real images
    assert scores["reference"] == file_sha256(project / "stats/official.safetensors")


def test_warnings_about_scores_in_json_are_on_stderr_too(project: Path) -> None:
    (project / "faces [b]/a.txt").write_text("x")
    result = invoke("score", "faces [b]", "--json", cwd=project)
    assert json.loads(result.stdout)["warnings"] == ["passed over: 1 not-an-image"]
    assert "score: passed over: 1 not-an-image" in result.stderr.splitlines()


def test_score_takes_another_reference(project: Path, tmp_path: Path) -> None:
    (project / "stats/official.safetensors").rename(project / "other")
    assert invoke("score", "faces.zip", "--reference", "other", cwd=project).returncode == 0
    (line,) = error_lines(invoke("score", "faces.zip", cwd=project))
    assert line.startswith("stats/official.safetensors: not reference statistics")


def test_an_image_that_cannot_be_scored_is_an_error(project: Path) -> None:
    (project / "faces [b]/07.png").write_bytes(b"")
    result = invoke("score", "faces [b]", cwd=project)
    assert (result.returncode, result.stdout) == (1, "")
    lines = [line for line in result.stderr.splitlines() if not line.startswith("read: 40")]
    assert lines[0] == "read: 07.png: unreadable"
    (line,) = lines[1:]
    assert line.startswith("facegan: faces [b]: 1 of 40 images cannot be scored; valid")


@pytest.mark.parametrize("name", ["nowhere", "s3://"])
def test_score_of_nothing_is_one_line(project: Path, name: str) -> None:
    (line,) = error_lines(invoke("score", name, cwd=project))
    assert name in line


def test_outside_a_project_the_reference_has_to_be_named(tmp_path: Path) -> None:
    (line,) = error_lines(invoke("score", "faces", cwd=tmp_path))
    assert line.endswith("dvc.yaml: no command of the stage reference; run in a project, or name "
                         "the file by option")  # fmt: skip
