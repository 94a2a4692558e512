"""Outputs that are whole or absent."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what is written there, a file or a folder, takes
    `path`'s place when the block ends well, and goes when it doesn't.

    >>> with replacing(Path("metrics.json")) as temporary:
    ...     temporary.write_text("{}")
    """
    temporary, old = path.with_name(f".{path.name}.tmp"), path.with_name(f".{path.name}.old")
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove(temporary)
    try:
        yield temporary
        if temporary.is_file():
            _sync(temporary)
        _remove(old)
        if path.is_dir():  # a folder that holds something cannot be renamed over
            path.replace(old)
        temporary.replace(path)
        _sync(path.parent)
    finally:
        _remove(temporary)
        _remove(old)


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
