"""The commands `sample`, `interpolate`, `film`, `project` and `trace`."""

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from commands import COLUMNS, error_lines, facegan, invoke
from conftest import START, make_params
from disks import small_disk
from facegan.cli.main import app
from facegan.core.digests import file_sha256
from facegan.core.errors import FaceganError
from facegan.models.architectures import build_generator
from facegan.models.dcgan import initialise
from facegan.models.files import save_network
from facegan.sample import metadata, writing

CONFIG: dict[str, Any] = {
    "architecture": "dcgan",
    "size": 32,
    "channels": 3,
    "latent_dim": 6,
    "base_channels": 4,
}


# More seeds than the comment of a JPEG can name.
SCATTERED = ",".join(str(4_000_000_000 + 2 * n) for n in range(6000))


@pytest.fixture(name="small_disk")
def make_small_disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "64k") as folder:
        yield folder


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
    sha256 = file_sha256(generator)
    assert (result.returncode, result.stdout) == (0, f"faces.png: 64 images of {sha256[:12]}\n")
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
    assert np.array_equal(faces, expected)


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


@pytest.mark.parametrize("out", ["holiday", "holiday/", ".", ".."])
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


def test_pictures_say_what_drew_them(generator: Path, tmp_path: Path) -> None:
    expected = {metadata.GENERATOR: file_sha256(generator), metadata.SEEDS: "3-5,9"}
    options = ("--seeds", "3-5,9")
    for name in ("grid.png", "grid.jpg"):
        sample(generator, tmp_path / name, *options, "--truncation", "1.5")
        assert metadata.read(tmp_path / name) == expected | {metadata.TRUNCATION: "1.5"}
    assert invoke("sample", generator, "folder", *options, cwd=tmp_path).returncode == 0
    names = [f"seed{seed:010}.png" for seed in (3, 4, 5, 9)]
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == names
    assert metadata.read(tmp_path / "folder" / names[3]) == expected | {metadata.SEEDS: "9"}


def test_all_outputs_have_the_same_images(generator: Path, tmp_path: Path) -> None:
    for out in ("grid.png", "faces.zip", "again.zip", "faces.npy", "folder"):
        assert invoke("sample", generator, out, "--count", "9", cwd=tmp_path).returncode == 0
    images = np.load(tmp_path / "faces.npy")
    assert (images.dtype, images.shape) == (np.uint8, (9, 32, 32, 3))
    assert np.array_equal(cells((tmp_path / "grid.png").read_bytes()), images)
    assert (tmp_path / "faces.zip").read_bytes() == (tmp_path / "again.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "faces.zip") as archive:
        for seed, name in enumerate(archive.namelist()):
            assert archive.read(name) == (tmp_path / "folder" / name).read_bytes()
            with Image.open(io.BytesIO(archive.read(name))) as picture:
                assert np.array_equal(np.asarray(picture), images[seed])
    command = [sys.executable, "-m", "facegan", "sample", str(generator), "-", "--count", "9"]
    done = subprocess.run(command, capture_output=True, cwd=tmp_path)
    assert done.stdout == images.tobytes(), done.stderr


def test_a_grid_has_the_requested_columns_and_a_caption(generator: Path, tmp_path: Path) -> None:
    options = ("--count", "10", "--columns", "10", "--caption")
    with Image.open(io.BytesIO(sample(generator, tmp_path / "faces.png", *options))) as image:
        assert image.width == 320 and 32 < image.height < 64
        strip = np.asarray(image)[32:]
    assert strip.max() > 200  # text


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("faces.bmp",), "faces.bmp: unknown kind of output; valid: .png"),
        (("taken",), "taken: exists; name a new folder"),
        (("folder.png",), "folder.png: is a folder, expected a file"),
        (("faces.zip", "--caption"), "--caption and --columns are for a grid"),
        (("faces.npy", "--columns", "3"), "--caption and --columns are for a grid"),
        (("faces.png", "--count", "10001"), "a grid has at most 10,000 images"),
        (("faces.png", "--seeds", "1,1"), "twice"),
        (("faces.png", "--seeds", "1", "--count", "2"), "without --seed and --count"),
        (("faces.png", "--seeds", "1", "--seed", "0"), "without --seed and --count"),
        (("faces.png", "--columns", "1000000000"), "--columns 1000000000: valid: at most 10,000"),
        (("faces.jpg", "--seeds", SCATTERED), "too many seeds for a JPEG's comment; name a .png"),
        (("-",), "standard output is closed; add > faces.raw"),
        (("faces.npy", "--count", "10000001"), "10,000,001 seeds: valid: at most 10,000,000"),
        (("/proc/faces.png",), "/proc: cannot be written to"),
        (("faces.png", "--seed", "4294967295"), "seeds 4294967295 to 4294967358"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_generator_is_loaded(
    arguments: tuple[str, ...], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taken").write_text("x")
    (tmp_path / "folder.png").mkdir()
    if arguments == ("-",):
        monkeypatch.setattr(writing, "sys", SimpleNamespace(stdout=None))
    (found,) = error_lines(invoke("sample", "absent.safetensors", *arguments, cwd=tmp_path))
    assert line in found
    assert (tmp_path / "taken").read_text() == "x"


def test_a_grid_too_wide_for_a_jpeg_is_refused_after_its_first_images(
    generator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "grid", None)
    options = ("--count", "201", "--columns", "2100")
    done = invoke("sample", generator, "faces.jpg", *options, cwd=tmp_path)
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1].removeprefix("facegan: ")
    assert line.startswith("faces.jpg: a grid of 67,200 x 32 pixels; a JPEG has at most 65,500")
    assert [path.name for path in tmp_path.iterdir()] == [generator.name]


@pytest.mark.parametrize("out", ["faces.png", "faces.zip", "faces.npy", "faces", "morph.gif"])
def test_a_full_disk_is_one_line(out: str, generator: Path, small_disk: Path) -> None:
    command, *options = ("interpolate", "--size", "512") if "gif" in out else ("sample",)
    options += ["--count", "400" if command == "sample" else "2"]
    done = invoke(command, generator, out, *options, cwd=small_disk)
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1].endswith(f"{out}: No space left on device")
    assert not list(small_disk.iterdir())


