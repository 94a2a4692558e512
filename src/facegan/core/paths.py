"""Checks of paths that users give."""

from contextlib import suppress
from pathlib import Path

from facegan.core.errors import FaceganError


def require_file(path: Path, expected: str) -> None:
    """
    Args:
        expected: what the file should be, for the message.
    Raises:
        FaceganError: if `path` is a folder.
    """
    with suppress(OSError):  # reading it reports why
        if path.is_dir():
            raise FaceganError(f"{path}: is a folder; expected {expected}")


def require_folder(path: Path, expected: str) -> None:
    """
    Args:
        expected: what the folder should be, for the message.
    Raises:
        FaceganError: if `path` is a file.
    """
    with suppress(OSError):
        if path.is_file():
            raise FaceganError(f"{path}: is a file; expected {expected}")
