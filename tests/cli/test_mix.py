"""The command `mix`."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from commands import COLUMNS, error_lines, invoke
from facegan.cli.main import app
from facegan.core.digests import file_sha256
from facegan.models.files import save_network
from facegan.sample import metadata
from networks import CONFIG, STYLED, small_generator, styled_generator

SEEDS = ("--coarse", "1-2", "--fine", "7,2,9")


@pytest.fixture
def generator(tmp_path: Path) -> Path:
    path = tmp_path / "generator.safetensors"
    save_network(styled_generator().state_dict(), STYLED, path)
    return path


def test_mix_writes_a_table_of_both_seeds(generator: Path, tmp_path: Path) -> None:
    done = invoke("mix", generator, "mix.png", *SEEDS, cwd=tmp_path)
    title = file_sha256(generator)[:12]
    expected = f"mix.png: 2 x 3 mixtures of {title}, coarse styles below 16 pixels\n"
    assert (done.returncode, done.stdout) == (0, expected), done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [generator.name, "mix.png"]
    with Image.open(tmp_path / "mix.png") as picture:
        assert (picture.format, picture.size) == ("PNG", (4 * 32, 3 * 32))
        table = np.asarray(picture)
    options = ("--seeds", "1-2,7,9")
    assert invoke("sample", generator, "own.npy", *options, cwd=tmp_path).returncode == 0
    first, second, seventh, ninth = np.load(tmp_path / "own.npy")
    assert np.array_equal(table[32:, :32], np.concatenate([first, second]))
    assert np.array_equal(table[:32, 32:], np.concatenate([seventh, second, ninth], axis=1))
    assert np.array_equal(table[64:, 64:96], second)  # mixed with itself


def test_the_picture_says_what_drew_it(generator: Path, tmp_path: Path) -> None:
    options = (*SEEDS, "--below", "8", "--truncation", "1.5")
    for out in ("mix.png", "mix.jpg"):
        assert invoke("mix", tmp_path, out, *options, cwd=tmp_path).returncode == 0
        assert metadata.read(tmp_path / out) == {
            metadata.GENERATOR: file_sha256(generator),
            metadata.COARSE: "1-2",
            metadata.FINE: "7,2,9",
            metadata.BELOW: "8",
            metadata.TRUNCATION: "1.5",
        }


def test_a_table_has_a_caption_on_request(generator: Path, tmp_path: Path) -> None:
    done = invoke("mix", generator, "mix.png", *SEEDS, "--caption", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "mix.png") as picture:
        assert picture.height > 3 * 32
        assert np.asarray(picture)[3 * 32 :].max() > 200  # text


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("mix.gif", *SEEDS), "mix.gif: unknown kind of picture; valid: .png, .jpg, .jpeg"),
        (("mix", *SEEDS), "mix: unknown kind of picture; valid: .png, .jpg, .jpeg"),
        (("-", *SEEDS), "-: unknown kind of picture; valid: .png, .jpg, .jpeg"),
        ((".png", *SEEDS), ".png: is only a suffix; name a file, such as faces.png"),
        (("folder.png", *SEEDS), "folder.png: is a folder, expected a file"),
        (("pipe.png", *SEEDS), "pipe.png: is not a regular file; name another one"),
        (("/proc/mix.png", *SEEDS), "/proc: cannot be written to"),
        (("mix.png", "--coarse", "x", "--fine", "1"), "--coarse x: 'x'; valid: seeds and ranges"),
        (("mix.png", "--coarse", "1", "--fine", "3-1"), "--fine 3-1: '3-1'; valid: rising ranges"),
        (("mix.png", "--coarse", "1,1", "--fine", "1"), "--coarse 1,1: a seed is there twice"),
        (("mix.png", "--coarse", "0-99", "--fine", "0-98"), "mix.png: a table of 101 x 100 images"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_the_generator_is_loaded(
    arguments: tuple[str, ...], line: str, tmp_path: Path
) -> None:
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (found,) = error_lines(invoke("mix", "absent.safetensors", *arguments, cwd=tmp_path))
    assert found.startswith(line)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.png", "pipe.png"]


def test_what_the_generator_cannot_do_is_one_line_and_no_file(
    generator: Path, tmp_path: Path
) -> None:
    def refused(*options: str) -> str:
        (line,) = error_lines(invoke("mix", generator, "mix.png", *SEEDS, *options, cwd=tmp_path))
        assert [path.name for path in tmp_path.iterdir()] == [generator.name]
        return line

    assert refused("--below", "5") == "--below 5: valid: 4, 8, 16, 32, 64"
    network = styled_generator()
    with torch.no_grad():
        network.constant.fill_(torch.nan)
    save_network(network.state_dict(), STYLED, generator)
    assert refused().startswith("generator output contains NaN")
    save_network(small_generator().state_dict(), CONFIG, generator)
    title = file_sha256(generator)[:12]
    assert refused() == (
        "mix needs a generator with a style for each layer (train.architecture: modulated-resnet "
        f"or stylegan2); {title} is dcgan; facegan interpolate morphs between seeds of any"
    )


def test_seeds_of_both_kinds_are_required(tmp_path: Path) -> None:
    for missing in ("--coarse", "--fine"):
        given = {"--coarse": "1", "--fine": "2"} | {missing: None}
        options = [text for option, value in given.items() if value for text in (option, value)]
        result = CliRunner(env=COLUMNS).invoke(app, ["mix", "a", "mix.png", *options])
        assert result.exit_code == 2 and missing in result.output
