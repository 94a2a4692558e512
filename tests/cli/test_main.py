import hashlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from facegan.cli.main import app
from facegan.core.errors import FaceganError
from facegan.features import inception_weights
from facegan.models.architectures import build_generator
from facegan.models.dcgan import initialise
from facegan.models.files import save_network
from facegan.params import preset_text, write_preset

GROUP = typer.main.get_command(app)
COMMANDS = sorted(GROUP.commands)  # type: ignore[attr-defined]
CONFIG: dict[str, Any] = {
    "architecture": "dcgan",
    "size": 32,
    "channels": 3,
    "latent_dim": 6,
    "base_channels": 4,
}


def facegan(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    command = [str(Path(sys.executable).with_name("facegan")), *map(str, arguments)]
    environment = os.environ | {"COLUMNS": "200"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def failed(result: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines on stderr of a command that ended as a user's mistake does."""
    assert result.returncode == 1, result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if not line.startswith("preprocess: ")]
    assert lines
    assert all(line.startswith("facegan: ") for line in lines)
    return [line.removeprefix("facegan: ") for line in lines]


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEGAN_DEVICE", "cpu")


@pytest.fixture
def generator(tmp_path: Path) -> Path:
    network = build_generator(**CONFIG)
    initialise(network, torch.Generator().manual_seed(0))
    save_network(network.state_dict(), CONFIG, tmp_path / "generator.safetensors")
    return tmp_path / "generator.safetensors"


def test_the_help_names_every_command(tmp_path: Path) -> None:
    result = facegan("--help", cwd=tmp_path)
    assert result.returncode == 0
    for name in COMMANDS:
        assert re.search(rf"\b{name}\b", result.stdout)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str) -> None:
    result = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert f"Example: facegan {name}" in result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_is_a_command_that_parses(name: str) -> None:
    command = GROUP.commands[name]  # type: ignore[attr-defined]
    example = re.search(rf"Example: facegan {name} (.*)", command.help)
    assert example is not None
    command.make_context(name, shlex.split(example.group(1)))


def test_the_package_runs_as_a_module(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "facegan", "preset", "digits"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "params.yaml").read_text() == preset_text("digits")


def test_without_arguments_it_shows_its_help(tmp_path: Path) -> None:
    result = facegan(cwd=tmp_path)
    assert "Usage:" in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "about"),
    [
        (["preset", "faces"], "preset 'faces' does not exist"),
        (["preprocess", "data", "out"], "params.yaml: not found"),
        (["fetch", "absent"], "absent: no such folder or file"),
    ],
)
def test_a_mistake_ends_with_one_line_and_leaves_nothing(
    arguments: list[str], about: str, tmp_path: Path
) -> None:
    (line,) = failed(facegan(*arguments, cwd=tmp_path))
    assert line.startswith(about)
    assert not list(tmp_path.iterdir())


def test_every_wrong_parameter_has_a_line_of_its_own(tmp_path: Path) -> None:
    text = re.sub(r"(?m)^  lr: \S+", "  lr: 2e-4", preset_text("digits")).replace(
        "seed: 0", "sead: 0"
    )
    (tmp_path / "params.yaml").write_text(text)
    lines = failed(facegan("preprocess", "data", "out", cwd=tmp_path))
    assert sorted(line.split(":")[1].strip() for line in lines) == ["sead", "seed", "train.lr"]


def test_missing_photographs_lead_to_fetch(tmp_path: Path) -> None:
    write_preset("digits", tmp_path / "params.yaml", force=False)
    (line,) = failed(facegan("preprocess", "data", "artifacts/dataset", cwd=tmp_path))
    assert line == "data: no such folder; get photographs with: facegan fetch"


