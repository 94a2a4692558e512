"""Locks of files, which the kernel releases when their process ends, however it ends."""

import errno
import fcntl

# Of Lustre without `-o flock`, NFS without a lock daemon, and file systems in user space.
UNSUPPORTED = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL}


def flock(file: int, operation: int) -> bool:
    """Lock an open file, as flock(2) does.

    Args:
        file: its descriptor.
        operation: such as `fcntl.LOCK_EX | fcntl.LOCK_NB`.
    Returns:
        False if it is not locked, because its file system has no locks.
    Raises:
        BlockingIOError: with LOCK_NB, if another process has the lock.
    """
    try:
        fcntl.flock(file, operation)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        return False
    return True
