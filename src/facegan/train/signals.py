"""SIGINT, SIGTERM and SIGHUP as a request to stop at the next step."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Yield a list that SIGINT, SIGTERM or SIGHUP, as of a closed terminal, is appended to.

    Under `nohup`, SIGHUP stays ignored.

    A second signal raises KeyboardInterrupt at once, without waiting for a checkpoint; files are
    written atomically, so the last checkpoint stays.
    """
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield received  # only the main thread can handle signals
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    handlers = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