@pytest.mark.parametrize("name", ["https://me:secret@example.org/g.safetensors?key=secret"])
def test_an_address_that_cannot_be_read_is_shown_without_credentials(
    name: str, tmp_path: Path
) -> None:
    (line,) = error_lines(invoke("sample", name, "faces.png", cwd=tmp_path))
    assert line.startswith("https://***@example.org/g.safetensors?***: this kind of address")


def test_a_failure_leaves_nothing(generator: Path, tmp_path: Path) -> None:
    network = build_generator(**CONFIG)
    with torch.no_grad():
        next(network.parameters()).fill_(torch.nan)
    save_network(network.state_dict(), CONFIG, generator)
    before = sorted(tmp_path.iterdir())
    for out in ("faces.png", "faces.zip", "faces.npy", "folder"):
        (line,) = error_lines(invoke("sample", generator, out, "--count", "2", cwd=tmp_path))
        assert "NaN" in line
    assert sorted(tmp_path.iterdir()) == before


def test_outside_a_project_the_generator_has_to_be_named(tmp_path: Path) -> None:
    for arguments in (("faces.png",), ("3", "faces.png")):
        (line,) = error_lines(invoke("sample", *arguments, cwd=tmp_path))
        assert line.startswith("params.yaml: not found; run in a project, or name a models:/ URI")


@pytest.mark.parametrize(
    "arguments", [("sample", "a", "b", "c"), ("film", "a", "b", "c.gif"), ("project", "a")]
)
def test_too_many_or_too_few_arguments_are_a_usage_error(arguments: tuple[str, ...]) -> None:
    result = CliRunner(env=COLUMNS).invoke(app, arguments)
    assert result.exit_code == 2
    assert "expected [" in result.output


