"""The application: its help, and how errors end a command."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from commands import error_lines, facegan, invoke
from facegan.cli.main import app
from facegan.core.errors import FaceganError
from facegan.models.files import save_network
from facegan.params import preset_text, write_preset
from networks import CONFIG, small_generator

GROUP = typer.main.get_command(app)
COMMANDS = {
    **GROUP.commands,  # type: ignore[attr-defined]
    **{
        f"models {name}": command
        for name, command in GROUP.commands["models"].commands.items()  # type: ignore[attr-defined]
    },
}


MAIN = "from facegan.cli.main import main; main()"


def test_the_help_names_every_command(tmp_path: Path) -> None:
    result = facegan("--help", cwd=tmp_path)
    assert result.returncode == 0
    for name in GROUP.commands:  # type: ignore[attr-defined]
        assert re.search(rf"\b{name}\b", result.stdout)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str) -> None:
    result = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert f"Example: facegan {name}" in result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_can_be_parsed(name: str) -> None:
    command = COMMANDS[name]
    example = re.search(rf"Example: facegan {name} ?(.*)", command.help)
    assert example is not None
    command.make_context(name, shlex.split(example.group(1)))


def test_the_package_runs_as_a_module(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "facegan", "preset", "digits"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "params.yaml").read_text() == preset_text("digits")


def test_without_arguments_it_shows_its_help(tmp_path: Path) -> None:
    result = invoke(cwd=tmp_path)
    assert "Usage:" in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["preset", "faces"], "preset 'faces' does not exist"),
        (["preprocess", "data", "out"], "params.yaml: not found"),
        (["fetch", "absent"], "absent: no such folder or file"),
    ],
)
def test_a_user_error_ends_with_one_line_and_writes_nothing(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    (line,) = error_lines(invoke(*arguments, cwd=tmp_path))
    assert line.startswith(message)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("arguments", "value"), [(["--debug"], None), ([], "1"), ([], "true")])
def test_debug_shows_the_traceback_behind_the_line(
    arguments: list[str], value: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FACEGAN_DEBUG", raising=False)
    if value is not None:
        monkeypatch.setenv("FACEGAN_DEBUG", value)
    (tmp_path / "params.yaml").write_text("seed: [")
    result = invoke(*arguments, "preprocess", "data", "out", cwd=tmp_path)
    assert result.returncode == 1
    assert "yaml.parser.ParserError" in result.stderr  # the cause, which the line suppresses
    assert "in load_params" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("facegan: params.yaml: invalid YAML")


def test_the_traceback_of_a_store_that_is_away_has_no_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9/?token=tell-no-one")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    (tmp_path / "params.yaml").write_text(preset_text("digits"))
    result = facegan("--debug", "models", cwd=tmp_path)
    assert result.returncode == 75 and "Traceback" in result.stderr
    assert "tell-no-one" not in result.stderr


def test_a_full_standard_output_is_named(tmp_path: Path) -> None:
    save_network(small_generator().state_dict(), CONFIG, tmp_path / "generator.safetensors")
    code = f"import sys; sys.argv = ['facegan', 'sample', 'generator.safetensors', '-']; {MAIN}"
    command = [sys.executable, "-c", code]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "facegan: standard output: No space left on device"


def test_a_disk_without_space_ends_with_one_line_that_names_the_path(tmp_path: Path) -> None:
    save_network(small_generator().state_dict(), CONFIG, tmp_path / "generator.safetensors")
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));"
        "from facegan.cli.main import main; sys.argv[0] = 'facegan'; main()"
    )
    command = [sys.executable, "-c", code, "sample", "generator.safetensors", "out.png"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if not line.startswith("sample: ")]
    assert lines == [f"facegan: {tmp_path / 'out.png'}: File too large"]
    assert [path.name for path in tmp_path.iterdir()] == ["generator.safetensors"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["preprocess", "ADDRESS", "out"],
        ["trace", "ADDRESS"],
        ["film", "ADDRESS", "out.gif"],
        ["train", "ADDRESS", "quick.safetensors", "out"],
        ["sample", "ADDRESS", "out.png"],
        ["sample", "out.png", "--params", "ADDRESS"],
        ["preprocess", "data", "out", "--params", "ADDRESS"],
    ],
)
def test_an_address_in_place_of_a_path_is_shown_without_credentials(
    arguments: list[str], tmp_path: Path
) -> None:
    write_preset("digits", tmp_path / "params.yaml", force=False)
    address = "https://me:secret@example.org/faces?token=secret"
    given = [address if name == "ADDRESS" else name for name in arguments]
    (line,) = error_lines(invoke(*given, cwd=tmp_path))
    assert "secret" not in line
    assert line.replace("//", "/").startswith("https:/***@example.org/faces?***")


def test_an_address_without_credentials_is_shown_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = "http://127.0.0.1:5000: no answer; try models:/faces@champion, me@example.org?"
    monkeypatch.setattr("facegan.cli.main.app", Mock(side_effect=FaceganError(line)))
    assert error_lines(invoke("preset", "digits", cwd=tmp_path)) == [line]


def test_an_interrupt_that_a_library_turned_into_an_error_ends_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load() -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise ImportError("initialization failed")  # noqa: B904

    monkeypatch.setattr("facegan.cli.main.app", lambda **_: load())
    result = invoke("preset", "digits", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (130, "")
    monkeypatch.setattr("facegan.cli.main.app", Mock(side_effect=ImportError("a bug")))
    with pytest.raises(ImportError):
        invoke("preset", "digits", cwd=tmp_path)


def test_an_interrupt_that_a_library_dropped_ends_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load() -> None:
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        raise RecursionError("of a module that was half imported")

    monkeypatch.setattr("facegan.cli.main.app", lambda **_: load())
    result = invoke("preset", "digits", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (130, "")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("filename", [None, "out.png"])
def test_an_error_without_a_number_keeps_its_text(
    filename: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = OSError("encoder error -2 when writing image file")  # as Pillow's
    error.filename = filename
    monkeypatch.setattr("facegan.cli.main.app", Mock(side_effect=error))
    (line,) = error_lines(invoke("preset", "digits", cwd=tmp_path))
    path = f"{filename}: " if filename else ""
    assert line == f"{path}encoder error -2 when writing image file"


def test_every_invalid_parameter_has_its_own_line(tmp_path: Path) -> None:
    text = re.sub(r"(?m)^  lr: \S+", "  lr: 2e-4", preset_text("digits")).replace(
        "seed: 0", "sead: 0"
    )
    (tmp_path / "params.yaml").write_text(text)
    lines = error_lines(invoke("preprocess", "data", "out", cwd=tmp_path))
    assert sorted(line.split(":")[1].strip() for line in lines) == ["sead", "seed", "train.lr"]


def test_an_unavailable_device_ends_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_preset("digits", tmp_path / "params.yaml", force=False)
    monkeypatch.setenv("FACEGAN_DEVICE", "toaster")
    (line,) = error_lines(invoke("reference", "a", "b", "c", cwd=tmp_path))
    assert line.startswith("FACEGAN_DEVICE: 'toaster'")


@pytest.mark.parametrize("path", ["file", "file/below"])
def test_a_path_that_cannot_be_written_ends_with_one_line(path: str, tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    for number in range(2):
        Image.new("L", (28, 28), 50 + number).save(tmp_path / "faces" / f"{number}.png")
    (tmp_path / "file").write_text("precious")
    write_preset("digits", tmp_path / "params.yaml", force=False)
    (line,) = error_lines(invoke("preprocess", "faces", path, cwd=tmp_path))
    assert "file" in line
    assert (tmp_path / "file").read_text() == "precious"
