"""Atomic writes: an output is complete or absent, and no write goes through a link."""

import ctypes
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from facegan.core.errors import FaceganError

# Of Linux's renameat2(2): paths relative to the working directory; swap both paths.
AT_FDCWD, RENAME_EXCHANGE = -100, 2


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, for a file or a folder.

    What is written there replaces `path` if the block succeeds, and is removed if it raises. A link
    is replaced by what was written; its target is unchanged. A kill at any time leaves the old or
    the new content at `path`, or the old one in `.NAME.old`, from where the next call restores it.

    >>> with replacing(Path("metrics.json")) as temporary:
    ...     temporary.write_text("{}")

    Raises:
        FaceganError: if the parent cannot be created, or a file would replace a folder or a
            folder a file.
        FileNotFoundError: if the block wrote nothing.
    """
    path = path.absolute()  # not resolved: a link into DVC's cache has to be replaced
    temporary, old = path.with_name(f".{path.name}.tmp"), path.with_name(f".{path.name}.old")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FaceganError(f"{path.parent}: cannot be created ({error.strerror})") from None
    _restore(old, path)
    _remove(temporary)
    try:
        with naming(path):
            yield temporary
        temporary.stat()  # raises if nothing was written, before `path` is touched
        if path.exists() and temporary.is_dir() != path.is_dir():
            kind = "folder" if path.is_dir() else "file"
            raise FaceganError(f"{path}: is a {kind}; move it away first")
        _sync_content(temporary)
        _swap(temporary, path, old)
        _sync(path.parent)
    finally:
        _restore(old, path)
        _remove(temporary)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add `path` to an OSError that names none, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def unlink_shared(path: Path) -> None:
    """Give `path` a file of its own if it is a link, symbolic or hard, or read-only.

    For files that are then written in place: DVC links files into its cache, where others use them.
    """
    if path.is_file() and (  # a device has no content to copy
        path.is_symlink() or path.stat().st_nlink > 1 or not is_accessible(path, os.W_OK)
    ):
        with replacing(path) as temporary:
            shutil.copyfile(path, temporary)


def is_accessible(path: Path | str, mode: int) -> bool:
    """os.access for the user that this process acts as."""
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def _swap(temporary: Path, path: Path, old: Path) -> None:
    if not (temporary.is_dir() and os.path.lexists(path)):
        temporary.replace(path)
    elif not _exchange(temporary, path):  # a rename cannot replace a folder that is not empty
        path.replace(old)
        temporary.replace(path)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two paths in one step; False if the system or the file system cannot."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    names = os.fsencode(first), os.fsencode(second)
    return (
        renameat2 is not None
        and renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE) == 0
    )


def _restore(old: Path, path: Path) -> None:
    """Undo the first of two renames if there was no second one; else remove what was replaced."""
    if not os.path.lexists(old):
        return
    if os.path.lexists(path):
        _remove(old)
    else:
        old.replace(path)


def _sync_content(path: Path) -> None:
    """Flush a file, or all files of a folder, to disk."""
    syncfs = getattr(ctypes.CDLL(None), "syncfs", None)
    if path.is_file():
        _sync(path)
    elif syncfs is None:
        os.sync()
    else:  # one call, because fsync takes milliseconds for each file
        descriptor = os.open(path, os.O_RDONLY)
        try:
            syncfs(descriptor)
        finally:
            os.close(descriptor)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
