"""Atomic writes: an output is complete or absent, and no write goes through a link."""

import ctypes
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from facegan.core.errors import FaceganError
from facegan.core.locks import flock

# Of Linux's renameat2(2): paths relative to the working directory; swap both paths.
AT_FDCWD, RENAME_EXCHANGE = -100, 2
# Seconds to wait for another process that writes the same output.
PATIENCE = 10.0


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, for a file or a folder.

    What is written there replaces `path` if the block succeeds, and is removed if it raises. A link
    is replaced by what was written; its target is unchanged. A kill at any time leaves the old or
    the new content at `path`, or the old one in `.NAME.old`, from where the next call restores it.
    Meanwhile `.NAME.lock` is locked; a second process waits for up to 10 s.

    >>> with replacing(Path("metrics.json")) as temporary:
    ...     temporary.write_text("{}")

    Raises:
        FaceganError: if the parent cannot be created, another process is writing `path`, or a
            file would replace a folder or a folder a file.
        FileNotFoundError: if the block wrote nothing.
    """
    path = path.absolute()  # not resolved: a link into DVC's cache has to be replaced
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FaceganError(f"{path.parent}: cannot be created ({error.strerror})") from None
    with _locked(path), _replacing(path) as temporary:
        yield temporary


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    temporary, old = path.with_name(f".{path.name}.tmp"), path.with_name(f".{path.name}.old")
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
def _locked(path: Path) -> Iterator[None]:
    """Let one process at a time write `path`. A process that dies releases the lock."""
    lock = path.with_name(f".{path.name}.lock")
    end = time.monotonic() + PATIENCE
    while (descriptor := _try_lock(lock, path)) is None:
        if time.monotonic() > end:
            raise FaceganError(f"{path}: another process is writing it; wait for it or stop it")
        time.sleep(0.05)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)  # before the next one can lock it
        os.close(descriptor)


def _try_lock(lock: Path, path: Path) -> int | None:
    """A descriptor of the locked file, or None if another process has it."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        error.filename = str(path)
        raise
    try:
        if not flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB):
            return descriptor
        # The last owner may have removed the file that was opened.
        if lock.stat().st_ino == os.fstat(descriptor).st_ino:
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add `path` to an error of the system that names none, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
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
