"""File systems that tests cannot mount."""

import errno
import fcntl
import os

import pytest


def without_locks(monkeypatch: pytest.MonkeyPatch, number: int = errno.ENOSYS) -> None:
    """Let flock(2) fail as it does on file systems without locks, such as Lustre by default."""

    def fail(file: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
