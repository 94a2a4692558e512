import shlex
from pathlib import Path

import pytest
from mlflow import MlflowClient
from PIL import Image

from commands import error_lines, invoke
from facegan.sample import metadata
from networks import STYLED
from registrations import NAME, Trainer

Two = tuple[MlflowClient, Trainer]


@pytest.mark.parametrize("arguments", [(), ("1",), (f"models:/{NAME}/Production",)])
def test_a_picture_leads_back_to_its_version(
    arguments: tuple[str, ...], two: Two, tmp_path: Path
) -> None:
    done = invoke("sample", *arguments, "faces.png", "--count", "3", cwd=tmp_path)
    assert done.stdout == f"faces.png: 3 images of {NAME} version 1\n", done.stderr
    text = metadata.read(tmp_path / "faces.png")
    assert (text[metadata.MODEL], text[metadata.VERSION]) == (NAME, "1")
    assert text[metadata.SCORE].endswith(" 50")
    lines = invoke("trace", "faces.png", cwd=tmp_path).stdout.splitlines()
    assert f"version: {NAME} version 1, Production, @champion" in lines
    assert any(line.startswith("run: ") for line in lines)
    assert lines[-1] == f"to draw it again: facegan sample models:/{NAME}/1 again.png --seeds 0-2"


def test_the_command_that_trace_shows_draws_the_same_picture(two: Two, tmp_path: Path) -> None:
    options = ("--seeds", "5,9", "--truncation", "0.123456789")
    assert invoke("sample", "2", "faces.png", *options, cwd=tmp_path).returncode == 0
    command = invoke("trace", "faces.png", cwd=tmp_path).stdout.splitlines()[-1]
    arguments = command.partition("facegan ")[2].split()
    assert invoke(*arguments, cwd=tmp_path).returncode == 0
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "faces.png").read_bytes()


def test_a_picture_from_a_file_is_found_by_its_generator(two: Two, tmp_path: Path) -> None:
    assert invoke("sample", "train-2", "faces.png", "--count", "1", cwd=tmp_path).returncode == 0
    lines = invoke("trace", "faces.png", cwd=tmp_path).stdout.splitlines()
    assert f"version: {NAME} version 2, Staging, @challenger" in lines


def test_a_generator_that_no_version_has_is_one_line(two: Two, tmp_path: Path) -> None:
    two[1].train(3, fid=1.0)
    assert invoke("sample", "train-3", "faces.png", cwd=tmp_path).returncode == 0
    (line,) = error_lines(invoke("trace", "faces.png", cwd=tmp_path))
    assert line.startswith(f"{NAME}: no version has the generator ")
    assert line.endswith("set MLFLOW_TRACKING_URI to the registry that the picture was drawn from")


def test_a_caption_names_model_fid_and_protocol(two: Two, tmp_path: Path) -> None:
    import torch

    from facegan.core.events import silent
    from facegan.sample.opening import open_generator

    opened = open_generator(f"models:/{NAME}@champion", torch.device("cpu"), silent)
    assert opened.caption.startswith(f"{NAME} version 1, fid40_")
    assert opened.caption.endswith(f" 50, protocol {opened.protocol}") and opened.protocol


@pytest.mark.parametrize(
    "edited",
    [
        {metadata.SEEDS: "1; touch evil #"},
        {metadata.SEEDS: "$(touch evil)"},
        {metadata.SEEDS: ""},
        {metadata.TRUNCATION: "1 && touch evil"},
    ],
)
def test_what_others_wrote_into_a_picture_is_no_command(
    edited: dict[str, str], two: Two, tmp_path: Path
) -> None:
    assert invoke("sample", "faces.png", "--count", "2", cwd=tmp_path).returncode == 0
    text = metadata.read(tmp_path / "faces.png") | edited
    with Image.open(tmp_path / "faces.png") as picture:
        picture.save(tmp_path / "edited.png", pnginfo=metadata.png_info(text))
    lines = invoke("trace", "edited.png", cwd=tmp_path).stdout.splitlines()
    assert f"version: {NAME} version 1, Production, @champion" in lines
    assert not any(line.startswith("to draw it") for line in lines)


