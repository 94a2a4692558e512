"""Checks of output paths before the work, which may take hours."""

import os
import re
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from facegan.core import atomic
from facegan.core.errors import FaceganError

# Bytes of an existing file that are searched for its marker.
HEAD = 2**16
# Mount points are the fifth of its fields; spaces and the like are escaped in octal.
MOUNTS, ESCAPED = "/proc/self/mountinfo", re.compile(rb"\\([0-7]{3})")


def check_output_folder(path: Path, marker: str, inputs: Iterable[Path] = ()) -> None:
    """Check that a stage can replace the folder `path` after its work.

    Args:
        marker: name of a file that is in every output folder of this stage.
        inputs: files and folders that the output must neither contain nor lie in.
    Raises:
        FaceganError: if `path` is a file, overlaps an input, cannot be written, or is a folder
            that is not empty and was not written by this stage.
    """
    _refuse_overlap(path, "folder", inputs)
    if path.exists() and not path.is_dir():
        raise FaceganError(f"{path}: is a file, expected a folder; move it away first")
    _require_writable(path)
    if path.is_dir() and any(path.iterdir()) and not (path / marker).is_file():
        raise _foreign(path)


def check_output_file(path: Path, marker: str, inputs: Iterable[Path] = ()) -> None:
    """Check that a stage can replace the file `path` after its work.

    Args:
        marker: text at the beginning of every file that this stage writes.
        inputs: files and folders that the output must neither equal nor lie in.
    Raises:
        FaceganError: if `path` is no regular file, overlaps an input, cannot be written, or is a
            file that is not empty and was not written by this stage.
    """
    _refuse_overlap(path, "file", inputs)
    check_file(path)
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(HEAD)
        if head and marker.encode() not in head:
            raise _foreign(path)


def check_file(path: Path) -> None:
    """Check that the file `path` can be replaced, whoever wrote it.

    Raises:
        FaceganError: if it is no regular file, or cannot be written.
    """
    if path.is_dir():
        raise FaceganError(f"{path}: is a folder, expected a file; move it away first")
    if path.exists() and not path.is_file():  # a pipe or a device, which a rename would replace
        raise FaceganError(f"{path}: is not a regular file; name another one")
    _require_writable(path)


def check_parent_folder(path: Path) -> None:
    """Check that files can be created in the folder `path`, which may not exist yet.

    Raises:
        FaceganError: if they cannot.
    """
    _require_writable(path / "file")


def refuse_mount(path: Path) -> None:
    """
    Raises:
        FaceganError: if a file system or a volume is mounted at `path`, which no rename replaces.
    """
    mounts = set[str]()
    with suppress(OSError):  # Linux's; it has mounts of the same file system, too
        fields = [line.split(b" ")[4] for line in Path(MOUNTS).read_bytes().splitlines()]
        mounts = {os.fsdecode(ESCAPED.sub(lambda m: bytes([int(m[1], 8)]), f)) for f in fields}
    here = path.absolute().parent.resolve() / path.name
    if not path.is_symlink() and (str(here) in mounts or path.is_mount()):
        raise FaceganError(
            f"{path}: something is mounted there, so it cannot be replaced; mount the folder above "
            "it, or name one inside it"
        )


def _refuse_overlap(path: Path, kind: str, inputs: Iterable[Path]) -> None:
    # The name itself is not resolved, because a link is replaced and its target kept.
    target = path.absolute().parent.resolve() / path.name
    for item in inputs:
        origin = item.resolve()
        if origin == target or origin in target.parents or target in origin.parents:
            raise FaceganError(f"{item}: overlaps the output {kind} {path}")


def _require_writable(path: Path) -> None:
    refuse_mount(path)
    parent = path.absolute().parent
    while not parent.exists():
        parent = parent.parent
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise FaceganError(f"{parent}: cannot be written to ({error.strerror})") from None
    if path.is_dir() and not path.is_symlink():
        for folder, _, _ in os.walk(path, onerror=_raise):
            # Its files have to be deleted. Files may be read-only: DVC protects them.
            if not atomic.is_accessible(folder, os.R_OK | os.W_OK | os.X_OK):
                raise FaceganError(f"{folder}: is read-only; make it writable or move it away")


def _raise(error: OSError) -> None:
    raise FaceganError(f"{error.filename}: cannot be read ({error.strerror})") from None


def _foreign(path: Path) -> FaceganError:
    return FaceganError(f"{path}: was not written by this stage; move it away first")
