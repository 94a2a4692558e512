"""Disks that are mounted for a test."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Create `folder` as a file system of `size`, such as 64k, in memory."""
    folder.mkdir()
    with _mounted("-t", "tmpfs", "-o", f"size={size}", "facegan-test", str(folder)):
        yield folder


@contextmanager
def bind_mount(path: Path) -> Iterator[None]:
    """Mount a folder or a file at its own path."""
    with _mounted("--bind", str(path), str(path)):
        yield


@contextmanager
def _mounted(*arguments: str) -> Iterator[None]:
    command = ["mount", *arguments]
    if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", arguments[-1]], check=True)