@pytest.mark.parametrize("suffix", ["gif", "webp", "mp4"])
def test_interpolate_walks_through_the_seeds(suffix: str, generator: Path, tmp_path: Path) -> None:
    out = f"morph.{suffix}"
    options = ("--seeds", "1,5-6", "--seconds", "0.2", "--fps", "10", "--size", "64")
    done = invoke("interpolate", generator, out, *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{out}: 3 seeds of ")
    assert (tmp_path / out).stat().st_size > 0


def test_walks_have_the_same_number_of_seeds(generator: Path, tmp_path: Path) -> None:
    options = ("--seeds", "1-5", "--walks", "2")
    (line,) = error_lines(invoke("interpolate", generator, "x.gif", *options, cwd=tmp_path))
    assert line == "--seeds 1-5: valid: the same number, 2 or more, for each walk"


def test_film_shows_a_training(trained: Path, tmp_path: Path) -> None:
    history = [START]
    for n in range(3):
        name = f"samples/{n}.png"
        history.append({"event": "samples", "images_seen": n, "picture": name, "diversity": 1.0})
    (trained / "samples").mkdir(exist_ok=True)
    for n in range(3):
        Image.new("L", (32, 32), n).save(trained / f"samples/{n}.png")
    lines = "".join(json.dumps(event) + "\n" for event in history)
    (trained / "history.jsonl").write_text(lines)
    done = invoke("film", trained, "evolution.gif", cwd=tmp_path)
    assert done.stdout == "evolution.gif: 3 pictures\n", done.stderr


def test_project_finds_an_image_that_the_generator_drew(generator: Path, tmp_path: Path) -> None:
    params = make_params(preprocess={"min_side": 8}).model_dump(by_alias=True)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    sample(generator, tmp_path / "photo.png", "--count", "1", "--seed", "7777")
    options = ("--steps", "20", "--latent", "z.npy")
    done = invoke("project", generator, "photo.png", "found.png", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "it is a look-alike that this generator can draw, not the person" in done.stdout
    assert np.load(tmp_path / "z.npy").shape == (6,)
    with Image.open(tmp_path / "found.png") as image:
        assert image.size == (64, 32)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("photo.png", "x.bmp"), "x.bmp: unknown kind of picture; valid: .png"),
        (("photo.png", "x.png", "--latent", "z.txt"), "z.txt: unknown kind of file; valid: .npy"),
        (("photo.png", "folder.png"), "folder.png: is a folder, expected a file"),
        (("absent.png", "x.png"), "absent.png: not found; expected a photograph"),
        (("photo.png", "./photo.png"), "photo.png: is the photograph, which would be lost"),
        (("photo.png", "link.png"), "link.png: is the photograph, which would be lost"),
        (("photo.txt", "x.png"), "photo.txt: not-an-image; expected a photograph"),
        (("small.png", "x.png"), "small.png: 4x4 pixels; preprocess.min_side is 8"),
    ],
)
def test_a_photograph_that_cannot_be_projected_is_one_line(
    arguments: tuple[str, ...], line: str, generator: Path, tmp_path: Path
) -> None:
    params = make_params(preprocess={"min_side": 8}).model_dump(by_alias=True)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "photo.txt").write_text("no photograph")
    Image.new("RGB", (4, 4)).save(tmp_path / "small.png")
    Image.new("RGB", (40, 40)).save(tmp_path / "photo.png")
    (tmp_path / "link.png").hardlink_to(tmp_path / "photo.png")
    lines = error_lines(invoke("project", generator, *arguments, cwd=tmp_path))
    assert lines[-1].startswith(line)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "not found"),
        (b"", "not a PNG or JPEG"),
        (b"GIF89a", "not a PNG or JPEG"),
        ("plain", "names no generator; either facegan did not write it, or its text was removed"),
        ("cut", "cannot be read"),
        ("huge", "20000x20000 pixels, too many to read"),
        ("nested", "names no generator"),
    ],
)
def test_a_picture_without_a_trace_is_one_line(
    content: bytes | str | None, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "face.png"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        Image.effect_noise((64, 64), 100).save(path)
        if content == "cut":
            path.write_bytes(path.read_bytes()[:500])
        elif content == "huge":
            Image.new("1", (20_000, 20_000)).save(path)
        elif content == "nested":
            Image.new("L", (9, 9)).save(path, "JPEG", comment=b"[" * 60_000)
    (line,) = error_lines(invoke("trace", "face.png", cwd=tmp_path))
    assert line.startswith("face.png: ") and reason in line


def test_a_large_picture_is_read_without_a_warning(tmp_path: Path) -> None:
    Image.new("1", (10_000, 10_000)).save(tmp_path / "face.png")
    (line,) = error_lines(facegan("trace", "face.png", cwd=tmp_path))
    assert line.startswith("face.png: names no generator")


def test_what_a_picture_says_is_shown_on_one_line(tmp_path: Path) -> None:
    said = {metadata.GENERATOR: "ab", metadata.SEEDS: "1\n\x1b[2Jfacegan: all is well"}
    Image.new("L", (9, 9)).save(tmp_path / "face.png", pnginfo=metadata.png_info(said))
    assert metadata.read(tmp_path / "face.png")[metadata.SEEDS].isprintable()
