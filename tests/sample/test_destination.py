"""Every command that draws checks the name of its output before it loads a generator."""

import os
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


@pytest.mark.parametrize(
    ("command", "out"),
    [
        *(("sample", out) for out in ("out.png", "out.jpg", "out.zip", "out.npy")),
        *((command, "out.gif") for command in ("interpolate", "film", "project")),
        ("project", "out.png"),
    ],
)
def test_a_pipe_or_a_device_is_not_replaced(command: str, out: str, tmp_path: Path) -> None:
    expected = f"{out}: is not a regular file; name another one"
    path = tmp_path / out
    os.mkfifo(path)
    assert refusal(command, out, tmp_path) == expected
    assert path.is_fifo()
    path.unlink()
    path.symlink_to("/dev/null")
    assert refusal(command, out, tmp_path) == expected
    assert path.is_symlink()


def test_latents_replace_no_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "z.npy")
    arguments = ("absent.safetensors", "absent.png", "out.png", "--latent", "z.npy")
    (line,) = error_lines(invoke("project", *arguments, cwd=tmp_path))
    assert line == "z.npy: is not a regular file; name another one"


def test_links_to_files_or_nowhere_are_accepted(tmp_path: Path) -> None:
    """A write replaces the link."""
    (tmp_path / "face.png").touch()
    for target in ("face.png", "absent.png"):
        (tmp_path / "link.png").unlink(missing_ok=True)
        (tmp_path / "link.png").symlink_to(target)
        assert refusal("sample", "link.png", tmp_path).startswith("absent.safetensors: not found")
