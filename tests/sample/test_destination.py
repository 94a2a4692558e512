"""Every command that draws checks the name of its output before it loads a generator."""

from pathlib import Path

import pytest

from commands import error_lines, invoke

COMMANDS = {
    "sample": ("absent.safetensors",),
    "interpolate": ("absent.safetensors",),
    "film": ("absent",),
    "project": ("absent.safetensors", "absent.png"),
}


def refusal(command: str, out: str, folder: Path) -> str:
    """The one line with which `command` refuses `out`."""
    before = sorted(folder.iterdir())
    (line,) = error_lines(invoke(command, *COMMANDS[command], out, cwd=folder))
    assert sorted(folder.iterdir()) == before
    return line


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", [".png", ".JPG", ".gif", ".mp4", ".zip", ".npy"])
def test_a_suffix_is_no_name_of_a_file(command: str, name: str, tmp_path: Path) -> None:
    expected = f"{name}: is only a suffix; name a file, such as faces{name}"
    assert refusal(command, name, tmp_path) == expected
    expected = f"below/{name}: is only a suffix; name a file, such as faces{name}"
    assert refusal(command, f"below/{name}", tmp_path) == expected


def test_latents_need_a_name_before_the_suffix(tmp_path: Path) -> None:
    arguments = ("absent.safetensors", "absent.png", "out.png", "--latent", ".npy")
    (line,) = error_lines(invoke("project", *arguments, cwd=tmp_path))
    assert line == ".npy: is only a suffix; name a file, such as faces.npy"


@pytest.mark.parametrize("name", [".faces", "..png", "faces.v2.png"])
def test_other_names_with_dots_are_accepted(name: str, tmp_path: Path) -> None:
    arguments = ("absent.safetensors", name)
    (line,) = error_lines(invoke("sample", *arguments, cwd=tmp_path))
    assert line.startswith("absent.safetensors: not found")
