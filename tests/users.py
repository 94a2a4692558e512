"""Permissions as users have them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

NOBODY = 65534


@contextmanager
def unprivileged() -> Iterator[Path]:
    """Drop root's rights, which tests in a container have, and yield a folder of one's own.

    Not below `tmp_path`, because only root can enter that.
    """
    with TemporaryDirectory() as name:
        if os.getuid() != 0:
            yield Path(name)
            return
        os.chown(name, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, 0)
        try:
            yield Path(name)
        finally:
            os.setresuid(0, 0, 0)
