"""Atomic writes: an output is complete or absent."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from facegan.core.errors import FaceganError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, for a file or a folder.

    What is written there replaces `path` if the block succeeds, and is removed if it raises.

    >>> with replacing(Path("metrics.json")) as temporary:
    ...     temporary.write_text("{}")

    Raises:
        FaceganError: if the parent cannot be created, or a file would replace a folder or a
            folder a file.
        FileNotFoundError: if the block wrote nothing.
    """
    path = path.resolve()  # keeps a symlink and replaces its target
    temporary, old = path.with_name(f".{path.name}.tmp"), path.with_name(f".{path.name}.old")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FaceganError(f"{path.parent}: cannot be created ({error.strerror})") from None
    _remove(temporary)
    try:
        with naming(path):
            yield temporary
        if temporary.is_file():
            _sync(temporary)
        if path.exists() and temporary.exists() and temporary.is_dir() != path.is_dir():
            kind = "folder" if path.is_dir() else "file"
            raise FaceganError(f"{path}: is a {kind}; move it away first")
        temporary.stat()  # raises if nothing was written, before `path` is touched
        _remove(old)
        if path.is_dir():  # a rename cannot replace a non-empty folder
            path.replace(old)
        temporary.replace(path)
        _sync(path.parent)
    finally:
        _remove(temporary)
        _remove(old)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add `path` to an OSError that names none, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def refuse_foreign(folder: Path, marker: str) -> None:
    """Refuse to replace a folder that this stage did not write.

    Args:
        marker: name of a file that is in every output folder of this stage.
    Raises:
        FaceganError: if `folder` is not empty and has no `marker`.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / marker).is_file():
        raise FaceganError(f"{folder}: was not written by this stage; move it away first")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
