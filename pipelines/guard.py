"""Run a command for no longer than its parent lives: `python guard.py COMMAND...`.

The parent holds the other end of standard input. Once that is closed, by the parent or by its end,
SIGKILL included, the command and its children get SIGTERM, and after GRACE seconds SIGKILL.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

GRACE = 12  # seconds for writing a checkpoint


def terminate(group: int) -> None:
    """End a process group, and wait until all its processes have ended."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        while time.monotonic() < deadline:
            time.sleep(0.1)
            os.killpg(group, 0)
        os.killpg(group, signal.SIGKILL)


def main() -> None:
    """Run the command in its own session. The exit status is the command's."""
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)
    parent_gone = threading.Event()

    def watch() -> None:
        sys.stdin.buffer.read()
        parent_gone.set()
        terminate(child.pid)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    status = child.wait()
    if parent_gone.is_set():
        watcher.join()
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    os._exit(status if status >= 0 else 128 - status)  # the watcher still reads


if __name__ == "__main__":
    main()
