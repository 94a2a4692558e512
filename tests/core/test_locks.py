import errno
import fcntl
import os
from pathlib import Path

import pytest

from facegan.core import locks
from facegan.core.atomic import replacing
from facegan.core.locks import flock
from filesystems import without_locks


def test_one_process_at_a_time_has_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("w") as first, path.open("w") as second:
        assert flock(first.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(BlockingIOError):
            flock(second.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert flock(first.fileno(), fcntl.LOCK_UN)
        assert flock(second.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("number", sorted(locks.UNSUPPORTED))
def test_a_file_system_without_locks_is_told_apart_from_a_held_lock(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_locks(monkeypatch, number)
    assert not flock(0, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_other_errors_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    without_locks(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        flock(0, fcntl.LOCK_EX)


def test_outputs_are_written_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_locks(monkeypatch)
    with replacing(tmp_path / "out") as temporary:
        temporary.write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