def test_a_device_that_is_not_there_ends_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_preset("digits", tmp_path / "params.yaml", force=False)
    monkeypatch.setenv("FACEGAN_DEVICE", "toaster")
    (line,) = failed(facegan("reference", "a", "b", "c", cwd=tmp_path))
    assert line.startswith("FACEGAN_DEVICE: 'toaster'")


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_place_that_cannot_be_written_ends_with_one_line(place: str, tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    for number in range(2):
        Image.new("L", (28, 28), 50 + number).save(tmp_path / "faces" / f"{number}.png")
    (tmp_path / "file").write_text("dear")
    write_preset("digits", tmp_path / "params.yaml", force=False)
    (line,) = failed(facegan("preprocess", "faces", place, cwd=tmp_path))
    assert "file" in line
    assert (tmp_path / "file").read_text() == "dear"


@pytest.mark.parametrize("out", ["holiday", ".", ".."])
def test_a_picture_never_takes_the_place_of_a_folder(
    out: str, generator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "one" / "two"
    (here / "holiday").mkdir(parents=True)
    (here / "holiday" / "dear.jpg").write_text("dear")
    monkeypatch.chdir(here)
    result = CliRunner().invoke(app, ["sample", str(generator), out])
    assert isinstance(result.exception, FaceganError)
    assert (here / "holiday" / "dear.jpg").read_text() == "dear"


def test_a_sample_of_no_generator_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    result = CliRunner().invoke(app, ["sample", str(tmp_path / "absent.safetensors"), str(out)])
    assert isinstance(result.exception, FaceganError)
    assert not out.exists()


def test_a_preset_becomes_params_yaml(tmp_path: Path) -> None:
    result = facegan("preset", "celeba64", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (0, "params.yaml: preset celeba64\n")
    assert (tmp_path / "params.yaml").read_text() == preset_text("celeba64")


def test_a_preset_keeps_changes_until_it_is_forced(tmp_path: Path) -> None:
    mine = preset_text("digits").replace("seed: 0", "seed: 1")
    (tmp_path / "other.yaml").write_text(mine)
    arguments = ("preset", "mnist", "--params", "other.yaml")
    (line,) = failed(facegan(*arguments, cwd=tmp_path))
    assert line == "other.yaml: has changes of its own; --force overwrites them"
    assert (tmp_path / "other.yaml").read_text() == mine
    assert facegan(*arguments, "--force", cwd=tmp_path).returncode == 0
    assert (tmp_path / "other.yaml").read_text() == preset_text("mnist")


def test_fetch_and_preprocess_make_a_data_set(tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    for number in range(3):
        Image.new("L", (40, 30), 60 * number).save(tmp_path / "faces" / f"{number}.png")
    write_preset("digits", tmp_path / "params.yaml", force=False)
    fetched = facegan("fetch", "faces", cwd=tmp_path)
    assert fetched.stdout == "data: 3 inputs from faces; what changed: dvc add data\n"
    assert facegan("preprocess", "data", "artifacts/dataset", cwd=tmp_path).returncode == 0
    report = json.loads((tmp_path / "artifacts" / "dataset" / "report.json").read_text())
    assert report["inputs"] == 3


ADDRESS = (
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
    "pt_inception-2015-12-05-6726825d.pth"
)


def test_the_help_of_fetch_names_the_weights() -> None:
    result = CliRunner().invoke(app, ["fetch", "--help"], env={"COLUMNS": "200"})
    assert "celeba, inception," in result.output


def test_a_dry_run_of_the_weights_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACEGAN_INCEPTION", "models/inception.pth")
    result = facegan("fetch", "inception", "--dry-run", cwd=tmp_path)
    expected = f"95,628,359 bytes would be downloaded from {ADDRESS} to models/inception.pth\n"
    assert (result.returncode, result.stdout) == (0, expected)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_the_weights_go_to_no_folder_of_photographs(options: list[str], tmp_path: Path) -> None:
    (line,) = failed(facegan("fetch", "inception", "--out", "faces", *options, cwd=tmp_path))
    assert line == "--out: is for photographs; FACEGAN_INCEPTION=PATH moves the weights"
    assert not list(tmp_path.iterdir())


def test_fetched_weights_are_named_and_data_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FACEGAN_INCEPTION", "inception.pth")
    monkeypatch.setattr(inception_weights, "SHA256", hashlib.sha256(b"weights").hexdigest())
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dear.jpg").write_bytes(b"dear")
    (tmp_path / "published").write_bytes(b"weights")
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, args=[0.05]).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/published"
        monkeypatch.setattr(inception_weights, "ADDRESSES", (address,))
        result = CliRunner().invoke(app, ["fetch", "inception"])
        server.shutdown()
    expected = "inception.pth: the weights that published FIDs are computed with\n"
    assert (result.exit_code, result.stdout) == (0, expected)
    assert (tmp_path / "inception.pth").read_bytes() == b"weights"
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["dear.jpg"]


def sample(generator: Path, out: Path, *options: str) -> bytes:
    result = CliRunner().invoke(app, ["sample", str(generator), str(out), *options])
    assert result.exit_code == 0, result.output
    return out.read_bytes()


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (5, 3, 2), (9, 3, 3)])
def test_a_sample_is_a_png_of_as_many_images(
    count: int, columns: int, rows: int, generator: Path, tmp_path: Path
) -> None:
    content = sample(generator, tmp_path / "faces.png", "--count", str(count))
    with Image.open(io.BytesIO(content)) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        assert image.size == (columns * 32, rows * 32)


def test_a_sample_is_64_images_unless_told_otherwise(generator: Path, tmp_path: Path) -> None:
    result = facegan("sample", generator, "faces.png", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (0, "faces.png: 64 images\n")
    with Image.open(tmp_path / "faces.png") as image:
        assert image.size == (8 * 32, 8 * 32)


def test_a_seed_names_a_picture(generator: Path, tmp_path: Path) -> None:
    out = tmp_path / "faces.png"
    pictures = [sample(generator, out, "--count", "4", "--seed", seed) for seed in "0011"]
    assert pictures[0] == pictures[1] != pictures[2] == pictures[3]


@pytest.mark.parametrize(
    ("option", "value"),
    [("--seed", "-1"), ("--seed", "x"), ("--seed", str(2**64)), ("--count", "0"), ("--count", "x")],
)
def test_a_number_that_cannot_be_is_a_usage_error(
    option: str, value: str, generator: Path, tmp_path: Path
) -> None:
    arguments = ["sample", str(generator), str(tmp_path / "out.png"), option, value]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert not (tmp_path / "out.png").exists()