def test_the_command_names_a_model_with_spaces(two: Two, tmp_path: Path) -> None:
    client, _ = two
    name = "faces of 'Anna'"
    registered = client.get_model_version(NAME, "1")
    client.create_registered_model(name)
    client.create_model_version(name, str(registered.source), tags=registered.tags)
    assert invoke("sample", "1", "faces.png", "--count", "2", cwd=tmp_path).returncode == 0
    text = metadata.read(tmp_path / "faces.png") | {metadata.MODEL: name}
    with Image.open(tmp_path / "faces.png") as picture:
        picture.save(tmp_path / "renamed.png", pnginfo=metadata.png_info(text))
    command = invoke("trace", "renamed.png", cwd=tmp_path).stdout.splitlines()[-1]
    arguments = shlex.split(command.partition(": ")[2])
    assert arguments[:3] == ["facegan", "sample", f"models:/{name}/1"]


def test_a_picture_between_two_seeds_has_no_command_that_draws_it(two: Two, tmp_path: Path) -> None:
    assert invoke("sample", "faces.png", "--count", "2", cwd=tmp_path).returncode == 0
    text = metadata.read(tmp_path / "faces.png") | {metadata.SHARE: "0.5"}
    with Image.open(tmp_path / "faces.png") as picture:
        picture.save(tmp_path / "between.png", pnginfo=metadata.png_info(text))
    lines = invoke("trace", "between.png", cwd=tmp_path).stdout.splitlines()
    assert "share: 0.5" in lines and not any(line.startswith("to draw it") for line in lines)


MIX = ("--coarse", "1,5", "--fine", "8-10", "--below", "8", "--truncation", "1.25")


def test_the_command_that_trace_shows_draws_the_same_mixtures(two: Two, tmp_path: Path) -> None:
    two[1](3, fid=70.0, config=STYLED | {"channels": 1})  # as the others
    done = invoke("mix", "3", "mix.png", *MIX, cwd=tmp_path)
    assert done.stdout.startswith(f"mix.png: 2 x 3 mixtures of {NAME} version 3"), done.stderr
    command = invoke("trace", "mix.png", cwd=tmp_path).stdout.splitlines()[-1]
    expected = f"facegan mix models:/{NAME}/3 again.png {' '.join(MIX)}"
    assert command == f"to draw it again: {expected}"
    assert invoke(*shlex.split(expected)[1:], cwd=tmp_path).returncode == 0
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "mix.png").read_bytes()


@pytest.mark.parametrize(
    ("edited", "command"),
    [
        ({}, "--coarse 1,5 --fine 8 --below 8"),
        ({metadata.COARSE: " 1, 5 "}, "--coarse ' 1, 5 ' --fine 8 --below 8"),
        ({metadata.SEEDS: "$(touch evil)"}, "--coarse 1,5 --fine 8 --below 8"),
        ({metadata.COARSE: "$(touch evil)"}, None),
        ({metadata.FINE: "1; touch evil #"}, None),
        ({metadata.FINE: None}, None),
        ({metadata.BELOW: "8 && touch evil"}, None),
        ({metadata.BELOW: None}, None),
        ({metadata.TRUNCATION: "`touch evil`"}, None),
        ({metadata.COARSE: None}, None),
        ({metadata.SHARE: "0.5"}, None),
    ],
)
def test_what_others_wrote_into_a_table_of_mixtures_is_no_command(
    edited: dict[str, str | None], command: str | None, two: Two, tmp_path: Path
) -> None:
    assert invoke("sample", "1", "faces.png", "--count", "1", cwd=tmp_path).returncode == 0
    text: dict[str, str | None] = dict(metadata.read(tmp_path / "faces.png"))
    text |= {metadata.SEEDS: None, metadata.COARSE: "1,5", metadata.FINE: "8", metadata.BELOW: "8"}
    info = metadata.png_info({key: value for key, value in (text | edited).items() if value})
    with Image.open(tmp_path / "faces.png") as picture:
        picture.save(tmp_path / "edited.png", pnginfo=info)
    lines = invoke("trace", "edited.png", cwd=tmp_path).stdout.splitlines()
    assert f"version: {NAME} version 1, Production, @champion" in lines
    found = [line for line in lines if line.startswith("to draw it again: ")]
    start = f"to draw it again: facegan mix models:/{NAME}/1 again.png "
    assert found == ([] if command is None else [start + command])
