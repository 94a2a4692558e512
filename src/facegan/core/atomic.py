"""Outputs that are whole or absent."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from facegan.core.errors import FaceganError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what is written there, a file or a folder, takes
    `path`'s place when the block ends well, and goes when it doesn't.

    >>> with replacing(Path("metrics.json")) as temporary:
    ...     temporary.write_text("{}")
    """
    path = path.resolve()  # a link stays, and what it points to is replaced
    temporary, old = path.with_name(f".{path.name}.tmp"), path.with_name(f".{path.name}.old")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FaceganError(f"{path.parent}: cannot be made ({error.strerror})") from None
    _remove(temporary)
    try:
        yield temporary
        if temporary.is_file():
            _sync(temporary)
        if path.exists() and temporary.exists() and temporary.is_dir() != path.is_dir():
            kind = "folder" if path.is_dir() else "file"
            raise FaceganError(f"{path}: is a {kind}; move it away first")
        temporary.stat()  # before `path` is touched
        _remove(old)
        if path.is_dir():  # a folder that holds something cannot be renamed over
            path.replace(old)
        temporary.replace(path)
        _sync(path.parent)
    finally:
        _remove(temporary)
        _remove(old)


def refuse_foreign(folder: Path, mark: str) -> None:
    """Keep a step from replacing a folder that it did not write.

    Args:
        mark: a file that every folder of this step's has.
    Raises:
        FaceganError: if `folder` holds something, and no `mark`.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / mark).is_file():
        raise FaceganError(f"{folder}: holds something else; move it away first")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
